from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.emulators.assemblyai import (
    AssemblyAIEmulator,
    Close,
    DelayFinal,
    Drop,
    EmptyFinal,
    ErrorFrame,
    Fault,
    HttpStatus,
    NeverAnswer,
    Rules,
    Script,
    Send,
    SlowBegin,
    Stall,
    StopReading,
    SwapFinals,
    Word,
)

if TYPE_CHECKING:
    from tests.emulators_checks.conftest import Client, Dialer

SCRIPT = Script((Word("Turn", 100, 400), Word("on.", 400, 800, sentence_end=True)))


def emulator_with(*faults: Fault) -> AssemblyAIEmulator:
    return AssemblyAIEmulator(script=SCRIPT, rules=Rules(throttle=None), faults=faults)


async def speak(client: Client, length_ms: int = 850) -> None:
    await client.audio(length_ms)
    await client.tell("ForceEndpoint")


async def test_an_impossible_combination_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="HttpStatus cannot happen at 'audio'"):
        Fault("audio", HttpStatus(500))
    with pytest.raises(ValueError, match="SwapFinals cannot happen at 'connect'"):
        Fault("connect", SwapFinals())


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
async def test_an_http_status_at_the_upgrade(dial: Dialer, status: int) -> None:
    async with emulator_with(Fault("connect", HttpStatus(status))) as emulator:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await dial(emulator)

    assert refused.value.status == status
    assert emulator.sessions[0].http_status == status


async def test_a_rate_limit_says_when_to_come_back(dial: Dialer) -> None:
    async with emulator_with(Fault("connect", HttpStatus(429, retry_after=7))) as emulator:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await dial(emulator)

    assert refused.value.headers is not None
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "7")


async def test_an_upgrade_that_is_never_answered(dial: Dialer) -> None:
    async with emulator_with(Fault("connect", NeverAnswer())) as emulator:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await dial(emulator)
        assert emulator.sessions[0].http_status is None


async def test_a_reset_at_the_upgrade(dial: Dialer) -> None:
    async with emulator_with(Fault("connect", Drop())) as emulator:
        with pytest.raises(aiohttp.ClientError):
            await dial(emulator)


async def test_begin_never_comes(dial: Dialer) -> None:
    async with emulator_with(Fault("connect", Stall())) as emulator:
        client = await dial(emulator)
        await speak(client)
        assert await client.quiet()
        assert emulator.sessions[0].audio_bytes == 850 * 32


async def test_begin_comes_late(dial: Dialer) -> None:
    async with emulator_with(Fault("connect", SlowBegin(0.2))) as emulator:
        client = await dial(emulator)
        await speak(client)
        assert (await client.next())["type"] == "Begin"
        assert (await client.final())["transcript"] == "Turn on."
        record = emulator.sessions[0]

    assert record.begun_at is not None
    assert record.begun_at - record.opened_at >= 0.2


async def test_an_error_frame_at_connect(dial: Dialer) -> None:
    text = "Unauthorized Connection: no funds"
    async with emulator_with(Fault("connect", ErrorFrame(1008, text))) as emulator:
        assert await (await dial(emulator)).error() == (text, 1008)
    assert emulator.sessions[0].begun_at is None


async def test_a_fault_comes_only_after_its_audio(dial: Dialer) -> None:
    async with emulator_with(Fault("audio", Close(1011, "oops"), audio_ms=500)) as emulator:
        client = await dial(emulator)
        await client.next()
        await client.audio(450)
        assert await client.quiet()
    async with emulator_with(Fault("audio", Close(1011, "oops"), audio_ms=500)) as emulator:
        client = await dial(emulator)
        await client.audio(500)
        assert [message["type"] for message in await client.rest()] in (["Begin"], [])

    assert client.ws.close_code == 1011


async def test_a_reset_in_mid_speech(dial: Dialer) -> None:
    async with emulator_with(Fault("audio", Drop(), audio_ms=500)) as emulator:
        client = await dial(emulator)
        await client.next()
        await client.audio(500)
        frame = await client.frame()
        await emulator.sessions[0].closed.wait()

    assert frame.type in {aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSED}
    assert (emulator.sessions[0].close_code, emulator.sessions[0].closed_by) == (1006, "server")


