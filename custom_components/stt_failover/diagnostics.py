"""Diagnostics: only what is known to be harmless gets in, so that nothing new can leak by itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from homeassistant.components.diagnostics import REDACTED, async_redact_data
from homeassistant.const import CONF_HOST, CONF_TOKEN

from .errors import ServerError

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant

    from .coordinator import SttFailoverConfigEntry
    from .models import Config
    from .read import Json

_REDACTED: Final = {CONF_HOST, CONF_TOKEN, "id", "unique_id", "wyoming"}

_PLAIN: Final = {"BACKENDS", "STRATEGY", "ASSEMBLYAI_MODEL", "ASSEMBLYAI_MODE", "ASSEMBLYAI_SYNC_MODEL"} | {
    "ASSEMBLYAI_LANGUAGES",
    "WHISPER_LANGUAGES",
    "LOCAL_DEVICE",
    "LOG_FORMAT",
}
"""Settings whose values are shown though they are no numbers. Addresses, names and folders are not."""

_TRACE: Final = ("at", "audio_seconds", "last_speech", "ended", "answered", "backend")
_ATTEMPT: Final = (
    "backend",
    "reason",
    "outcome",
    "started",
    "connected",
    "first_partial",
    "final",
    "bytes_read",
    "dollars",
)


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: SttFailoverConfigEntry,
) -> dict[str, Any]:
    """Tell how the server is doing, what it is set to and how the latest utterances went."""
    coordinator = entry.runtime_data
    try:
        config = _settings(await coordinator.client.config())
        traces = [_trace(trace) for trace in await coordinator.client.traces()]
    except ServerError as error:
        config, traces = {"error": type(error).__name__}, []
    return {
        "entry": async_redact_data(dict(entry.data), _REDACTED),
        "options": dict(entry.options),
        "connected": coordinator.last_update_success,
        "status": async_redact_data(asdict(coordinator.data), _REDACTED),
        "settings": config,
        "traces": traces,
    }


def _settings(config: Config) -> dict[str, Any]:
    return {
        name: {
            "value": setting.value
            if name in _PLAIN or isinstance(setting.value, bool | int | float | None)
            else REDACTED,
            "source": setting.source,
            "is_set": setting.is_set,
        }
        for name, setting in config.settings.items()
    }


def _trace(trace: Json) -> dict[str, Any]:
    shown = {name: trace.get(name) for name in _TRACE}
    shown["failed"] = bool(trace.get("error"))
    shown["attempts"] = [
        {name: attempt.get(name) for name in _ATTEMPT} | {"failed": bool(attempt.get("error"))}
        for attempt in trace.get("attempts", [])
    ]
    return shown
