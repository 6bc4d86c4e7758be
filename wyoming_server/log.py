"""The log: one line a fact, as text or as JSON."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

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
_NEWS = (Reason.SLOW_CONNECT, Reason.NO_PROGRESS, Reason.HEDGE)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up(log_format: str, *, debug: bool) -> None:
    """Write the log of this process to standard error."""
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in ("stt_failover", "wyoming_server", "modal_whisper"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    # Other libraries have little to say that a user can act on, and some of it repeats what people said.
    for name in ("aiohttp", "asyncio", "faster_whisper", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of a request that is no HTTP it would write all that came, which may hold a token or a key.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def log_event(event: Event) -> None:
    """Tell what happened in one line; a listener of the engine."""
    match event:
        case BackendConnected(backend, ms):
            _LOGGER.info("connected to %s (%.0f ms)", backend, ms)
        case BackendFailed():
            _log_failure(event)
        case AttemptStarted(backend, reason, seconds) if reason in _NEWS:
            _LOGGER.info("%s is asked too, because %s (%.2f s of audio)", backend, reason, seconds)
        case BreakerChanged():
            _log_breaker(event)
        case BudgetReached(backend, dollars):
            _LOGGER.warning("%s has cost $%.2f today and is asked last until tomorrow", backend, dollars)
        case Answered("", _, seconds):
            _LOGGER.info("nobody spoke in %.2f s of audio", seconds)
        case Answered(backend, ms, _):
            _LOGGER.info("%s answered %.0f ms after the last sample", backend, ms)
        case Unanswered(error, seconds):
            _LOGGER.error("no answer for %.2f s of audio: %s", seconds, error)


def log_traces(traces: Iterable[Trace]) -> None:
    """Tell everything that is remembered of the latest utterances, a line each."""
    for trace in traces:
        _LOGGER.info("%s", json.dumps(asdict(trace)))


def _log_failure(failure: BackendFailed) -> None:
    if failure.was_known:
        _LOGGER.debug("%s failed again: %s", failure.backend, failure.error)
    elif failure.successor is None:
        _LOGGER.warning("%s failed: %s; nobody is left to take over", failure.backend, failure.error)
    else:
        _LOGGER.warning(
            "%s failed: %s; %s takes over with %.2f s of audio",
            failure.backend,
            failure.error,
            failure.successor,
            failure.audio_seconds,
        )


def _log_breaker(change: BreakerChanged) -> None:
    match change.state:
        case State.CLOSED:
            _LOGGER.info("%s is back", change.backend)
        case State.OPEN if change.retry_seconds is None:
            _LOGGER.warning("%s is left out (%s) until the settings change", change.backend, change.cause)
        case State.OPEN:
            _LOGGER.warning(
                "%s is left out (%s); tried again in %.0f s",
                change.backend,
                change.cause,
                change.retry_seconds,
            )
        case State.HALF_OPEN:
            _LOGGER.debug("trying %s in the background", change.backend)
