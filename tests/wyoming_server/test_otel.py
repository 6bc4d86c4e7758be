from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from modal_whisper import __version__
from tests.engines import new_costs
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.sounds import speech
from tests.virtual_clock import run_virtual
from tests.wyoming_server.test_metrics import attempt, trace
from wyoming_server import otel
from wyoming_server.backends.base import Request
from wyoming_server.errors import SignInRefusedError
from wyoming_server.events import Answered, Traced
from wyoming_server.hedging import HedgeBudget, Patience, Strategy
from wyoming_server.live import LiveEngine
from wyoming_server.otel import Telemetry, shown
from wyoming_server.race import Rules
from wyoming_server.recording import Recording
from wyoming_server.trace import Outcome, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from wyoming_server.trace import Trace

SECOND = 1_000_000_000
NOON = 1_764_000_000 * SECOND
LOST = attempt("assemblyai", outcome=Outcome.FAILED, error="overdue", final=None, over=1.0, first_partial=0.5)
WON = attempt("local", reason=Reason.FAILED, started=1.0, connected=1.25, dollars=0.5, over=2.2)


class Collected:
    """The spans of the traces that are told, three seconds after their utterance began, at noon."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = otel.provider(self._exporter)
        self._provider = provider
        self.telemetry = Telemetry(provider, clock=lambda: 103.0, now=lambda: NOON, began_at=lambda: 100.0)

    def of(self, *traces: Trace) -> list[ReadableSpan]:
        for item in traces:
            self.telemetry(Traced(item))
        self._provider.force_flush()
        return sorted(
            self._exporter.get_finished_spans(), key=lambda span: (span.start_time, span.name != "utterance")
        )

    def only(self, item: Trace) -> ReadableSpan:
        """The span of the utterance itself."""
        (span,) = [span for span in self.of(item) if span.name == "utterance"]
        return span


def seconds(span: ReadableSpan) -> tuple[float, float]:
    """When it began and ended, in seconds after the utterance began."""
    assert span.start_time is not None
    assert span.end_time is not None
    return _since(span.start_time), _since(span.end_time)


def events(span: ReadableSpan) -> dict[str, float]:
    return {event.name: _since(event.timestamp) for event in span.events}


def _since(at: int) -> float:
    return round((at - NOON) / SECOND + 3, 6)


def test_an_utterance_is_a_span_with_its_attempts_in_it_and_everything_at_its_time() -> None:
    utterance, lost, won = Collected().of(trace(backend="local", attempts=(LOST, WON)))
    assert [span.name for span in (utterance, lost, won)] == [
        "utterance",
        "attempt assemblyai",
        "attempt local",
    ]
    assert utterance.parent is None
    for span in (lost, won):
        assert span.parent is not None
        assert span.parent.span_id == utterance.context.span_id
        assert span.context.trace_id == utterance.context.trace_id
    assert [seconds(span) for span in (utterance, lost, won)] == [(0.0, 2.2), (0.0, 1.0), (1.0, 2.2)]
    assert events(utterance) == {"ended": 2.0}
    assert events(lost) == {"connected": 0.1, "first_partial": 0.5}
    assert events(won) == {"connected": 1.25, "final": 2.2}
    assert [span.kind for span in (utterance, lost, won)] == [
        SpanKind.SERVER,
        SpanKind.CLIENT,
        SpanKind.INTERNAL,
    ]


def test_spans_say_who_why_what_came_of_it_and_what_it_cost() -> None:
    utterance, lost, won = Collected().of(trace(backend="local", attempts=(LOST, WON)))
    assert dict(utterance.attributes or {}) == {
        "stt.backend": "local",
        "stt.outcome": "answered",
        "stt.attempts": 2,
        "stt.audio_seconds": 2.0,
        "stt.dollars": 0.5,
    }
    assert dict(lost.attributes or {}) == {
        "stt.backend": "assemblyai",
        "stt.reason": "first",
        "stt.outcome": "failed",
        "stt.bytes_read": 64_000,
        "stt.dollars": 0.0,
        "error.type": "overdue",
    }
    assert (lost.status.status_code, lost.status.description) == (StatusCode.ERROR, "overdue")
    assert dict(won.attributes or {})["stt.reason"] == "failed"
    assert [span.status.status_code for span in (utterance, won)] == [StatusCode.UNSET, StatusCode.UNSET]


@pytest.mark.parametrize(
    ("changes", "outcome", "status", "end"),
    [
        ({"backend": "", "answered": None, "error": "deadline"}, "failed", StatusCode.ERROR, 3.0),
        ({"backend": "", "answered": None, "ended": None}, "abandoned", StatusCode.UNSET, 3.0),
        ({"backend": "", "answered": 2.1, "attempts": ()}, "silent", StatusCode.UNSET, 2.1),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_an_utterance_without_words_says_what_became_of_it(
    changes: dict[str, Any], outcome: str, status: StatusCode, end: float
) -> None:
    span = Collected().only(trace(**changes))
    assert (span.attributes or {})["stt.outcome"] == outcome
    assert (span.attributes or {}).get("error.type") == changes.get("error")
    assert span.status.status_code is status
    assert seconds(span) == (0.0, end)


def test_a_recording_of_the_past_has_no_end_before_its_beginning() -> None:
    assert events(Collected().only(trace(ended=-60.0))) == {}


def test_two_utterances_are_two_traces() -> None:
    spans = Collected().of(trace(), trace())
    assert len({span.context.trace_id for span in spans}) == 2


def test_other_events_make_no_span() -> None:
    collected = Collected()
    collected.telemetry(Answered("local", 1.0, 1.0))
    assert collected.of() == []


def test_a_defect_while_spans_are_made_is_logged_and_stays_there(caplog: pytest.LogCaptureFixture) -> None:
    broken = Telemetry(otel.provider(InMemorySpanExporter()), clock=lambda: 1 / 0, began_at=lambda: 0.0)
    broken(Traced(trace()))
    assert caplog.messages == ["the spans of an utterance could not be made"]


def test_the_times_are_those_of_the_engine_and_no_word_gets_in() -> None:
    exporter = InMemorySpanExporter()

    async def hear() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(50)
        provider = otel.provider(exporter)
        telemetry = Telemetry(provider, clock=loop.time, now=lambda: round(loop.time() * SECOND))
        rules = Rules(strategy=Strategy.FAILOVER, deadline=8, patience=Patience(), budget=HedgeBudget(0.05))
        engine = LiveEngine(
            [
                ScriptedBackend("assemblyai", 0.25, SignInRefusedError("the key sesame is refused")),
                ScriptedBackend("local", 0.5, CONNECTED, partial("sesame"), Wait.AUDIO, 0.5, final("sesame")),
            ],
            rules,
            costs=new_costs({}),
            listener=telemetry,
            clock=loop.time,
            chance=lambda: 0.5,
        )
        began = loop.time()
        recording = Recording(max_seconds=60.0, clock=loop.time)
        recording.write(speech(600))
        recording.end()
        async for _ in engine.transcribe(recording, Request(names=("sesame",))):
            pass
        await engine.close()
        provider.force_flush()
        spans = {span.name: span for span in exporter.get_finished_spans()}
        times = {
            name: ((span.start_time or 0) / SECOND - began, (span.end_time or 0) / SECOND - began)
            for name, span in spans.items()
        }
        assert times["utterance"] == pytest.approx((0.0, 1.25), abs=0.01)
        assert times["attempt assemblyai"] == pytest.approx((0.0, 0.25), abs=0.01)
        assert times["attempt local"] == pytest.approx((0.25, 1.25), abs=0.01)
        assert "sesame" not in "".join(span.to_json() for span in spans.values())

    run_virtual(hear())


def test_the_service_has_a_name_and_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    attributes = otel.provider(InMemorySpanExporter()).resource.attributes
    assert (attributes["service.name"], attributes["service.version"]) == ("stt-failover", __version__)


def test_the_environment_may_name_the_service_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "kitchen")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=home")
    attributes = otel.provider(InMemorySpanExporter()).resource.attributes
    assert (attributes["service.name"], attributes["deployment.environment.name"]) == ("kitchen", "home")


class HangingExporter(SpanExporter):
    """A collector that takes a batch and says nothing."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.called = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.called.set()
        self.let_go.wait(60)
        return SpanExportResult.FAILURE


async def test_a_collector_that_hangs_delays_neither_an_utterance_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wyoming_server.otel._FLUSH_SECONDS", 0.05)
    exporter = HangingExporter()
    telemetry = Telemetry(otel.provider(exporter), clock=lambda: 0.0)
    for _ in range(3_000):  # more than the queue holds
        telemetry(Traced(trace(attempts=())))
    assert await asyncio.to_thread(exporter.called.wait, 60)
    await telemetry.close()
    assert "last traces" in {
        thread.name for thread in threading.enumerate()
    }  # it goes on, nobody waits for it
    exporter.let_go.set()


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        ("http://collector:4318", "http://collector:4318"),
        ("https://me:secret@collector.example/v1/traces?key=secret", "https://collector.example"),
        ("collector", "its collector"),
    ],
)
def test_an_address_is_shown_without_what_is_secret(endpoint: str, text: str) -> None:
    assert shown(endpoint) == text
