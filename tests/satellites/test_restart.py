"""The installed server stops, and starts again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.clips import MUTED, words
from tests.satellites.conftest import running_server
from tests.satellites.finder import Finder
from tests.satellites.satellite import WYOMING, LostError, Satellite, heard
from wyoming_server.announce import WYOMING_TYPE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.satellites.conftest import Lan


def test_server_that_starts_again_is_found_by_the_same_name_and_answers_again(
    lan: Lan, settings_file: Path
) -> None:
    async def follow() -> None:
        async with Finder() as finder:
            with running_server(lan, settings_file, "--zeroconf"):
                (name,) = await finder.wait(WYOMING_TYPE, 1)
                satellite = await Satellite(lan.server.address, WYOMING, speed=10.0).__aenter__()
                assert words(await satellite.say(MUTED)) == words(MUTED.text)
            await finder.wait(WYOMING_TYPE, 0)
            with pytest.raises((LostError, OSError)):
                await satellite.say(MUTED)
            await satellite.__aexit__(None, None, None)
            with running_server(lan, settings_file, "--zeroconf"):
                assert await finder.wait(WYOMING_TYPE, 1) == [name]
                assert words(await heard(lan.server.address, MUTED, speed=10.0)) == words(MUTED.text)

    lan.client.run(follow())


def test_two_servers_that_are_given_one_name_are_found_by_two(lan: Lan, tmp_path: Path) -> None:
    async def find() -> list[str]:
        nobody = {"BACKENDS": "whisper", "WHISPER_SERVICE_URL": "ws://127.0.0.1:9", "API_PORT": "0"}
        async with Finder() as finder:
            with running_server(lan, tmp_path / "one.json", "--zeroconf", "Küche", **nobody):
                await finder.wait(WYOMING_TYPE, 1)
                nobody["URI"] = "tcp://0.0.0.0:10310"
                with running_server(lan, tmp_path / "other.json", "--zeroconf", "Küche", **nobody):
                    return await finder.wait(WYOMING_TYPE, 2)

    longer, name = lan.client.run(find())
    assert name == f"Küche.{WYOMING_TYPE}"
    assert re.fullmatch(rf"Küche-[0-9a-f]{{6}}\.{re.escape(WYOMING_TYPE)}", longer)
