from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from modal_whisper.extras import how_to_install
from wyoming_server import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTOR = "http://127.0.0.1:4318"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[object]:
    """telemetry.start in an environment of these variables alone."""
    caplog.set_level(logging.INFO)
    started = []

    def with_variables(**environ: str) -> bool:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        made = telemetry.start(environ, lambda: 0.0)
        started.append(made)
        return made is not None

    yield with_variables
    for made in filter(None, started):
        made._provider.shutdown()


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_traces_are_sent_where_the_environment_says_to(
    start: object, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert start(**{name: COLLECTOR})
    assert caplog.messages == [f"traces are sent to {COLLECTOR}"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=["nothing", "empty", "disabled", "no exporter"],
)
def test_without_a_collector_nothing_is_sent_and_nothing_said(
    start: object, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert not start(**environ)
    assert caplog.messages == []


def test_without_the_extra_one_line_says_what_to_install(
    start: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "wyoming_server.otel", raising=False)
    monkeypatch.delattr("wyoming_server.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert not start(OTEL_EXPORTER_OTLP_ENDPOINT=COLLECTOR)
    assert caplog.messages == [f"no traces are sent, OpenTelemetry is missing: {how_to_install('otel')}"]


def test_a_variable_that_is_wrong_is_one_line_and_nobody_is_left_unheard(
    start: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert not start(OTEL_EXPORTER_OTLP_ENDPOINT=COLLECTOR, OTEL_BSP_MAX_QUEUE_SIZE="-1")
    (line,) = caplog.messages
    assert line.startswith("no traces are sent, an OTEL_ variable is wrong: ")
    assert "\n" not in line


def test_that_nothing_arrives_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from wyoming_server import otel

    monkeypatch.setattr(
        "opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter.export",
        lambda *_: SpanExportResult.FAILURE,
    )
    exporter = otel.Exporter("http://me:secret@127.0.0.1:4318")
    for _ in range(3):
        assert exporter.export([]) is SpanExportResult.FAILURE
    (line,) = caplog.messages
    assert line.startswith("no traces arrive at http://127.0.0.1:4318; ")


def test_who_wants_no_traces_does_not_load_the_library() -> None:
    code = "import sys, wyoming_server.run; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
