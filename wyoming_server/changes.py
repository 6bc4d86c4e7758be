"""What somebody wants to be set otherwise, checked before anything is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wyoming_server.errors import SettingsError
from wyoming_server.settings import NAMES, WrongSettingError, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wyoming_server.settings import LoadedSettings, Settings
    from wyoming_server.sources import Sources

AFTER_RESTART: Final = frozenset(
    {"URI", "API_HOST", "API_PORT", "API_TOKEN", "ZEROCONF", "LOG_FORMAT", "SELF_CHECK"}
)
"""The settings that are looked at only when the server starts."""
_MAX_SHOWN: Final = 80


class FixedSettingError(SettingsError):
    """The setting comes from the command line or the environment, which beat what is stored."""

    def __init__(self, name: str, source: str) -> None:
        where = "the command line" if source == "flag" else "the environment"
        super().__init__(f"{name} is set by {where} of the server; change it there")
        self.name = name


def with_changes(sources: Sources, changes: Mapping[str, Any]) -> LoadedSettings:
    """The settings with these values by upper-case names; None takes a stored value away.

    Raises FixedSettingError and WrongSettingError.
    """
    for name in changes:
        if name not in NAMES:
            raise WrongSettingError(name, f"{name[:_MAX_SHOWN]!r} is no setting of this server")
        if name == "SETTINGS_FILE":
            raise WrongSettingError(name, "SETTINGS_FILE cannot be kept in the file that it names")
        if sources.is_fixed(name):
            raise FixedSettingError(name, sources.of(name))
    stored = {name: value for name, value in {**sources.stored, **changes}.items() if value is not None}
    return resolve(sources.with_stored(stored))


def differing(one: Settings, other: Settings) -> list[str]:
    """The names of the settings in which the two differ."""
    return [name for name in NAMES if getattr(one, name.lower()) != getattr(other, name.lower())]
