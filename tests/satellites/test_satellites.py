"""The installed server is found across a network, and hears what is said there, with its real local model."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.end_to_end.clips import MUTED, PASSWORD, words
from tests.satellites.conftest import API, TOKEN
from tests.satellites.finder import Finder
from tests.satellites.satellite import WYOMING, Satellite, heard
from wyoming_server.announce import API_TYPE, WYOMING_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.processes import Process
    from tests.satellites.conftest import Lan

_LOOK_SECONDS = 0.05


@pytest.fixture(autouse=True)
def _good_cable(lan: Lan) -> Iterator[None]:
    yield
    lan.cable.heal()


async def _connected(host: str) -> int:
    """How many Wyoming clients the server believes to have."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"http://{host}:{API}/metrics") as reply,
    ):
        found = re.search(r'open_connections\{kind="wyoming"\} (\d+)', await reply.text())
    assert found
    return int(found[1])


async def _health(host: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"http://{host}:{API}/health") as reply:
        health: dict[str, Any] = await reply.json()
        return health


def test_server_is_found_at_its_real_address_by_what_home_assistant_looks_with(
    lan: Lan, server: Process
) -> None:
    async def find() -> None:
        async with Finder() as finder:
            (wyoming,), (api,) = await finder.wait(WYOMING_TYPE, 1), await finder.wait(API_TYPE, 1)
            infos = await finder.resolve(WYOMING_TYPE, wyoming), await finder.resolve(API_TYPE, api)
        assert [info.parsed_addresses() for info in infos] == [[lan.server.address]] * 2
        assert [info.port for info in infos] == [WYOMING, API]
        health = await _health(lan.server.address)
        told = {"id": health["id"], "version": health["version"], "wyoming_port": str(WYOMING)}
        assert infos[1].decoded_properties == told
        assert wyoming == f"stt-failover-{health['id'][:8]}.{WYOMING_TYPE}"

    lan.client.run(find())


@pytest.mark.parametrize(("chunk_ms", "speed"), [(10, 1.0), (64, 20.0)])
def test_chunks_of_any_length_and_speed_give_the_words(
    lan: Lan, server: Process, chunk_ms: int, speed: float
) -> None:
    text = lan.client.run(heard(lan.server.address, MUTED, chunk_ms=chunk_ms, speed=speed))
    assert words(text) == words(MUTED.text)


def test_a_kept_connection_takes_one_utterance_after_another_and_says_who_answers(
    lan: Lan, server: Process
) -> None:
    async def speak() -> list[str]:
        async with Satellite(lan.server.address, WYOMING, speed=10.0) as satellite:
            text = await satellite.say(MUTED)
            (program,) = (await satellite.describe()).asr
            return [text, program.name, await satellite.say(PASSWORD)]

    first, program, second = lan.client.run(speak())
    assert (words(first), program, words(second)) == (words(MUTED.text), "stt-failover", words(PASSWORD.text))


def test_several_at_once_are_each_given_their_own_words_while_home_assistant_asks_who_is_there(
    lan: Lan, server: Process
) -> None:
    clips = (MUTED, PASSWORD, MUTED)

    async def describe() -> None:
        while True:
            async with Satellite(lan.server.address, WYOMING) as asking:
                await asking.describe()
            await asyncio.sleep(_LOOK_SECONDS)

    async def speak() -> list[str]:
        asking = asyncio.create_task(describe())
        texts = await asyncio.gather(*(heard(lan.server.address, clip, speed=2.0) for clip in clips))
        assert not asking.done()
        asking.cancel()
        return texts

    assert [words(text) for text in lan.client.run(speak())] == [words(clip.text) for clip in clips]


def test_a_cable_that_is_out_for_a_moment_costs_no_word(lan: Lan, server: Process) -> None:
    async def speak() -> str:
        async with Satellite(lan.server.address, WYOMING) as satellite:
            half = len(MUTED.pcm) // 4 * 2
            await satellite.begin(MUTED)
            await satellite.stream(MUTED.pcm[:half])
            lan.cable.pull()
            speaking = asyncio.create_task(satellite.stream(MUTED.pcm[half:]))
            await asyncio.sleep(0.5)
            lan.cable.plug()
            await speaking
            return await satellite.finish()

    assert words(lan.client.run(speak())) == words(MUTED.text)


def test_a_cable_that_stays_out_frees_the_connection_and_the_next_utterance_is_answered(
    lan: Lan, server: Process
) -> None:
    async def speak_half() -> None:
        satellite = await Satellite(lan.server.address, WYOMING).__aenter__()
        await satellite.begin(MUTED)
        await satellite.stream(MUTED.pcm[: len(MUTED.pcm) // 4 * 2])
        assert await _connected(lan.server.address)
        lan.cable.pull()

    async def until_it_is_free() -> None:
        async with asyncio.timeout(60):
            while await _connected("127.0.0.1"):  # noqa: ASYNC110 - another process, which tells nobody
                await asyncio.sleep(_LOOK_SECONDS)

    lan.client.run(speak_half())
    lan.server.run(until_it_is_free())
    lan.cable.plug()
    assert words(lan.client.run(heard(lan.server.address, MUTED, speed=10.0))) == words(MUTED.text)


def test_a_bad_radio_link_costs_time_but_no_word(lan: Lan, server: Process) -> None:
    lan.cable.delay, lan.cable.loss, lost = 0.03, 0.05, lan.cable.lost
    assert words(lan.client.run(heard(lan.server.address, MUTED, speed=2.0))) == words(MUTED.text)
    assert lan.cable.lost > lost
