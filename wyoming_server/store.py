"""What is kept on disk: the settings that somebody has made, and who this server is.

One JSON object, readable for its owner only. It is replaced as a whole, so that whoever reads it after a
crash finds the old or the new one, never half of either.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wyoming_server.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PATH: Final = "~/.config/stt-failover/settings.json"
_SERVER_ID: Final = "SERVER_ID"
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


class StoreError(SettingsError):
    """The settings file cannot be read or written; the text says why, and what it held is still there."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file holds."""

    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """By their upper-case names, as they were given; unchecked."""
    server_id: str | None = None
    """32 hexadecimal digits; None before the server has one."""


class Store:
    """The settings file at `path`, whose ~ is the home folder; empty: where it is by default."""

    def __init__(self, path: str) -> None:
        self.path = Path(path or DEFAULT_PATH)
        self._problem: str | None = None
        try:
            # Where it is a link, what the link leads to is replaced.
            self.path = self.path.expanduser().resolve()
        except (RuntimeError, OSError, ValueError):
            self._problem = f"SETTINGS_FILE: {self.path} cannot be found; is the home folder known?"

    def read(self) -> Kept:
        """What is kept; a file that is not there holds nothing. Raises StoreError."""
        if self._problem:
            if self.path == Path(DEFAULT_PATH):  # a user without a home has nothing there
                return Kept()
            raise StoreError(self._problem)
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Kept()
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"SETTINGS_FILE: cannot read {self.path} ({_reason(error)})") from None
        except (ValueError, RecursionError):
            raise StoreError(f"SETTINGS_FILE: {self.path} holds no JSON") from None
        if not isinstance(stored, dict):
            raise StoreError(f"SETTINGS_FILE: {self.path} must hold one JSON object of settings")
        server_id = stored.pop(_SERVER_ID, None)
        if server_id is not None and not re.fullmatch("[0-9a-f]{32}", str(server_id)):
            raise StoreError(f"SETTINGS_FILE: {_SERVER_ID} in {self.path} must be 32 hexadecimal digits")
        return Kept(stored, server_id)

    def write(self, kept: Kept) -> None:
        """Replace the file, which and whose folder are made where they are missing; raises StoreError."""
        if self._problem:
            raise StoreError(self._problem)
        content = dict(kept.settings)
        if kept.server_id:
            content = {_SERVER_ID: kept.server_id, **content}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
            self._replace(text.encode())
        except OSError as error:
            raise StoreError(f"SETTINGS_FILE: cannot write {self.path} ({_reason(error)})") from None

    def _replace(self, content: bytes) -> None:
        folder, prefix = self.path.parent, f".{self.path.name}."
        for leftover in folder.glob(f"{glob.escape(prefix)}*.new"):
            # Of a process that was killed; it may hold keys.
            leftover.unlink(missing_ok=True)
        number, temporary = tempfile.mkstemp(".new", prefix, folder)
        try:
            with open(number, "wb") as file:  # noqa: PTH123 - a file that is open already
                os.fchmod(number, _FILE_MODE)
                file.write(content)
                file.flush()
                os.fsync(number)
            Path(temporary).replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Let the new name survive a power failure; not every file system can promise that."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is no text"
