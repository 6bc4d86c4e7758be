"""What a house has used is there after a restart, and nobody is hurt where it cannot be."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.fakes import PATIENCE
from tests.wyoming_server.houses import ALL, TOKEN, Works, house_at
from wyoming_server.errors import UnavailableError
from wyoming_server.house import House
from wyoming_server.keeping import SECONDS, Keeper
from wyoming_server.lock import Lock
from wyoming_server.settings import load
from wyoming_server.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Clock:
    """Lets a keeper's minutes pass when the test says so."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._wakes = asyncio.Semaphore(0)
        self._asleep = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.release()
        await self._wakes.acquire()

    async def fell_asleep(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._asleep.acquire()

    async def minute(self) -> None:
        """Let one pass, and all be done that belongs to it."""
        self._wakes.release()
        await self.fell_asleep()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "conf" / "settings.json"


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch, path: Path) -> AsyncIterator[House]:
    Works(monkeypatch)
    async with house_at(path, ALL) as house:
        yield house


def usage(path: Path) -> Path:
    return path.with_name("usage.json")


def is_there(path: Path) -> bool:
    return path.exists()


def content(path: Path) -> bytes:
    return path.read_bytes()


def remove(path: Path) -> None:
    path.unlink()


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkstemp", full)


async def test_what_was_used_is_written_once_a_minute_and_only_if_it_changed(
    house: House, path: Path
) -> None:
    clock = Clock()
    keeper = Keeper(house, Store(str(path)), sleep=clock.sleep)
    task = asyncio.create_task(keeper.run())
    await clock.fell_asleep()
    await clock.minute()
    assert not usage(path).exists()
    house.costs.add("assemblyai", 5)
    house.costs.add("assemblyai", 6)
    assert not usage(path).exists()
    await clock.minute()
    (day,) = json.loads(usage(path).read_text())["days"]
    assert day["seconds"] == {"assemblyai": 11}
    written = usage(path).stat().st_ino
    await clock.minute()
    assert usage(path).stat().st_ino == written
    assert set(clock.slept) == {SECONDS}
    task.cancel()
    await keeper.close()


async def test_a_defect_is_logged_and_does_not_end_the_keeping(
    house: House, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    keeper = Keeper(house, Store(str(path)), sleep=clock.sleep)
    task = asyncio.create_task(keeper.run())
    await clock.fell_asleep()
    with monkeypatch.context() as patched:
        patched.setattr(house, "settle", lambda: 1 / 0)
        await clock.minute()
    assert "tried again in a minute" in caplog.text
    house.costs.add("whisper", 1)
    await clock.minute()
    assert usage(path).exists()
    task.cancel()
    await keeper.close()


async def test_the_end_keeps_what_was_used_since(house: House, path: Path) -> None:
    keeper = Keeper(house, Store(str(path)))
    house.costs.add("whisper", 2.5)
    await keeper.close()
    async with house_at(path, ALL) as again:
        keeper = Keeper(again, Store(str(path)))
        assert (again.costs.seconds("whisper"), again.costs.month_seconds("whisper")) == (2.5, 2.5)
        await keeper.close()


async def test_a_full_disk_is_told_once_and_costs_are_kept_as_soon_as_there_is_room(
    house: House, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(house, Store(str(path)))
    with monkeypatch.context() as patched:
        no_room(patched)
        for _ in range(3):
            house.costs.add("whisper", 1)
            await keeper.keep()
    (line,) = caplog.messages
    assert line == (
        f"cannot write {usage(path)} (No space left on device); "
        "costs since the last time are lost at a restart"
    )
    assert house.costs.seconds("whisper") == 3
    await keeper.close()
    (day,) = json.loads(usage(path).read_text())["days"]
    assert day["seconds"] == {"whisper": 3}


async def test_two_servers_on_one_settings_file_are_one_line(house: House, path: Path) -> None:
    one, other = Keeper(house, Store(str(path))), Keeper(house, Store(str(path)))
    one.claim()
    with pytest.raises(UnavailableError) as caught:
        other.claim()
    assert str(caught.value) == (
        f"SETTINGS_FILE: {path} is in use by another server; give this one a file of its own, or API_PORT=0"
    )
    await one.close()
    other.claim()
    await other.close()


async def test_a_server_without_an_api_leaves_the_costs_of_another_one_alone(
    house: House, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = Lock(path)
    assert lock.take()
    keeper = Keeper(house, Store(str(path)))
    for _ in range(2):
        house.costs.add("whisper", 1)
        await keeper.keep()
    assert caplog.messages == [f"{usage(path)} belongs to another server; costs of this one are not kept"]
    assert not usage(path).exists()
    lock.release()
    await keeper.close()
    assert usage(path).exists()


async def test_a_disk_that_hangs_holds_up_nobody_but_itself(
    house: House, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    clock = Clock()
    keeper = Keeper(house, Store(str(path)), sleep=clock.sleep)
    with monkeypatch.context() as patched:
        patched.setattr("wyoming_server.usage.replace_file", lambda *_: goes_on.wait(PATIENCE))
        task = asyncio.create_task(keeper.run())
        await clock.fell_asleep()
        house.costs.add("whisper", 1)
        clock._wakes.release()
        assert await house.change({"DEADLINE": 5}) == []
        house.costs.add("whisper", 1)
        task.cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await keeper.close()
        goes_on.set()


async def test_without_a_store_everything_lasts_until_the_server_stops(house: House, path: Path) -> None:
    keeper = Keeper(house, None)
    keeper.claim()
    house.costs.add("whisper", 1)
    await keeper.close()
    assert not usage(path).exists()


async def test_a_user_without_a_home_has_nowhere_to_keep_costs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wyoming_server.store.DEFAULT_PATH", "~nobody-of-this-name/settings.json")
    keeper = Keeper(house, Store(""))
    keeper.claim()
    house.costs.add("whisper", 1)
    await keeper.close()


async def test_an_id_and_a_token_that_could_not_be_kept_are_kept_once_that_is_possible(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    Works(monkeypatch)
    async with aiohttp.ClientSession() as session:
        house = House(load({"SETTINGS_FILE": str(path), **ALL}, {}), session)
        keeper = Keeper(house, Store(str(path)))
        with monkeypatch.context() as patched:
            no_room(patched)
            identity = house.identify(Store(str(path)))
            await keeper.keep()
        assert not is_there(path)
        await keeper.keep()
        kept = {"SERVER_ID": identity.server_id, "API_TOKEN": identity.token}
        assert json.loads(content(path)) == kept
        remove(path)  # it is no business of the keeper's any more
        await keeper.close()
        assert not is_there(path)
        await house.close()


async def test_the_last_good_state_of_the_settings_follows_two_minutes_later(
    house: House, path: Path
) -> None:
    keeper, backup = Keeper(house, Store(str(path))), path.with_name("settings.json.bak")
    await house.change({"DEADLINE": 5})
    await keeper.keep()
    assert not is_there(backup)
    await keeper.keep()
    assert content(backup) == content(path)
    assert TOKEN.encode() not in content(path)
    await keeper.close()
