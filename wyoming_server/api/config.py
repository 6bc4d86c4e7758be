"""The settings as a client sees them, and what it wants to be otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wyoming_server.api.refusals import bad_request
from wyoming_server.settings import NAMES, SECRETS, LoadedSettings
from wyoming_server.sources import Source

if TYPE_CHECKING:
    from wyoming_server.settings import Settings


def shown(settings: Settings) -> dict[str, Any]:
    """Every setting with its source; of a secret only whether there is one."""
    return {name: _shown(settings, name) for name in NAMES}


def changes_in(body: dict[str, Any], *, is_required: bool = True) -> dict[str, Any]:
    """The settings that a client sends, unchecked; raises ApiError."""
    changes = body.get("settings", None if is_required else {})
    if not isinstance(changes, dict):
        raise bad_request('"settings" must be an object of settings by their names')
    return changes


def names_in(body: dict[str, Any], known: tuple[str, ...]) -> list[str] | None:
    """The backends that a client names, None for all that are enabled; raises ApiError."""
    names = body.get("backends")
    if names is None:
        return None
    if not isinstance(names, list) or not all(name in known for name in names):
        raise bad_request(f'"backends" must be a list of some of {", ".join(known)}')
    return names


def _shown(settings: Settings, name: str) -> dict[str, Any]:
    value = getattr(settings, name.lower())
    source = settings.sources.of(name) if isinstance(settings, LoadedSettings) else Source.DEFAULT
    if name in SECRETS:
        return {"value": None, "source": source.value, "is_set": bool(value)}
    if isinstance(value, Path):
        value = str(value)
    elif isinstance(value, tuple):
        value = list(value)
    return {"value": value, "source": source.value}
