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

    An empty variable counts as not set. Raises SettingsError in one line.
    """
    values = {}
    for name in names:
        path = environ.get(f"{name}_FILE")
        if path and environ.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set; keep one of them")
        if path:
            try:
                values[name] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no text"
                raise SettingsError(f"{name}_FILE: cannot read {path} ({reason})") from None
        elif environ.get(name):
            values[name] = environ[name]
    return values
