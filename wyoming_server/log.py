"""The log: one line a fact, as text or as JSON."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from wyoming_server.events import Answered, BackendConnected, BackendFailed, Unanswered

if TYPE_CHECKING:
    from wyoming_server.events import Event

_LOGGER = logging.getLogger("stt_failover")


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


def log_event(event: Event) -> None:
    """Tell what happened in one line; a listener of the engine."""
    match event:
        case BackendConnected(backend, ms):
            _LOGGER.info("connected to %s (%.0f ms)", backend, ms)
        case BackendFailed(backend, error, None, _):
            _LOGGER.warning("%s failed: %s; nobody is left to take over", backend, error)
        case BackendFailed(backend, error, successor, seconds):
            _LOGGER.warning(
                "%s failed: %s; %s takes over with %.2f s of audio", backend, error, successor, seconds
            )
        case Answered("", _, seconds):
            _LOGGER.info("nobody spoke in %.2f s of audio", seconds)
        case Answered(backend, ms, _):
            _LOGGER.info("%s answered %.0f ms after the last sample", backend, ms)
        case Unanswered(error, seconds):
            _LOGGER.error("no answer for %.2f s of audio: %s", seconds, error)
