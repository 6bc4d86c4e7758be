"""Where each setting comes from: flag > environment > stored file > default."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wyoming_server.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Source(StrEnum):
    """Where the value of a setting comes from."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    STORED = "stored"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Sources:
    """What each source says, by upper-case names; unchecked."""

    flags: Mapping[str, Any] = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    stored: Mapping[str, Any] = field(repr=False)

    @property
    def values(self) -> dict[str, Any]:
        """The value that counts of every setting that is not left to its default."""
        return {**self.stored, **self.environment, **self.flags}

    def of(self, name: str) -> Source:
        """Whose value counts."""
        if name in self.flags:
            return Source.FLAG
        if name in self.environment:
            return Source.ENVIRONMENT
        return Source.STORED if name in self.stored else Source.DEFAULT

    def is_fixed(self, name: str) -> bool:
        """Whether what is stored does not count."""
        return self.of(name) in (Source.FLAG, Source.ENVIRONMENT)

    def with_stored(self, stored: Mapping[str, Any]) -> Sources:
        """The same with another stored file."""
        return replace(self, stored=stored)


def read_environment(names: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that the environment holds, as NAME or in the file that NAME_FILE names.

    What is empty counts as not set. Raises SettingsError in one line.
    """
    values = {}
    for name in names:
        path = environ.get(f"{name}_FILE")
        value = environ.get(name, "")
        if path and value.strip():
            raise SettingsError(f"{name} and {name}_FILE are both set; keep one of them")
        if path:
            value = _content(name, path)
        if value.strip():
            values[name] = value
    return values


def _content(name: str, path: str) -> str:
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: no text, or no path
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(f"{name}_FILE: cannot read {path} ({reason})") from None
    if not value and name == "API_TOKEN":  # else nobody would know what the token is
        raise SettingsError(f"{name}_FILE: {path} is empty; write a token into it, or leave {name}_FILE out")
    return value
