"""The log: one line a fact, as text for people or as JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
import threading
import unicodedata
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from wyoming_server.breaker import State
from wyoming_server.events import (
    Answered,
    AttemptStarted,
    BackendConnected,
    BackendFailed,
    BreakerChanged,
    BudgetReached,
    Unanswered,
)
from wyoming_server.trace import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wyoming_server.events import Event
    from wyoming_server.trace import Trace

_LOGGER = logging.getLogger("stt_failover")
_STRAYS = logging.getLogger("stt_failover.strays")
_NEWS: Final = (Reason.SLOW_CONNECT, Reason.NO_PROGRESS, Reason.HEDGE)
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that would begin a new line, make a terminal do something, or are none at all."""


class TextFormatter(logging.Formatter):
    """One line for people: time, level and message; a traceback below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its parent's name
        """The line; what strangers sent cannot make two of it."""
        return "".join(
            repr(character)[1:-1] if unicodedata.category(character) in _UNPRINTABLE else character
            for character in super().formatMessage(record).rstrip()  # warnings of Python end in a line break
        )


class JsonFormatter(logging.Formatter):
    r"""One JSON object a line: time (ISO 8601, UTC), level, logger, message, and the fields of the record.

    A traceback is one more field. Only printable ASCII is written, everything else as \u escapes, so that no
    locale, terminal or collector can take offence.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        at = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry = {**entry, **getattr(record, "fields", {}), **entry}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def set_up(log_format: str, *, debug: bool) -> None:
    """Write the log of this process to standard error.

    As JSON, this is where everything goes that Python itself would write there as text, too.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in ("stt_failover", "wyoming_server", "modal_whisper"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    # Other libraries have little to say that a user can act on, and some of it repeats what people said.
    for name in ("aiohttp", "asyncio", "faster_whisper", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of a request that is no HTTP it would write all that came, which may hold a token or a key.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    # Of a collector that is down it says the same again and again; otel.py says it once.
    logging.getLogger("opentelemetry").setLevel(logging.WARNING if debug else logging.CRITICAL)
    logging.captureWarnings(capture=True)
    if log_format == "json":
        _catch_strays()


def log_event(event: Event) -> None:
    """Tell what happened in one line; a listener of the engine."""
    match event:
        case BackendConnected(backend, ms):
            _tell(logging.INFO, "connected", "connected to %s (%.0f ms)", backend, ms, backend=backend, ms=ms)
        case BackendFailed():
            _log_failure(event)
        case AttemptStarted(backend, reason, seconds) if reason in _NEWS:
            _tell(
                logging.INFO,
                "attempt",
                "%s is asked too, because %s (%.2f s of audio)",
                *(backend, reason, seconds),
                backend=backend,
                reason=reason.name.lower(),
                audio_seconds=seconds,
            )
        case BreakerChanged():
            _log_breaker(event)
        case BudgetReached(backend, dollars):
            _tell(
                logging.WARNING,
                "budget",
                "%s has cost $%.2f today and is asked last until tomorrow",
                *(backend, dollars),
                backend=backend,
                dollars=dollars,
            )
        case Answered("", _, seconds):
            _tell(logging.INFO, "silent", "nobody spoke in %.2f s of audio", seconds, audio_seconds=seconds)
        case Answered(backend, ms, seconds):
            _tell(
                logging.INFO,
                "answered",
                "%s answered %.0f ms after the last sample",
                *(backend, ms),
                backend=backend,
                ms=ms,
                audio_seconds=seconds,
            )
        case Unanswered(error, seconds):
            _tell(
                logging.ERROR,
                "unanswered",
                "no answer for %.2f s of audio: %s",
                *(seconds, error),
                code=error.code,
                audio_seconds=seconds,
            )


def log_traces(traces: Iterable[Trace]) -> None:
    """Tell everything that is remembered of the latest utterances, a line each."""
    for trace in traces:
        facts = asdict(trace)
        _tell(logging.INFO, "trace", "%s", json.dumps(facts), trace=facts)


def _tell(level: int, event: str, line: str, *values: object, **fields: object) -> None:
    """Write a line whose facts are there for machines as fields, too."""
    rounded = {name: round(item, 3) if isinstance(item, float) else item for name, item in fields.items()}
    _LOGGER.log(level, line, *values, extra={"fields": {"event": event, **rounded}})


def _log_failure(failure: BackendFailed) -> None:
    fields = {
        "backend": failure.backend,
        "code": failure.error.code,
        "successor": failure.successor,
        "audio_seconds": failure.audio_seconds,
    }
    if failure.was_known:
        line, values = "%s failed again: %s", (failure.backend, failure.error)
        _tell(logging.DEBUG, "failed", line, *values, **fields)
    elif failure.successor is None:
        line, values = "%s failed: %s; nobody is left to take over", (failure.backend, failure.error)
        _tell(logging.WARNING, "failed", line, *values, **fields)
    else:
        _tell(
            logging.WARNING,
            "failed",
            "%s failed: %s; %s takes over with %.2f s of audio",
            *(failure.backend, failure.error, failure.successor, failure.audio_seconds),
            **fields,
        )


def _log_breaker(change: BreakerChanged) -> None:
    backend, cause = change.backend, change.cause
    fields = {
        "backend": backend,
        "state": change.state.value,
        "cause": None if cause is None else cause.value,
        "retry_seconds": change.retry_seconds,
    }
    match change.state:
        case State.CLOSED:
            _tell(logging.INFO, "breaker", "%s is back", backend, **fields)
        case State.OPEN if change.retry_seconds is None:
            line = "%s is left out (%s) until the settings change"
            _tell(logging.WARNING, "breaker", line, backend, cause, **fields)
        case State.OPEN:
            line = "%s is left out (%s); tried again in %.0f s"
            _tell(logging.WARNING, "breaker", line, backend, cause, change.retry_seconds, **fields)
        case State.HALF_OPEN:
            _tell(logging.DEBUG, "breaker", "trying %s in the background", backend, **fields)


def _catch_strays() -> None:
    """Let exceptions that nobody has caught be records of the log."""
    sys.excepthook = lambda kind, error, trace: _STRAYS.critical(
        "nobody has caught %s", kind.__name__, exc_info=(kind, error, trace)
    )

    def of_thread(stray: threading.ExceptHookArgs) -> None:
        if stray.exc_value is not None:
            found = (stray.exc_type, stray.exc_value, stray.exc_traceback)
            name = stray.thread.name if stray.thread else "a thread"
            _STRAYS.error("%s ended by %s", name, stray.exc_type.__name__, exc_info=found)

    def unraisable(stray: sys.UnraisableHookArgs) -> None:
        if stray.exc_value is not None:
            found = (stray.exc_type, stray.exc_value, stray.exc_traceback)
            _STRAYS.error("%s", stray.err_msg or "an exception was ignored", exc_info=found)

    threading.excepthook = of_thread
    sys.unraisablehook = unraisable
