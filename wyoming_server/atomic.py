"""Replaces a file as a whole.

Whoever reads it after a crash finds the old or the new one, never half of either.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import tempfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER_MODE: Final = 0o700
_SUFFIX: Final = ".new"
_RANDOM: Final = "?" * 8
"""What tempfile puts into a name."""
_CANNOT_SYNC: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
"""What file systems say that know no fsync."""


def replace_file(path: Path, content: bytes) -> None:
    """Let the file hold this, readable for its owner only; it and its folder are made where they are missing.

    Raises OSError with the old file as it was. One process at a time may replace the same file.
    """
    folder, prefix = path.parent, f".{path.name}."
    folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
    for leftover in folder.glob(f"{glob.escape(prefix)}{_RANDOM}{_SUFFIX}"):
        # Of a process that was killed; it may hold keys.
        with contextlib.suppress(OSError):
            leftover.unlink()
    number, name = tempfile.mkstemp(_SUFFIX, prefix, folder)  # readable for its owner only
    temporary = folder / name
    try:
        with open(number, "wb") as file:  # noqa: PTH123 - a file that is open already
            file.write(content)
            file.flush()
            _sync(number)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(folder)


def _sync(number: int) -> None:
    """Have it on the disk before its name is: else a power failure may leave the name and no content."""
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _sync_folder(folder: Path) -> None:
    """Let the new name survive a power failure; not every file system can promise that."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
