"""The settings file: whatever happens to it, it is the old one or the new one."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wyoming_server.store import Kept, Store, StoreError

ID = "5f0c6a5e0d2b4f6f9d6a3c1b7e8f9a0b"
SECRET = "k-0123456789abcdef"
OLD = Kept({"DEADLINE": 5, "ASSEMBLYAI_API_KEY": SECRET}, ID)
NEW = Kept({"KEY_TERMS": ["Zoë"], "DEADLINE": 6}, ID)

WRITES_FOR_EVER = """
import sys
from wyoming_server.store import Kept, Store
store, number = Store(sys.argv[1]), 0
while True:
    number += 1
    store.write(Kept({"DEADLINE": number, "KEY_TERMS": ["x" * 50_000]}, sys.argv[2]))
    print(number, flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "conf" / "settings.json"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_written_is_read(store: Store) -> None:
    assert store.read() == Kept()
    for kept in (OLD, NEW, Kept({"DEBUG": True})):
        store.write(kept)
        assert store.read() == kept
        assert Store(str(store.path)).read() == kept


def test_only_the_owner_can_read_it_whatever_it_was_before(store: Store) -> None:
    before = os.umask(0)
    try:
        store.write(OLD)
        assert (mode(store.path.parent), mode(store.path)) == (0o700, 0o600)
        store.path.chmod(0o644)
        store.write(NEW)
    finally:
        os.umask(before)
    assert mode(store.path) == 0o600


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Store(str(tmp_path / "settings.json")).write(OLD)
    assert mode(tmp_path) == 0o755


def test_nothing_but_the_file_is_left_in_the_folder(store: Store) -> None:
    store.write(OLD)
    (store.path.parent / f".{store.path.name}.abcd_123.new").write_text("half of what a killed process wrote")
    store.write(NEW)
    assert list(store.path.parent.iterdir()) == [store.path]


def test_a_link_stays_one(store: Store, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    store.write(OLD)
    link.symlink_to(store.path)
    Store(str(link)).write(NEW)
    assert link.is_symlink()
    assert store.read() == NEW


def test_the_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store("~/a/b.json").path == tmp_path.resolve() / "a" / "b.json"


@pytest.mark.parametrize("content", ["{", "[1]", '"text"', '{"SERVER_ID": 5}', '{"SERVER_ID": "x"}'])
def test_a_file_that_holds_something_else_is_one_line_and_stays(store: Store, content: str) -> None:
    store.write(OLD)
    store.path.write_text(content)
    with pytest.raises(StoreError, match=r"^SETTINGS_FILE: .*settings\.json") as caught:
        store.read()
    assert "\n" not in str(caught.value)
    assert store.path.read_text() == content


def test_a_full_disk_is_one_line_and_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(OLD)

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError) as caught:
        store.write(NEW)
    assert str(caught.value) == f"SETTINGS_FILE: cannot write {store.path} (No space left on device)"
    assert list(store.path.parent.iterdir()) == [store.path]
    assert store.read() == OLD


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path.resolve() / "file" / "settings.json"
    with pytest.raises(StoreError) as caught:
        Store(str(path)).write(OLD)
    assert str(caught.value).startswith(f"SETTINGS_FILE: cannot write {path} (")


def test_a_folder_that_cannot_be_written_is_one_line_and_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(OLD)
    if os.geteuid():
        store.path.parent.chmod(0o500)
    else:  # root may write anywhere

        def refuse(*_: object) -> tuple[int, str]:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(StoreError, match=r"cannot write .* \(Permission denied\)$"):
        store.write(NEW)
    store.path.parent.chmod(0o700)
    assert store.read() == OLD


def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(store: Store) -> None:
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITES_FOR_EVER, str(store.path), ID],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        told = [int(process.stdout.readline()) for _ in range(20)][-1]
        process.send_signal(signal.SIGKILL)
        told = max([told, *map(int, process.stdout.read().split())])
        process.wait()
        kept = store.read()
        assert kept.server_id == ID
        assert kept.settings["DEADLINE"] in (told, told + 1)
        assert kept.settings["KEY_TERMS"] == ["x" * 50_000]


# Damage


ASIDE = "; what it held is in settings.json.damaged now"


def damage(store: Store, content: bytes = b"") -> None:
    """What a disk that was not ordered may leave after a power failure."""
    store.path.write_bytes(content)


def settle(store: Store) -> None:
    """Let enough time pass after a change."""
    store.back_up()
    store.back_up()


def neighbours(store: Store) -> list[str]:
    return sorted(path.name for path in store.path.parent.iterdir())


