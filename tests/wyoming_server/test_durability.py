"""The settings of a running house, whatever becomes of its file meanwhile."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.wyoming_server.houses import ALL, KEY, TOKEN, Works, house_at
from wyoming_server.errors import SettingsError
from wyoming_server.house import House
from wyoming_server.settings import load
from wyoming_server.store import Store, StoreError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _works(monkeypatch: pytest.MonkeyPatch) -> None:
    Works(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "conf" / "settings.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"API_TOKEN": TOKEN, "ASSEMBLYAI_API_KEY": KEY, "BACKENDS": ["assemblyai"]}))
    return path


def content(path: Path) -> bytes:
    return path.read_bytes()


def put(path: Path, content: bytes | dict[str, Any]) -> None:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def remove(path: Path) -> None:
    path.unlink()


def remove_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def read(path: Path) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(content(path))
    return kept


async def test_a_file_that_was_removed_comes_back_with_the_next_change(path: Path) -> None:
    async with house_at(path) as house:
        before = read(path)
        remove(path)
        await house.change({"DEADLINE": 5})
        assert read(path) == {**before, "DEADLINE": 5}
        remove(path)
        await house.change({})
        assert read(path) == {**before, "DEADLINE": 5}


async def test_a_folder_that_was_removed_comes_back_with_the_next_change(path: Path) -> None:
    async with house_at(path) as house:
        before = read(path)
        remove_folder(path)
        await house.change({"DEADLINE": 5})
        assert read(path) == {**before, "DEADLINE": 5}


async def test_what_somebody_wrote_into_it_wins_but_for_what_is_changed_and_who_the_server_is(
    path: Path,
) -> None:
    async with house_at(path) as house:
        by_hand = {
            "SERVER_ID": "0" * 32,
            "DEADLINE": 7,
            "HEDGE_MIN": 0.5,
            "BACKENDS": ["assemblyai"],
            "ASSEMBLYAI_API_KEY": "by-hand",
        }
        put(path, by_hand)
        await house.change({"DEADLINE": 5})
        assert read(path) == {**by_hand, "DEADLINE": 5, "SERVER_ID": house.server_id}
        assert house.settings.assemblyai_api_key == "by-hand"
        assert house.settings.hedge_min == 0.5


async def test_nonsense_that_somebody_wrote_into_it_is_named_and_changes_nothing(path: Path) -> None:
    async with house_at(path) as house:
        settings = house.settings
        put(path, {"DEADLINE": "soon", "BACKENDS": ["assemblyai"], "ASSEMBLYAI_API_KEY": KEY})
        before = content(path)
        with pytest.raises(SettingsError, match=r"^DEADLINE "):
            await house.change({"HEDGE_MIN": 0.5})
        assert house.settings is settings
        assert content(path) == before


async def test_a_file_that_breaks_while_the_server_runs_is_mended_by_the_next_change(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with house_at(path):
        pass  # the first start made the id
    async with house_at(path) as house:
        before = read(path)
        put(path, b"\0" * 512)
        await house.change({"DEADLINE": 5})
        assert read(path) == {**before, "DEADLINE": 5}
        assert "the server goes on with settings.json.bak" in caplog.text


async def test_a_file_that_became_unreadable_is_one_line_and_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bytes:  # root may read anything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    async with house_at(path) as house:
        before = content(path)
        with monkeypatch.context() as patched:
            patched.setattr("pathlib.Path.read_bytes", refuse)
            with pytest.raises(StoreError, match=r"cannot read .* \(Permission denied\)$"):
                await house.change({"DEADLINE": 5})
        assert content(path) == before
        await house.change({"DEADLINE": 5})
        assert house.settings.deadline == 5


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
async def test_a_disk_that_fails_in_the_middle_changes_nothing_and_works_again_later(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async with house_at(path) as house:
        before, settings = content(path), house.settings

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patched:
            patched.setattr(call, fail)
            with pytest.raises(StoreError, match=r"cannot write .* \(Input/output error\)$"):
                await house.change({"DEADLINE": 5})
        assert (content(path), house.settings) == (before, settings)
        await house.change({"DEADLINE": 5})
        assert (read(path)["DEADLINE"], house.settings.deadline) == (5, 5.0)


async def test_the_first_change_that_works_keeps_id_and_token_that_could_not_be_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(path, {})

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    async with aiohttp.ClientSession() as session:
        house = House(load({"SETTINGS_FILE": str(path), **ALL}, {}), session)
        with monkeypatch.context() as patched:
            patched.setattr("tempfile.mkstemp", refuse)
            identity = house.identify(Store(str(path)))
        assert not identity.is_kept
        await house.change({"DEADLINE": 5})
        assert read(path) == {
            "SERVER_ID": identity.server_id,
            "API_TOKEN": identity.token,
            "DEADLINE": 5,
        }
        await house.close()
