"""What a real server keeps on disk, through `kill -9`, full disks and power failures."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests import processes
from tests.end_to_end.speaker import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.processes import Process

KILLS = int(os.environ.get("KILLS", "5"))
"""More of them are worth a try after every change to what writes files."""
WITHOUT_A_MODEL = {"BACKENDS": "assemblyai", "ASSEMBLYAI_API_KEY": "a-key", "LOCAL_ENABLED": "false"}


class Owner:
    """Somebody who has the token of a server."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def change(self, **settings: Any) -> tuple[int, Any]:
        async with self._session.patch("/api/config", json={"settings": settings}) as answer:
            return answer.status, await answer.json()

    async def status(self) -> Any:
        async with self._session.get("/api/status") as answer:
            assert answer.status == HTTPStatus.OK
            return await answer.json()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "conf" / "settings.json"


def kept(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def neighbours(file: Path) -> set[str]:
    return {path.name for path in file.parent.iterdir()}


def put(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def settings_for(file: Path) -> dict[str, str]:
    return {**WITHOUT_A_MODEL, "SETTINGS_FILE": str(file), "API_PORT": str(processes.free_port())}


@asynccontextmanager
async def served(settings: dict[str, str], server: Process, file: Path) -> AsyncIterator[Owner]:
    await asyncio.to_thread(server.wait_logged, "API on")
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{settings['API_PORT']}",
        headers={"Authorization": f"Bearer {kept(file)['API_TOKEN']}"},
        timeout=aiohttp.ClientTimeout(PATIENCE),
    ) as session:
        yield Owner(session)


async def test_a_server_that_is_killed_while_settings_are_written_comes_back_as_itself(file: Path) -> None:
    chance, number, identities, settled = random.Random(7), 4, set(), {}
    for _ in range(KILLS):
        settings = settings_for(file)
        async with processes.on_thread(processes.server(**settings)) as server:
            async with served(settings, server, file) as owner:
                settled = kept(file)
                for _ in range(chance.randrange(1, 4)):
                    number += 1
                    status, _ = await owner.change(KEY_TERMS=["x" * 40] * number, MAX_CONNECTIONS=number)
                    assert status == HTTPStatus.OK
                    settled = kept(file)
                    assert settled["MAX_CONNECTIONS"] == number
                number += 1
                changing = asyncio.create_task(
                    owner.change(KEY_TERMS=["x" * 40] * number, MAX_CONNECTIONS=number)
                )
                await asyncio.sleep(chance.uniform(0, 0.006))  # somewhere between asking and answering
                server.send(signal.SIGKILL)
                with suppress(aiohttp.ClientError):
                    await changing
            assert await asyncio.to_thread(server.wait) == -signal.SIGKILL
        found = kept(file)
        new = {**settled, "KEY_TERMS": ["x" * 40] * number, "MAX_CONNECTIONS": number}
        assert found in (settled, new)
        identities.add((found["SERVER_ID"], found["API_TOKEN"]))
        leftovers = neighbours(file) - {"settings.json", "settings.json.bak", ".settings.json.lock"}
        assert len(leftovers) <= 1
    assert len(identities) == 1


async def test_a_full_disk_refuses_changes_until_there_is_room_again(file: Path) -> None:
    settings = settings_for(file)
    async with (
        processes.on_thread(processes.server(**settings)) as server,
        served(settings, server, file) as owner,
    ):
        before = kept(file)
        pid = server._process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))  # nothing fits, its log included
        for _ in range(3):
            assert await owner.change(DEADLINE=5) == (
                HTTPStatus.INTERNAL_SERVER_ERROR,
                {"code": "internal", "error": f"SETTINGS_FILE: cannot write {file} (File too large)"},
            )
        assert kept(file) == before
        assert (await owner.status())["deadline"] == 8.0
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        status, _ = await owner.change(DEADLINE=5)
        assert status == HTTPStatus.OK
        assert kept(file) == {**before, "DEADLINE": 5}
        assert (await owner.status())["deadline"] == 5.0
        assert neighbours(file) == {"settings.json", ".settings.json.lock"}
    assert "Traceback" not in server.log


