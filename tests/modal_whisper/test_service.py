from __future__ import annotations

import asyncio
import base64
import logging
import socket
import struct
import threading
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from modal_whisper import __version__
from modal_whisper.conversation import Limits
from modal_whisper.errors import ModelUnavailableError, TranscriptionError
from modal_whisper.messages import (
    MAX_MESSAGE_BYTES,
    Failure,
    Final,
    Partial,
    Ready,
    Start,
    Stop,
    decode_worker,
    encode,
)
from modal_whisper.runner import ModelRunner
from modal_whisper.service import create_app
from modal_whisper.speech import BYTES_PER_SECOND
from tests.end_to_end.clips import MUTED, WEASELS, silence
from tests.fakes import PATIENCE, ScriptedTranscriber, happened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from modal_whisper.messages import ClientMessage, WorkerMessage

READY = Ready("scripted", __version__)
KEY = "the-key-of-this-worker"
NO_MODEL = "no model here: fetch one"


class Client:
    """One open WebSocket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def tell(self, message: ClientMessage) -> None:
        await self.ws.send_str(encode(message))

    async def say(self, pcm: bytes, piece: int = 3200) -> None:
        for at in range(0, len(pcm), piece):
            await self.ws.send_bytes(pcm[at : at + piece])

    async def utterance(self, pcm: bytes, start: Start | None = None) -> None:
        await self.tell(start or Start())
        await self.say(pcm)
        await self.tell(Stop())

    async def next(self) -> WorkerMessage:
        async with asyncio.timeout(PATIENCE):
            return decode_worker(await self.ws.receive_str())

    async def answers(self) -> list[WorkerMessage]:
        """Everything up to the next final or error."""
        messages = [await self.next()]
        while not isinstance(messages[-1], Final | Failure):
            messages.append(await self.next())
        return messages

    async def error(self) -> tuple[str, str]:
        *_, failure = await self.answers()
        assert isinstance(failure, Failure), failure
        return failure.code, failure.message

    async def close_code(self) -> int | None:
        """The code of the close that comes next, with nothing before it."""
        async with asyncio.timeout(PATIENCE):
            message = await self.ws.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
        return self.ws.close_code

    async def is_usable(self) -> bool:
        """Whether the next utterance is answered, with nothing left over from before."""
        await self.utterance(silence(0.5))
        return await self.answers() == [READY, Final("", None, 500)]


class Worker:
    """A service on a port of its own."""

    def __init__(self, transcriber: ScriptedTranscriber, stack: AsyncExitStack, **options: Any) -> None:
        self.transcriber = transcriber
        self.runner = ModelRunner(transcriber, max_waiting=options.pop("max_waiting", 16))
        self.site = web.AppRunner(
            create_app(self.runner, **options), shutdown_timeout=PATIENCE, access_log=None
        )
        self._stack = stack
        self._http = aiohttp.ClientSession()

    async def start(self) -> None:
        await self.site.setup()
        self._stack.push_async_callback(self.stop)
        await web.TCPSite(self.site, "127.0.0.1", 0).start()
        self._stack.push_async_callback(self._http.close)

    async def stop(self) -> None:
        await self.site.cleanup()

    @property
    def port(self) -> int:
        port = self.site.addresses[0][1]
        assert isinstance(port, int)
        return port

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def dial(self, headers: dict[str, str] | None = None, **options: Any) -> Client:
        async with asyncio.timeout(PATIENCE):
            ws = await self._http.ws_connect(f"{self.address}/ws/stt", headers=headers, **options)
        self._stack.push_async_callback(ws.close)
        return Client(ws)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        async with self._http.get(self.address + path, headers=headers) as response:
            return response.status, await response.json()


class Workers:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def __call__(self, *script: Any, loading: Any = (), **options: Any) -> Worker:
        worker = Worker(ScriptedTranscriber(*script, loading=loading), self._stack, **options)
        await worker.start()
        return worker


@pytest.fixture
async def work() -> AsyncIterator[Workers]:
    """Starts workers whose model does what a script says; stopped with the test."""
    async with AsyncExitStack() as stack:
        yield Workers(stack)


@pytest.fixture
def go_on() -> threading.Event:
    return threading.Event()


# The life of an utterance


async def test_an_utterance_gets_ready_partials_and_one_final(work: Workers) -> None:
    worker = await work("The conference is now muted.")
    client = await worker.dial()
    await client.tell(Start("en-US", ("Anna",), ("conference",)))
    await client.say(MUTED.pcm + silence(0.4))
    assert await client.next() == READY
    assert await client.next() == Partial("The conference is now muted.")
    await client.tell(Stop())
    (final,) = await client.answers()
    assert isinstance(final, Final)
    assert (final.text, final.language, final.audio_ms) == ("The conference is now muted.", "en", 2261)
    assert final.model == "scripted"
    (asked,) = worker.transcriber.asked
    assert asked.pcm.startswith(MUTED.pcm)
    passage = asked.passage
    assert (passage.language, passage.names, passage.terms) == ("en", ("Anna",), ("conference",))


async def test_ready_comes_before_any_audio_and_before_the_model_is_loaded(
    work: Workers, go_on: threading.Event
) -> None:
    client = await (await work("Hi", loading=[go_on])).dial()
    await client.tell(Start())
    assert await client.next() == READY
    await client.say(MUTED.pcm)
    await client.tell(Stop())
    go_on.set()
    (final,) = await client.answers()
    assert isinstance(final, Final)
    assert final.text == "Hi"


async def test_a_connection_serves_one_utterance_after_another(work: Workers) -> None:
    worker = await work("Hi")
    client = await worker.dial()
    for pcm in (MUTED.pcm, WEASELS.pcm):
        await client.utterance(pcm)
        assert [type(message) for message in await client.answers()] == [Ready, Final]
    assert [asked.pcm for asked in worker.transcriber.asked] == [MUTED.pcm, WEASELS.pcm]


async def test_a_long_pause_between_start_and_audio_loses_nothing(work: Workers) -> None:
    worker = await work("Hi")
    client = await worker.dial()
    await client.tell(Start())
    assert await client.next() == READY
    await client.ws.send_bytes(b"")
    await client.say(MUTED.pcm, 7)
    await client.tell(Stop())
    await client.answers()
    assert worker.transcriber.asked[0].pcm == MUTED.pcm


async def test_odd_byte_counts_are_put_together_again(work: Workers) -> None:
    worker = await work("Hi")
    client = await worker.dial()
    await client.tell(Start())
    await client.say(MUTED.pcm + b"\1", 333)
    await client.tell(Stop())
    *_, final = await client.answers()
    assert isinstance(final, Final)
    assert worker.transcriber.asked[0].pcm == MUTED.pcm + b"\1"


async def test_silence_gets_an_empty_final_without_the_model(work: Workers) -> None:
    worker = await work("Thank you for watching.")
    client = await worker.dial()
    await client.utterance(silence(2.0), Start("de"))
    assert await client.answers() == [READY, Final("", "de", 2000)]
    assert worker.transcriber.asked == []


async def test_no_audio_at_all_gets_an_empty_final(work: Workers) -> None:
    client = await (await work()).dial()
    await client.utterance(b"")
    assert await client.answers() == [READY, Final("")]
    assert await client.is_usable()


async def test_clients_are_served_side_by_side(work: Workers, go_on: threading.Event) -> None:
    worker = await work(go_on, "Hi")
    one, other = await worker.dial(), await worker.dial()
    await one.utterance(MUTED.pcm)
    await worker.transcriber.wait_asked()
    assert await other.is_usable()
    go_on.set()
    assert [type(message) for message in await one.answers()] == [Ready, Final]


# Mistakes of clients


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hello", "a text message must be one JSON object"),
        ('{"type": "begin"}', "unknown message type; expected one of: start, stop"),
        ('{"type": "start", "names": 5}', "names of start must be a list of strings"),
        ('{"type": "start", "language": "xx"}', "unknown language 'xx': give a code such as en, de or zh"),
        ('{"type": "stop"}', "stop came before start"),
    ],
)
async def test_a_bad_message_is_one_error_and_the_connection_stays_usable(
    work: Workers, text: str, complaint: str
) -> None:
    client = await (await work()).dial()
    await client.ws.send_str(text)
    await client.say(silence(0.1))
    await client.tell(Stop())
    (failure,) = await client.answers()
    assert isinstance(failure, Failure)
    assert failure.code == "bad-message"
    assert failure.message.startswith(complaint)
    assert await client.is_usable()


async def test_audio_before_any_start_is_one_error(work: Workers) -> None:
    client = await (await work()).dial()
    await client.say(silence(0.5))
    await client.tell(Stop())
    assert await client.error() == ("bad-message", "audio came before start")
    assert await client.is_usable()


async def test_every_bad_message_is_told(work: Workers) -> None:
    client = await (await work()).dial()
    for _ in range(3):
        await client.ws.send_str("{}")
        assert (await client.error())[0] == "bad-message"
    assert await client.is_usable()


async def test_a_bad_message_ends_the_utterance_with_the_only_answer_to_it(work: Workers) -> None:
    worker = await work("Hi")
    client = await worker.dial()
    await client.tell(Start())
    await client.say(MUTED.pcm)
    await client.ws.send_str("{")
    await client.tell(Stop())
    assert await client.next() == READY
    assert await client.error() == ("bad-message", "a text message must be one JSON object")
    assert await client.is_usable()
    assert worker.transcriber.asked == []


async def test_a_start_before_the_final_ends_the_utterance_and_begins_none(
    work: Workers, go_on: threading.Event
) -> None:
    worker = await work(go_on, "Hi")
    client = await worker.dial()
    await client.utterance(MUTED.pcm)
    asked = await worker.transcriber.wait_asked()
    await client.utterance(MUTED.pcm)
    assert await client.next() == READY
    assert await client.error() == (
        "bad-message",
        "start came before the final of the utterance before it",
    )
    assert asked.cancelled.is_set()
    go_on.set()
    assert await client.is_usable()
    assert len(worker.transcriber.asked) == 1


async def test_what_comes_after_the_stop_is_ignored(work: Workers, go_on: threading.Event) -> None:
    worker = await work(go_on, "Hi", limits=Limits(max_utterance=2.0))
    client = await worker.dial()
    await client.utterance(MUTED.pcm)
    await worker.transcriber.wait_asked()
    await client.say(silence(3.0))
    await client.tell(Stop())
    await client.tell(Stop())
    await client.ws.ping()
    go_on.set()
    assert [type(message) for message in await client.answers()] == [Ready, Final]
    await client.say(silence(3.0))
    await client.tell(Stop())
    assert await client.is_usable()
    assert worker.transcriber.asked[0].pcm == MUTED.pcm


# Limits


async def test_a_message_of_the_largest_size_is_taken(work: Workers) -> None:
    client = await (await work()).dial()
    await client.tell(Start())
    await client.ws.send_bytes(bytes(MAX_MESSAGE_BYTES))
    await client.tell(Stop())
    assert await client.answers() == [READY, Final("", None, MAX_MESSAGE_BYTES * 1000 // BYTES_PER_SECOND)]


@pytest.mark.parametrize("kind", ["text", "binary"])
async def test_a_larger_message_ends_the_connection(work: Workers, kind: str) -> None:
    worker = await work()
    client = await worker.dial()
    with suppress(ConnectionError):  # the worker need not take it all
        if kind == "text":
            await client.ws.send_str(" " * (MAX_MESSAGE_BYTES + 1))
        else:
            await client.ws.send_bytes(bytes(MAX_MESSAGE_BYTES + 1))
    assert await client.close_code() == 1009
    assert await (await worker.dial()).is_usable()


async def test_text_that_is_not_utf_8_ends_the_connection(work: Workers) -> None:
    client = await (await work()).dial()
    await client.ws.send_frame(b"\xff", aiohttp.WSMsgType.TEXT)
    assert await client.close_code() == 1007


async def test_an_utterance_over_the_limit_is_too_long(work: Workers) -> None:
    worker = await work("Hi", limits=Limits(max_utterance=1.5))
    client = await worker.dial()
    await client.tell(Start())
    assert await client.next() == READY
    await client.say(MUTED.pcm)
    assert await client.error() == ("too-long", "the utterance is longer than 1.5 s")
    await client.say(MUTED.pcm)
    await client.tell(Stop())
    assert await client.is_usable()
    assert worker.transcriber.asked == []


async def test_an_utterance_as_long_as_the_limit_is_answered(work: Workers) -> None:
    client = await (await work("Hi", limits=Limits(max_utterance=1.0))).dial()
    await client.utterance(silence(1.0))
    assert await client.answers() == [READY, Final("", None, 1000)]
    await client.utterance(silence(1.0))
    assert await client.answers() == [READY, Final("", None, 1000)]


async def test_more_connections_than_the_limit_are_refused(work: Workers) -> None:
    worker = await work(limits=Limits(max_connections=3))
    dialled = await asyncio.gather(*(worker.dial() for _ in range(40)), return_exceptions=True)
    open_ones = [client for client in dialled if isinstance(client, Client)]
    refused = [error for error in dialled if isinstance(error, aiohttp.WSServerHandshakeError)]
    assert (len(open_ones), len(refused)) == (3, 37)
    assert {error.status for error in refused} == {503}
    status, body = await worker.get("/ws/stt")
    assert (status, body) == (503, {"error": "too many clients are connected; try again later"})
    assert (await worker.get("/health"))[0] == 200
    await open_ones[0].ws.close()
    assert await (await worker.dial()).is_usable()


async def test_more_utterances_than_the_model_can_answer_are_refused(
    work: Workers, go_on: threading.Event
) -> None:
    worker = await work(go_on, "Hi", max_waiting=0)
    one, other = await worker.dial(), await worker.dial()
    await one.utterance(MUTED.pcm)
    await worker.transcriber.wait_asked()
    await other.utterance(MUTED.pcm)
    assert await other.error() == ("overloaded", "the worker is busy: 1 passages wait for the model")
    go_on.set()
    assert isinstance((await one.answers())[-1], Final)


async def test_warm_loads_the_model_and_answers_when_that_is_done(
    work: Workers, go_on: threading.Event
) -> None:
    worker = await work(loading=[go_on])
    warming = asyncio.create_task(worker.get("/warm"))
    await worker.transcriber.wait_loading()
    assert (await worker.get("/health"))[1]["status"] == "loading"
    assert not warming.done()
    go_on.set()
    status, body = await warming
    assert (status, body["status"]) == (200, "ready")
    assert worker.transcriber.loads == 1


async def test_warm_says_why_the_model_cannot_be_loaded(work: Workers) -> None:
    worker = await work(loading=[ModelUnavailableError(NO_MODEL)])
    status, body = await worker.get("/warm")
    assert (status, body["status"], body["error"]) == (503, "failed", NO_MODEL)


async def test_warm_is_for_those_with_the_key(work: Workers) -> None:
    worker = await work(api_key=KEY)
    assert (await worker.get("/warm"))[0] == 401
    assert (await worker.get("/warm", {"Authorization": f"Bearer {KEY}"}))[0] == 200


async def test_a_client_that_sends_nothing_is_sent_away(work: Workers) -> None:
    client = await (await work(limits=Limits(idle_timeout=0.1))).dial()
    async with asyncio.timeout(PATIENCE):
        message = await client.ws.receive()
    assert (message.type, message.data, message.extra) == (
        aiohttp.WSMsgType.CLOSE,
        1008,
        "idle for too long",
    )


async def test_one_that_falls_silent_within_an_utterance_is_sent_away(work: Workers) -> None:
    client = await (await work(limits=Limits(idle_timeout=0.2))).dial()
    await client.tell(Start())
    await client.say(MUTED.pcm)
    assert await client.next() == READY
    assert await client.close_code() == 1008


async def test_pongs_do_not_keep_an_idle_client_connected(
    work: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modal_whisper.service._PING_SECONDS", 0.05)
    client = await (await work(limits=Limits(idle_timeout=0.3))).dial()
    assert await client.close_code() == 1008


async def test_one_that_waits_for_its_answer_is_not_idle(work: Workers, go_on: threading.Event) -> None:
    worker = await work(go_on, "Hi", limits=Limits(idle_timeout=0.5))
    client = await worker.dial()
    await client.utterance(MUTED.pcm)
    await worker.transcriber.wait_asked()
    assert await client.next() == READY
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.ws.receive(), 1.1)
    go_on.set()
    assert isinstance((await client.answers())[-1], Final)
    assert await client.close_code() == 1008


# Clients that vanish, and a worker that does


async def test_work_stops_when_the_client_leaves_in_mid_utterance(work: Workers) -> None:
    worker = await work("Hi", limits=Limits(max_connections=1))
    client = await worker.dial()
    await client.tell(Start())
    await client.say(MUTED.pcm)
    assert await client.next() == READY
    await client.ws.close()
    assert await (await dial_when_free(worker)).is_usable()
    assert worker.transcriber.asked == []


@pytest.mark.parametrize("way", ["closes", "breaks off"])
async def test_work_stops_when_the_client_leaves_while_the_model_works(
    work: Workers, go_on: threading.Event, way: str
) -> None:
    worker = await work(go_on, "Hi")
    client = await worker.dial()
    await client.utterance(MUTED.pcm)
    asked = await worker.transcriber.wait_asked()
    if way == "closes":
        await client.ws.close()
    else:
        client.ws.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    await happened(asked.cancelled)
    go_on.set()


async def test_an_utterance_of_a_client_that_left_is_not_begun(work: Workers, go_on: threading.Event) -> None:
    worker = await work(go_on, "Hi", limits=Limits(max_connections=2))
    one, other = await worker.dial(), await worker.dial()
    await one.utterance(MUTED.pcm)
    await worker.transcriber.wait_asked()
    await other.utterance(WEASELS.pcm)
    await until(lambda: worker.runner._open_jobs)
    await other.ws.close()
    await dial_when_free(worker)
    go_on.set()
    assert isinstance((await one.answers())[-1], Final)
    assert [asked.pcm for asked in worker.transcriber.asked] == [MUTED.pcm]


async def test_a_worker_that_ends_tells_its_clients_and_stops_their_work(
    work: Workers, go_on: threading.Event
) -> None:
    worker = await work(go_on, "Hi")
    idle, waiting, speaking = await worker.dial(), await worker.dial(), await worker.dial()
    await waiting.utterance(MUTED.pcm)
    await speaking.tell(Start())
    await speaking.say(MUTED.pcm)
    assert [await waiting.next(), await speaking.next()] == [READY, READY]
    asked = await worker.transcriber.wait_asked()
    stopping = asyncio.create_task(worker.stop())
    assert [await client.close_code() for client in (idle, waiting, speaking)] == [1001] * 3
    async with asyncio.timeout(PATIENCE):
        await stopping
    assert asked.cancelled.is_set()
    with pytest.raises(ModelUnavailableError, match="shut down"):
        await worker.runner.wait_ready()
    go_on.set()


class SilentReader:
    """A client that talks but never reads, not even a close; its methods block."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(("127.0.0.1", port))
        key = base64.b64encode(bytes(16)).decode()
        self._socket.sendall(
            f"GET /ws/stt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def send(self, data: str | bytes, times: int = 1) -> None:
        payload = data.encode() if isinstance(data, str) else data
        opcode = 0x1 if isinstance(data, str) else 0x2
        head = struct.pack("!BBH4s", 0x80 | opcode, 0x80 | 126, len(payload), bytes(4))
        self._socket.sendall((head + payload) * times)

    def send_utterance(self) -> None:
        self.send(encode(Start()))
        self.send(MUTED.pcm)
        self.send(encode(Stop()))

    def talk_until_dropped(self) -> None:
        """Send what must be answered again and again, until there is nobody to send it to."""
        with suppress(ConnectionError):
            while True:
                self.send("{}", times=1000)

    def close(self) -> None:
        self._socket.close()


def open_connections(worker: Worker) -> int:
    assert worker.site.server is not None
    return len(worker.site.server.connections)


async def test_a_client_that_does_not_read_the_errors_is_dropped(
    work: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modal_whisper.conversation._SEND_SECONDS", 0.1)
    worker = await work()
    reader = await asyncio.to_thread(SilentReader, worker.port)
    await asyncio.to_thread(reader.talk_until_dropped)
    await until(lambda: open_connections(worker) == 0)
    assert await (await worker.dial()).is_usable()
    assert caplog.records == []
    reader.close()


LONG_WINDED = ["x" * 1_000_000] * 8
"""More than fits into the buffers of any connection."""


async def test_a_client_that_does_not_read_the_answers_is_dropped(
    work: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modal_whisper.conversation._SEND_SECONDS", 0.1)
    monkeypatch.setattr("modal_whisper.conversation.CLOSE_SECONDS", 0.1)
    monkeypatch.setattr("modal_whisper.service.CLOSE_SECONDS", 0.1)
    worker = await work(*LONG_WINDED)
    reader = await asyncio.to_thread(SilentReader, worker.port)
    await asyncio.to_thread(reader.send_utterance)
    await worker.transcriber.wait_asked()
    await until(lambda: open_connections(worker) == 0)
    assert caplog.records == []
    reader.close()


@pytest.mark.parametrize(("close", "send"), [(0.1, PATIENCE), (PATIENCE, 0.2)])
async def test_a_client_that_does_not_read_cannot_keep_the_worker_from_ending(
    work: Workers, monkeypatch: pytest.MonkeyPatch, close: float, send: float
) -> None:
    monkeypatch.setattr("modal_whisper.conversation.CLOSE_SECONDS", close)
    monkeypatch.setattr("modal_whisper.service.CLOSE_SECONDS", close)
    monkeypatch.setattr("modal_whisper.conversation._SEND_SECONDS", send)
    worker = await work(*LONG_WINDED)
    reader = await asyncio.to_thread(SilentReader, worker.port)
    await asyncio.to_thread(reader.send_utterance)
    await worker.transcriber.wait_asked()
    assert worker.site.server is not None
    (connection,) = worker.site.server.connections
    transport = connection.transport
    assert isinstance(transport, asyncio.Transport)
    await until(transport.get_write_buffer_size)
    async with asyncio.timeout(PATIENCE / 2):
        await worker.stop()
    with pytest.raises(ModelUnavailableError, match="shut down"):
        await worker.runner.wait_ready()
    reader.close()


async def until(is_true: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_true():  # noqa: ASYNC110 - the worker tells nobody
            await asyncio.sleep(0.005)


async def dial_when_free(worker: Worker) -> Client:
    """Connect once somebody else is gone, with all that was done for them."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await worker.dial()
            except aiohttp.WSServerHandshakeError as error:
                assert error.status == 503  # noqa: PT017 - any other is a failure


# The model


async def test_a_model_that_cannot_be_loaded_is_told_to_the_client_and_by_health(work: Workers) -> None:
    worker = await work(loading=[ModelUnavailableError(NO_MODEL)])
    client = await worker.dial()
    await client.utterance(MUTED.pcm)
    assert await client.error() == ("model-unavailable", NO_MODEL)
    assert await worker.get("/health") == (
        503,
        {"status": "failed", "model": "scripted", "version": __version__, "error": NO_MODEL},
    )
    assert await client.is_usable()


async def test_health_tells_whether_the_model_is_loaded(work: Workers, go_on: threading.Event) -> None:
    worker = await work(loading=[go_on])
    await worker.transcriber.wait_loading()
    body = {"status": "loading", "model": "scripted", "version": __version__}
    assert await worker.get("/health") == (200, body)
    go_on.set()
    await worker.runner.wait_ready()
    assert await worker.get("/health") == (200, body | {"status": "ready"})


async def test_a_model_that_fails_is_an_internal_error_and_the_next_utterance_is_answered(
    work: Workers,
) -> None:
    worker = await work(TranscriptionError("the Whisper model failed: out of memory"))
    client = await worker.dial()
    await client.utterance(MUTED.pcm)
    assert await client.error() == ("internal", "the Whisper model failed: out of memory")
    worker.transcriber.script = ("Hi",)
    await client.utterance(MUTED.pcm)
    assert isinstance((await client.answers())[-1], Final)


async def test_a_fault_of_the_worker_is_answered_and_logged(
    work: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError

    worker = await work("Hi", limits=Limits(max_utterance=2.0))
    client = await worker.dial()
    with monkeypatch.context() as broken:
        broken.setattr("modal_whisper.session.SpeechDetector.feed", break_down)
        await client.tell(Start())
        await client.say(MUTED.pcm)
        assert await client.error() == ("internal", "the worker failed; its log says why")
    await client.say(MUTED.pcm)
    await client.tell(Stop())
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]
    assert await client.is_usable()


# Who may come in


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        KEY,
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        "Bearer \xff",
    ],
)
async def test_without_the_key_nobody_comes_in(work: Workers, header: str | None) -> None:
    worker = await work(api_key=KEY)
    headers = {} if header is None else {"Authorization": header}
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await worker.dial(headers)
    assert error.value.status == 401
    assert error.value.headers is not None
    assert error.value.headers["WWW-Authenticate"] == "Bearer"
    status, body = await worker.get("/ws/stt", headers)
    assert (status, body) == (401, {"error": "the key is missing or wrong: send it as a bearer token"})


async def test_a_key_that_is_no_text_is_a_wrong_key(work: Workers) -> None:
    worker = await work(api_key=KEY)
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(b"GET /ws/stt HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\n\r\n")
    assert b" 401 " in await reader.readline()
    writer.close()


async def test_with_the_key_one_comes_in(work: Workers) -> None:
    worker = await work(api_key=KEY)
    assert await (await worker.dial({"Authorization": f"Bearer {KEY}"})).is_usable()


async def test_a_worker_without_key_takes_any(work: Workers) -> None:
    worker = await work()
    assert await (await worker.dial({"Authorization": "Bearer whatever"})).is_usable()


async def test_health_needs_no_key(work: Workers) -> None:
    assert (await (await work(api_key=KEY)).get("/health"))[0] == 200


async def test_a_plain_request_learns_that_it_needs_a_websocket(work: Workers) -> None:
    worker = await work()
    assert await worker.get("/ws/stt") == (426, {"error": "/ws/stt is a WebSocket"})
    async with aiohttp.request("GET", f"{worker.address}/ws/stt") as response:
        assert response.headers["Upgrade"] == "websocket"


async def test_compression_is_not_taken_up(work: Workers) -> None:
    client = await (await work()).dial(compress=15)
    assert not client.ws.compress
    assert await client.is_usable()


async def test_neither_words_nor_keys_are_logged(work: Workers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    worker = await work("secretword", api_key=KEY)
    client = await worker.dial({"Authorization": f"Bearer {KEY}"})
    await client.utterance(MUTED.pcm, Start("en", ("secretname",)))
    assert isinstance((await client.answers())[-1], Final)
    await client.ws.send_str('{"type": "start", "names": ["secretname", 1]}')
    await client.error()
    for secret in ("secret", KEY):
        assert secret not in caplog.text
