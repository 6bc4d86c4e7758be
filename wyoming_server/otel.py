"""OpenTelemetry: a span for each utterance, and in it one for each attempt. No words, no keys.

Needs the extra `otel`; see telemetry.py.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

from modal_whisper.version import __version__
from wyoming_server.events import Traced
from wyoming_server.live import began_at
from wyoming_server.metrics import outcome
from wyoming_server.trace import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

    from wyoming_server.events import Event
    from wyoming_server.trace import AttemptTrace, Trace

_LOGGER = logging.getLogger(__name__)

_FLUSH_SECONDS: Final = 1.0
_NANO: Final = 1_000_000_000


class Telemetry:
    """A listener that makes spans of traces.

    Args:
        provider: makes the spans and passes them on.
        clock: seconds, those that `began_at` counts in.
        now: nanoseconds since 1970.
        began_at: when the utterance began whose trace is told now; None where nobody knows.
    """

    def __init__(
        self,
        provider: TracerProvider,
        *,
        clock: Callable[[], float],
        now: Callable[[], int] = time.time_ns,
        began_at: Callable[[], float | None] = began_at,
    ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("stt-failover", __version__)
        self._clock = clock
        self._now = now
        self._began_at = began_at

    def __call__(self, event: Event) -> None:
        """Make the spans of an utterance that is over; a thread of the provider sends them."""
        if not isinstance(event, Traced):
            return
        try:
            self._utterance(event.trace)
        except Exception:  # who speaks must not notice
            _LOGGER.exception("the spans of an utterance could not be made")

    async def close(self) -> None:
        """Send what is left, within a second: what the collector has not taken by then is lost."""
        loop, is_done = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(is_done.set)

        # Not on a thread of the loop's, which the end of the process would wait for.
        threading.Thread(target=send, name="last traces", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await is_done.wait()

    def _utterance(self, trace: Trace) -> None:
        began = self._began_at()
        lasted = 0.0 if began is None else self._clock() - began
        base = self._now() - round(lasted * _NANO)
        span = self._tracer.start_span(
            "utterance",
            kind=SpanKind.SERVER,
            start_time=base,
            attributes={
                "stt.backend": trace.backend,
                "stt.outcome": outcome(trace),
                "stt.attempts": len(trace.attempts),
                "stt.audio_seconds": trace.audio_seconds,
                "stt.dollars": sum(attempt.dollars for attempt in trace.attempts),
            },
        )
        if trace.ended is not None and trace.ended >= 0:  # a recording of the past had ended before
            span.add_event("ended", timestamp=base + round(trace.ended * _NANO))
        if trace.error is not None:
            _blame(span, trace.error)
        for attempt in trace.attempts:
            self._attempt(attempt, base, lasted, set_span_in_context(span))
        span.end(base + round((lasted if trace.answered is None else trace.answered) * _NANO))

    def _attempt(self, attempt: AttemptTrace, base: int, lasted: float, context: Context) -> None:
        span = self._tracer.start_span(
            f"attempt {attempt.backend}",
            context,
            kind=SpanKind.INTERNAL if attempt.backend == "local" else SpanKind.CLIENT,
            start_time=base + round(attempt.started * _NANO),
            attributes={
                "stt.backend": attempt.backend,
                "stt.reason": attempt.reason.name.lower(),
                "stt.outcome": attempt.outcome.value,
                "stt.bytes_read": attempt.bytes_read,
                "stt.dollars": attempt.dollars,
            },
        )
        for name in ("connected", "first_partial", "final"):
            seconds = getattr(attempt, name)
            if seconds is not None:
                span.add_event(name, timestamp=base + round(seconds * _NANO))
        if attempt.outcome is Outcome.FAILED:
            _blame(span, attempt.error or "unknown")
        span.end(base + round((lasted if attempt.over is None else attempt.over) * _NANO))


class Exporter(OTLPSpanExporter):
    """Sends spans by OTLP over HTTP; that none arrive is said once, not every few seconds.

    Reads its address and all else from the environment, and raises what its parent raises for variables that
    it does not take; `endpoint` is that address, to be shown.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self._shown = shown(endpoint)
        self._has_complained = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See SpanExporter; called on the provider's thread."""
        result = super().export(spans)
        if result is not SpanExportResult.SUCCESS and not self._has_complained:
            self._has_complained = True
            _LOGGER.warning(
                "no traces arrive at %s; is it a collector that takes OTLP over HTTP? "
                "(said once; the reasons are logged with --debug)",
                self._shown,
            )
        return result


def provider(exporter: SpanExporter) -> TracerProvider:
    """What makes spans and hands them to the exporter in batches, on a thread of its own."""
    resource = Resource.create({SERVICE_VERSION: __version__})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "stt-failover"}))
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(exporter))
    return made


def shown(endpoint: str) -> str:
    """An address without what may be a password or a key in it."""
    parts = urlsplit(endpoint)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if host else "its collector"


def _blame(span: Span, code: str) -> None:
    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR, code)