@pytest.mark.parametrize(
    ("content", "problem", "done"),
    [
        (b"", "is empty", ""),
        (b"\0" * 4096, "is empty", ""),
        (b"\xff\xfe", "holds no text", ASIDE),
        (b'{"DEADLINE": 5,}', "holds no JSON", ASIDE),
        (b"[]", "must hold one JSON object of settings", ASIDE),
    ],
)
def test_a_damaged_file_is_replaced_by_its_last_good_state(
    store: Store, caplog: pytest.LogCaptureFixture, content: bytes, problem: str, done: str
) -> None:
    store.write(OLD)
    settle(store)
    damage(store, content)
    assert Store(str(store.path)).read() == OLD
    assert caplog.messages == [
        f"SETTINGS_FILE: {store.path} {problem}; the server goes on with settings.json.bak{done}"
    ]
    assert SECRET not in caplog.text
    aside = [path for path in store.path.parent.iterdir() if path.name == "settings.json.damaged"]
    assert [path.read_bytes() for path in aside] == ([content] if done else [])
    assert {mode(path) for path in store.path.parent.iterdir()} == {0o600}
    assert store.read() == OLD
    assert len(caplog.messages) == 1


def test_the_last_good_state_is_not_touched_soon_after_a_change(store: Store) -> None:
    store.write(OLD)
    settle(store)
    store.write(NEW)
    store.back_up()  # by chance the next moment
    damage(store)
    assert store.read() == OLD
    store.write(NEW)
    settle(store)
    damage(store)
    assert store.read() == NEW


def test_a_damaged_file_is_never_taken_for_a_good_one(store: Store) -> None:
    store.write(OLD)
    settle(store)
    damage(store, b"{")
    settle(store)
    assert store.read() == OLD


def test_a_file_that_was_removed_on_purpose_does_not_come_back(store: Store) -> None:
    store.write(OLD)
    settle(store)
    store.path.unlink()
    assert store.read() == Kept()
    settle(store)
    assert store.read() == Kept()
    assert not store.read().is_there


def test_where_both_are_damaged_one_line_says_what_to_do(store: Store) -> None:
    store.write(OLD)
    settle(store)
    damage(store, b"{")
    store.path.with_name("settings.json.bak").write_bytes(b"[]")
    with pytest.raises(StoreError) as caught:
        store.read()
    assert str(caught.value) == (
        f"SETTINGS_FILE: {store.path} holds no JSON; correct it, or remove it to begin anew"
    )
    assert store.path.read_bytes() == b"{"


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b" \n"])
def test_an_empty_file_without_a_last_good_state_is_one_that_is_not_there(
    store: Store, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    store.write(OLD)
    damage(store, content)
    for _ in range(2):
        assert store.read() == Kept()
        assert not store.read().is_there
    assert caplog.messages == [f"SETTINGS_FILE: {store.path} is empty; the server begins anew"]


def test_a_damaged_file_where_nothing_can_be_written_is_read_all_the_same(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(OLD)
    settle(store)
    damage(store, b"{")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert store.read() == OLD
    assert caplog.messages[0].endswith("; it cannot be mended (Read-only file system)")
    assert store.path.read_bytes() == b"{"


def test_a_file_on_a_broken_place_of_the_disk_is_damaged_and_a_forbidden_one_is_not(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.write(OLD)
    settle(store)
    real, broken = Path.read_bytes, errno.EIO

    def read(path: Path) -> bytes:
        if path == store.path:
            raise OSError(broken, os.strerror(broken))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert store.read() == OLD
    (line,) = caplog.messages
    assert line == (
        f"SETTINGS_FILE: {store.path} cannot be read (Input/output error); "
        "the server goes on with settings.json.bak"
    )
    broken = errno.EACCES
    with pytest.raises(StoreError, match=r"cannot read .* \(Permission denied\)$"):
        store.read()


def test_nothing_accumulates_beside_the_file(store: Store) -> None:
    for number in range(5):
        store.write(Kept({"DEADLINE": number + 1}, ID))
        settle(store)
        damage(store, b"{" * number)
        store.read()
    assert neighbours(store) == ["settings.json", "settings.json.bak", "settings.json.damaged"]


def test_a_link_that_leads_in_a_circle_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(StoreError, match=r"^SETTINGS_FILE: "):
        Store(str(tmp_path / "a")).read()


def test_a_link_to_nowhere_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "conf" / "settings.json")
    Store(str(tmp_path / "link.json")).write(OLD)
    assert Store(str(tmp_path / "conf" / "settings.json")).read() == OLD


def test_neither_repr_nor_errors_hold_what_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SECRET not in repr(OLD)
    monkeypatch.setattr(Path, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.write(OLD)
    assert list(store.path.parent.iterdir()) == []


def test_the_file_is_json_that_a_person_can_read(store: Store) -> None:
    store.write(NEW)
    text = store.path.read_text()
    assert json.loads(text) == {"SERVER_ID": ID, "KEY_TERMS": ["Zoë"], "DEADLINE": 6}
    assert "Zoë" in text
    assert text.count("\n") > 3
