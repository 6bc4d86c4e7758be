"""A file is replaced as a whole or stays as it was, whatever the file system says."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Self

import pytest

from wyoming_server.atomic import replace_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    replace_file(tmp_path / "file.json", b"old")
    return tmp_path / "file.json"


def failing(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("call", ["fsync", "replace", "mkstemp", "close"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE, errno.EROFS])
def test_whatever_fails_the_old_one_stays_and_nothing_else_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    real_open = open

    def fail(*_: object) -> None:
        raise failing(number)

    class FailsToClose:  # where a network file system says that the disk is full
        def __init__(self, number: int, how: str) -> None:
            self.file = real_open(number, how)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()
            fail()

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    match call:
        case "fsync":
            monkeypatch.setattr(os, "fsync", fail)
        case "replace":
            monkeypatch.setattr(Path, "replace", fail)
        case "mkstemp":
            monkeypatch.setattr("tempfile.mkstemp", fail)
        case _:
            monkeypatch.setattr("wyoming_server.atomic.open", FailsToClose, raising=False)
    with pytest.raises(OSError, match=r".") as caught:
        replace_file(path, b"new")
    assert caught.value.errno == number
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_will_do(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def cannot(_: int) -> None:
        raise failing(number)

    monkeypatch.setattr(os, "fsync", cannot)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_content_is_on_the_disk_before_its_name_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bytes]] = []
    real = os.fsync

    def look(number: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(number).st_mode), path.read_bytes()))
        real(number)

    monkeypatch.setattr(os, "fsync", look)
    replace_file(path, b"new")
    assert seen == [(False, b"old"), (True, b"new")]


def test_what_killed_processes_left_goes_and_what_belongs_to_others_stays(path: Path) -> None:
    left, others = path.with_name(".file.json.abcd_123.new"), path.with_name(".file.json.bak.abcd_123.new")
    for leftover in (left, others):
        leftover.write_text("half of it")
    replace_file(path, b"new")
    assert sorted(path.parent.iterdir()) == sorted([path, others])


def test_a_leftover_that_cannot_be_removed_is_in_nobodys_way(path: Path) -> None:
    path.with_name(".file.json.abcd_123.new").mkdir()
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