@pytest.fixture
def in_a_small_disk(tmp_path: Path) -> tuple[list[str], Path]:
    """What a command needs before itself to see a disk of 64 KiB, which goes with it, at that place."""
    disk = tmp_path.resolve() / "disk"
    disk.mkdir()
    command = ["unshare", "-Urm", "sh", "-c", f'mount -t tmpfs -o size=64k none {disk} && exec "$@"', "sh"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"this kernel lets nobody mount anything, not even for oneself: {error}")
    return command, disk


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        for size in (4096, 1):
            with suppress(OSError):
                while True:
                    filler.write(b"x" * size)


def make_room(disk: Path) -> None:
    (disk / "filler").unlink()


async def test_a_disk_that_is_really_full_keeps_the_old_settings(
    in_a_small_disk: tuple[list[str], Path],
) -> None:
    command, disk = in_a_small_disk
    port = processes.free_port()
    settings = settings_for(disk / "settings.json") | {"URI": f"tcp://127.0.0.1:{port}"}
    server = processes.Process([*command, processes.SERVER], settings, port=port)
    try:
        await asyncio.to_thread(server.wait_logged, "API on")
        inside = Path(f"/proc/{server._process.pid}/root{disk}")
        async with served(settings, server, inside / "settings.json") as owner:
            before = kept(inside / "settings.json")
            fill(inside)
            status, answer = await owner.change(KEY_TERMS=["x" * 40] * 100)
            assert status == HTTPStatus.INTERNAL_SERVER_ERROR
            assert answer["error"] == (
                f"SETTINGS_FILE: cannot write {disk}/settings.json (No space left on device)"
            )
            assert kept(inside / "settings.json") == before
            assert await owner.status()
            make_room(inside)
            status, _ = await owner.change(KEY_TERMS=["x" * 40] * 100)
            assert status == HTTPStatus.OK
            assert len(kept(inside / "settings.json")["KEY_TERMS"]) == 100
    finally:
        assert await asyncio.to_thread(server.stop) == 0
    assert "Traceback" not in server.log


async def test_a_power_failure_that_emptied_the_file_costs_neither_settings_nor_token(file: Path) -> None:
    settings = settings_for(file)
    for number in range(2):  # the first start makes the file, the second one finds it good
        async with (
            processes.on_thread(processes.server(**settings)) as server,
            served(settings, server, file),
        ):
            assert bool(server.output) == (number == 0)
    before = kept(file)
    put(file, b"")
    put(file.with_name("usage.json"), b"\0\0\0")
    async with (
        processes.on_thread(processes.server(**settings)) as server,
        served(settings, server, file) as owner,
    ):
        assert (await owner.status())["id"] == before["SERVER_ID"]
    assert kept(file) == before
    assert server.output == ""
    assert server.log.count("the server goes on with settings.json.bak") == 1
    assert server.log.count("usage.json (it holds no usage); costs begin at zero") == 1


async def test_a_second_server_on_the_same_file_is_one_line_unless_it_keeps_nothing(file: Path) -> None:
    settings = settings_for(file)
    async with processes.on_thread(processes.server(**settings)) as server:
        await asyncio.to_thread(server.wait_logged, "API on")
        other = processes.Process(
            [processes.SERVER], {**settings_for(file), "URI": f"tcp://127.0.0.1:{processes.free_port()}"}
        )
        assert await asyncio.to_thread(other.wait) == 1
        assert other.log == (
            f"stt-failover: SETTINGS_FILE: {file} is in use by another server; "
            "give this one a file of its own, or API_PORT=0\n"
        )
        without = {**settings_for(file), "API_PORT": "0"}
        async with processes.on_thread(processes.server(**without)) as other:
            assert other.is_running
    assert "another server" not in other.log
