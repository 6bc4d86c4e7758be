"""Traces of a real server process, as a collector of OpenTelemetry's gets them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from modal_whisper import __version__
from tests import processes
from tests.emulators.assemblyai import AssemblyAIEmulator, script_for
from tests.end_to_end.clips import PASSWORD, silence, words
from tests.end_to_end.speaker import PATIENCE
from tests.end_to_end.stage import GOOD_KEY, PATIENT
from tests.wyoming_server.backends.servers import serving
from tests.wyoming_server.serving import connected, wish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from tests.processes import Process

ENVIRONMENT = {name: str(value) for name, value in PATIENT.items()} | {
    "BACKENDS": "whisper,assemblyai",
    "LOCAL_ENABLED": "false",
}
ERROR = 2
SECOND = 1_000_000_000
COMMAND = PASSWORD.pcm[:32_000]
SAID = "password valid"


class Collector:
    """Takes OTLP over HTTP, in the format of its own protocol's classes."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.seen = b""

    async def post(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        self.seen += body
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    @property
    def spans(self) -> dict[str, Span]:
        return {
            span.name: span
            for request in self.requests
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        }

    @property
    def resource(self) -> dict[str, str]:
        return strings(self.requests[0].resource_spans[0].resource.attributes)


def strings(attributes: list[KeyValue]) -> dict[str, str]:
    return {item.key: item.value.string_value for item in attributes if item.value.string_value}


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.post)
    async with serving(app) as port:
        yield collector, f"http://127.0.0.1:{port}"


def server_of(
    assemblyai: AssemblyAIEmulator, worker: int, **settings: str
) -> AbstractContextManager[Process]:
    """A server whose worker, asked first, is not there."""
    return processes.server(
        **ENVIRONMENT,
        WHISPER_SERVICE_URL=f"ws://127.0.0.1:{worker}",
        ASSEMBLYAI_API_KEY=GOOD_KEY,
        ASSEMBLYAI_STREAMING_URL=assemblyai.url,
        **settings,
    )


async def say(server: Process, pcm: bytes) -> str:
    async with asyncio.timeout(PATIENCE), connected(server) as client:
        await client.send(wish(language="en"))
        await client.say(pcm, chunk=3200)
        return await client.text()


async def test_an_utterance_reaches_a_collector_as_spans(refusing_port: int) -> None:
    before = time.time()
    async with (
        AssemblyAIEmulator({GOOD_KEY}, script=script_for(COMMAND, SAID)) as assemblyai,
        collecting() as (collector, url),
        processes.on_thread(
            server_of(
                assemblyai,
                refusing_port,
                OTEL_EXPORTER_OTLP_ENDPOINT=url,
                OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20hush",
            )
        ) as server,
    ):
        assert await say(server, COMMAND) == SAID
        assert await asyncio.to_thread(server.stop) == 0  # what is not sent yet is sent now

    assert f"traces are sent to {url}" in server.log
    assert (collector.resource["service.name"], collector.resource["service.version"]) == (
        "stt-failover",
        __version__,
    )
    spans = collector.spans
    assert set(spans) == {"utterance", "attempt whisper", "attempt assemblyai"}
    utterance, failed, won = spans["utterance"], spans["attempt whisper"], spans["attempt assemblyai"]
    assert {span.trace_id for span in spans.values()} == {utterance.trace_id}
    assert [span.parent_span_id for span in (utterance, failed, won)] == [b"", *[utterance.span_id] * 2]
    assert before * SECOND <= utterance.start_time_unix_nano <= failed.start_time_unix_nano
    assert failed.end_time_unix_nano <= won.end_time_unix_nano <= time.time() * SECOND
    assert won.end_time_unix_nano <= utterance.end_time_unix_nano
    assert strings(failed.attributes)["error.type"] == failed.status.message == "unreachable"
    assert (failed.status.code, won.status.code) == (ERROR, 0)
    assert strings(won.attributes) == {
        "stt.backend": "assemblyai",
        "stt.outcome": "won",
        "stt.reason": "failed",
    }
    steps = [event.name for event in won.events]
    assert (steps[0], steps[-1]) == ("connected", "final")
    assert not [word for word in ("valid", "password", GOOD_KEY, "hush") if word.encode() in collector.seen]
    assert not {"valid", "password", "hush"} & set(words(server.log))


async def test_a_collector_that_is_down_costs_one_line_and_no_answer(refusing_port: int) -> None:
    async with AssemblyAIEmulator({GOOD_KEY}) as assemblyai:
        server_process = server_of(
            assemblyai,
            refusing_port,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{refusing_port}",
            OTEL_EXPORTER_OTLP_TIMEOUT="0.2",
            OTEL_BSP_SCHEDULE_DELAY="10",
        )
        async with processes.on_thread(server_process) as server:
            for _ in range(2):
                assert await say(server, silence(0.5)) == ""
                await asyncio.to_thread(server.wait_logged, "no traces arrive")
            assert await asyncio.to_thread(server.stop) == 0

    complaints = [line for line in server.log.splitlines() if "traces" in line or "export" in line.lower()]
    assert len(complaints) == 2, server.log  # where they are sent, and that they do not arrive
    assert "Traceback" not in server.log
