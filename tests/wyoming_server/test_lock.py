from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import PROJECT
from wyoming_server.lock import Lock

HOLDS_IT = """
import sys
from pathlib import Path
from wyoming_server.lock import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.take(), flush=True)
sys.stdin.read()
"""


def test_one_of_two_has_it_until_it_lets_go(tmp_path: Path) -> None:
    one, other = Lock(tmp_path / "settings.json"), Lock(tmp_path / "settings.json")
    assert one.take()
    assert one.take()
    assert not other.take()
    one.release()
    one.release()
    assert other.take()
    assert not one.take()
    other.release()


def test_files_in_one_folder_have_locks_of_their_own(tmp_path: Path) -> None:
    locks = [Lock(tmp_path / name) for name in ("a.json", "b.json")]
    assert all(lock.take() for lock in locks)
    for lock in locks:
        lock.release()


def test_the_first_start_makes_the_folder_for_it(tmp_path: Path) -> None:
    one, other = (Lock(tmp_path / "conf" / "settings.json") for _ in range(2))
    assert one.take()
    assert not other.take()
    one.release()


def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_IT, path],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        lock = Lock(path)
        assert not lock.take()
        process.kill()
        process.wait()
        assert lock.take()
        lock.release()


def test_a_child_of_the_server_does_not_inherit_it(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "settings.json")
    assert lock.take()
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout
        assert child.stdout.readline()
        lock.release()
        other = Lock(tmp_path / "settings.json")
        assert other.take()
        other.release()
        child.kill()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EIO])
def test_a_file_system_without_locks_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def cannot(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", cannot)
    before = list(Path("/proc/self/fd").iterdir())
    assert Lock(tmp_path / "settings.json").take()
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_a_place_that_cannot_be_written_does_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert Lock(tmp_path / "file" / "settings.json").take()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / ".settings.json.lock").symlink_to(tmp_path / "target")
    assert Lock(tmp_path / "settings.json").take()
    assert not (tmp_path / "target").exists()