async def test_an_error_frame_in_mid_speech(dial: Dialer) -> None:
    text = "Session Cancelled: An error occurred"
    async with emulator_with(Fault("audio", ErrorFrame(3005, text), audio_ms=500)) as emulator:
        client = await dial(emulator)
        await client.audio(500)
        assert await client.error() == (text, 3005)


async def test_a_stall_in_mid_speech_reads_on(dial: Dialer) -> None:
    async with emulator_with(Fault("audio", Stall(), audio_ms=200)) as emulator:
        client = await dial(emulator)
        await client.next()
        await speak(client)
        await client.tell("Terminate")
        assert await client.quiet()
        assert emulator.sessions[0].audio_bytes == 850 * 32
        assert emulator.sessions[0].terminated


async def test_a_service_that_stops_reading_blocks_its_client(dial: Dialer) -> None:
    async with emulator_with(Fault("audio", StopReading(), audio_ms=200)) as emulator:
        client = await dial(emulator)
        await client.next()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await client.audio(3_600_000, frame_ms=1000)
        assert emulator.sessions[0].audio_bytes < 100_000_000


@pytest.mark.parametrize("data", ["not json{", b"\xff\xfe\0garbage", '{"type": "Novelty", "x": 1}', "[1, 2]"])
async def test_garbage_comes_between_good_messages(dial: Dialer, data: str | bytes) -> None:
    async with emulator_with(Fault("audio", Send(data), audio_ms=100)) as emulator:
        client = await dial(emulator)
        await client.next()
        await speak(client)
        assert (await client.frame()).data == data
        assert (await client.final())["transcript"] == "Turn on."


async def test_an_unknown_message_type(dial: Dialer) -> None:
    novelty = {"type": "Novelty", "x": 1}
    async with emulator_with(Fault("connect", Send(novelty))) as emulator:
        client = await dial(emulator)
        assert await client.next() == novelty
        assert (await client.next())["type"] == "Begin"


@pytest.mark.parametrize("kind", ["ForceEndpoint", "Terminate"])
async def test_silence_after_the_end(dial: Dialer, kind: str) -> None:
    async with emulator_with(Fault("end", Stall())) as emulator:
        client = await dial(emulator, interruption_delay=1000)
        await client.audio(850)
        await client.next()
        await client.tell(kind)
        assert await client.quiet()


async def test_an_end_fault_waits_for_its_message(dial: Dialer) -> None:
    async with emulator_with(Fault("end", Drop(), on=("Terminate",))) as emulator:
        client = await dial(emulator)
        await speak(client)
        assert (await client.final())["transcript"] == "Turn on."
        await client.tell("Terminate")
        assert (await client.frame()).type in {aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSED}


async def test_an_empty_final(dial: Dialer) -> None:
    async with emulator_with(Fault("end", EmptyFinal())) as emulator:
        client = await dial(emulator)
        await speak(client)
        assert (await client.final())["words"] == []


async def test_a_delayed_final(dial: Dialer) -> None:
    async with emulator_with(Fault("end", DelayFinal(0.2))) as emulator:
        client = await dial(emulator)
        await speak(client)
        await client.final()
        record = emulator.sessions[0]

    assert record.sent[-1][0] - record.received[-1][0] >= 0.2


async def test_finals_out_of_order(dial: Dialer) -> None:
    async with emulator_with(Fault("end", SwapFinals())) as emulator:
        client = await dial(emulator)
        await speak(client)
        finals = [await client.final(), await client.final()]

    assert [(final["turn_order"], final["transcript"]) for final in finals] == [(1, "on."), (0, "Turn")]


async def test_an_error_after_the_end(dial: Dialer) -> None:
    async with emulator_with(Fault("end", ErrorFrame(3005, "Session Cancelled"))) as emulator:
        client = await dial(emulator)
        await speak(client)
        assert await client.error() == ("Session Cancelled", 3005)


async def test_a_fault_of_one_session_only(dial: Dialer) -> None:
    async with emulator_with(Fault("connect", HttpStatus(503), sessions=[1])) as emulator:
        await dial(emulator)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await dial(emulator)
        await dial(emulator)


async def test_faults_chosen_by_the_number_of_the_session(dial: Dialer) -> None:
    async with emulator_with() as emulator:
        emulator.faults = lambda index: [Fault("connect", HttpStatus(500))] if index < 1 else []
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await dial(emulator)
        assert (await (await dial(emulator)).next())["type"] == "Begin"
