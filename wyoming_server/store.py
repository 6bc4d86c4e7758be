"""What is kept on disk: the settings that somebody has made, and who this server is.

One JSON object, readable for its owner only and replaced as a whole. A copy of its last good state lies
beside it: disks that forget what they have promised to keep are common where smart homes run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modal_whisper.errors import SttError
from wyoming_server.atomic import replace_file
from wyoming_server.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOGGER = logging.getLogger(__name__)

DEFAULT_PATH: Final = "~/.config/stt-failover/settings.json"
_SERVER_ID: Final = "SERVER_ID"
_IS_EMPTY: Final = "is empty"
_NOTHING: Final = b"\0 \t\r\n"
"""Of what files are full after a power failure, or when they were made by hand."""


class StoreError(SettingsError):
    """The settings file cannot be read or written; the text says why, and what it held is still there."""


class _DamagedError(SttError):
    """A file is there, but holds no settings."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file holds."""

    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """By their upper-case names, as they were given; unchecked."""
    server_id: str | None = None
    """32 hexadecimal digits; None before the server has one."""
    is_there: bool = field(default=True, compare=False)
    """Whether there is a file at all."""


class Store:
    """The settings file at `path`, whose ~ is the home folder; empty: where it is by default."""

    def __init__(self, path: str) -> None:
        self.path = Path(path or DEFAULT_PATH)
        self._problem: str | None = None
        self._seen: bytes | None = None
        self._at_work = threading.Lock()
        try:
            # Where it is a link, what the link leads to is replaced.
            self.path = self.path.expanduser().resolve()
        except (RuntimeError, OSError, ValueError):
            self._problem = f"SETTINGS_FILE: {self.path} cannot be found; is the home folder known?"

    @property
    def has_place(self) -> bool:
        """Whether it is known where the file belongs."""
        return self._problem is None

    def read(self) -> Kept:
        """What is kept; a file that is not there holds nothing. Raises StoreError.

        A damaged file is put aside, and the last good state put in its place; an empty one without such a
        state is removed.
        """
        with self._at_work:
            return self._read()

    def _read(self) -> Kept:
        if self._problem:
            if self.path == Path(DEFAULT_PATH):  # a user without a home has nothing there
                return Kept(is_there=False)
            raise StoreError(self._problem)
        content = b""
        try:
            content = self.path.read_bytes()
            return _parsed(content)
        except FileNotFoundError:
            return Kept(is_there=False)
        except OSError as error:
            if error.errno != errno.EIO:
                raise StoreError(f"SETTINGS_FILE: cannot read {self.path} ({error.strerror})") from None
            return self._last_good(content, f"cannot be read ({error.strerror})")
        except _DamagedError as error:
            return self._last_good(content, str(error))

    def write(self, kept: Kept) -> None:
        """Replace the file, which and whose folder are made where they are missing; raises StoreError."""
        if self._problem:
            raise StoreError(self._problem)
        content = dict(kept.settings)
        if kept.server_id:
            content = {_SERVER_ID: kept.server_id, **content}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        try:
            with self._at_work:
                replace_file(self.path, text.encode())
        except OSError as error:
            raise StoreError(f"SETTINGS_FILE: cannot write {self.path} ({error.strerror})") from None

    def back_up(self, *, at_once: bool = False) -> None:
        """Let a good file be the last good state, if it was the same the last time this was called.

        Not `at_once` after a change: a disk that loses what was written last has the other file yet.
        """
        with self._at_work, contextlib.suppress(OSError, _DamagedError):
            content = self.path.read_bytes()
            _parsed(content)
            is_settled, self._seen = at_once or content == self._seen, content
            if is_settled and not (self._backup.exists() and self._backup.read_bytes() == content):
                replace_file(self._backup, content)

    @property
    def _backup(self) -> Path:
        return self.path.with_name(f"{self.path.name}.bak")

    def _last_good(self, damaged: bytes, problem: str) -> Kept:
        try:
            content = self._backup.read_bytes()
            kept = _parsed(content)
        except (OSError, _DamagedError):
            if problem == _IS_EMPTY:  # as after a power failure in the first minutes
                with contextlib.suppress(OSError):
                    self.path.unlink()
                _LOGGER.warning("SETTINGS_FILE: %s %s; the server begins anew", self.path, problem)
                return Kept(is_there=False)
            raise StoreError(
                f"SETTINGS_FILE: {self.path} {problem}; correct it, or remove it to begin anew"
            ) from None
        aside = self.path.with_name(f"{self.path.name}.damaged")
        done = ""
        try:
            if damaged and problem != _IS_EMPTY:
                replace_file(aside, damaged)
                done = f"; what it held is in {aside.name} now"
            replace_file(self.path, content)
        except OSError as error:
            done = f"; it cannot be mended ({error.strerror})"
        goes_on = f"the server goes on with {self._backup.name}{done}"
        _LOGGER.warning("SETTINGS_FILE: %s %s; %s", self.path, problem, goes_on)
        return kept


def _parsed(content: bytes) -> Kept:
    """What the file's content says; raises _DamagedError."""
    if not content.strip(_NOTHING):
        raise _DamagedError(_IS_EMPTY)
    try:
        stored = json.loads(content.decode())
    except UnicodeDecodeError:
        raise _DamagedError("holds no text") from None
    except (ValueError, RecursionError):
        raise _DamagedError("holds no JSON") from None
    if not isinstance(stored, dict):
        raise _DamagedError("must hold one JSON object of settings")
    server_id = stored.pop(_SERVER_ID, None)
    if server_id is not None and not re.fullmatch("[0-9a-f]{32}", str(server_id)):
        raise _DamagedError(f"has no 32 hexadecimal digits as {_SERVER_ID}")
    return Kept(stored, server_id)
