"""A lock beside a file: at most one server keeps things there."""

from __future__ import annotations

import fcntl
import logging
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_LOGGER = logging.getLogger(__name__)
_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


class Lock:
    """Of the file at `path`, held until it is released or the process ends, however it ends.

    Where the file system has no locks, or nothing can be written, everybody holds it.
    """

    def __init__(self, path: Path) -> None:
        # Not the file itself, which is replaced; and never removed, because somebody might wait for it.
        self._path = path.with_name(f".{path.name}.lock")
        self._number: int | None = None

    def take(self) -> bool:
        """Whether nobody else has it; to be called as often as one likes."""
        if self._number is not None:
            return True
        try:
            self._path.parent.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
            number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _MODE)
        except OSError as error:
            _LOGGER.debug("there is no lock: %s", error)
            return True
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            return False
        except OSError as error:
            os.close(number)
            _LOGGER.debug("there is no lock: %s", error)
            return True
        self._number = number
        return True

    def release(self) -> None:
        """Let somebody else have it."""
        if self._number is not None:
            os.close(self._number)
            self._number = None
