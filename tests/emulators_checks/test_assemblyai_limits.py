from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.emulators.assemblyai import (
    AssemblyAIEmulator,
    Latency,
    Rules,
    Script,
    Word,
)

if TYPE_CHECKING:
    from tests.emulators_checks.conftest import Dialer

SCRIPT = Script((Word("Turn", 100, 400), Word("on.", 400, 800, sentence_end=True)))
FAST = Rules(throttle=None)


@pytest.mark.parametrize("length_ms", [50, 1000])
async def test_frames_of_50_to_1000_ms_pass(dial: Dialer, length_ms: int) -> None:
    async with AssemblyAIEmulator(rules=FAST) as emulator:
        client = await dial(emulator)
        await client.audio(3000, frame_ms=length_ms)
        await client.tell("Terminate")
        assert (await client.rest())[-1]["type"] == "Termination"


async def test_a_frame_of_more_than_a_second_is_refused_at_once(dial: Dialer) -> None:
    async with AssemblyAIEmulator() as emulator:
        client = await dial(emulator)
        await client.ws.send_bytes(bytes(32 * 1200))
        text, code = await client.error()

    assert code == 3007
    assert (
        text == "Input Duration Error: Input Duration Violation: 1200.0 ms. Expected between 50 and 1000 ms"
    )


async def test_short_frames_are_refused_after_a_second_of_them(dial: Dialer) -> None:
    async with AssemblyAIEmulator(rules=FAST) as emulator:
        client = await dial(emulator)
        await client.audio(49 * 20, frame_ms=20)
        await client.tell("ForceEndpoint")
        await client.next()
        assert await client.quiet()
    async with AssemblyAIEmulator(rules=FAST) as emulator:
        client = await dial(emulator)
        await client.audio(50 * 20, frame_ms=20)
        text, code = await client.error()
        assert len(emulator.sessions[0].frame_sizes) == 50

    assert code == 3007
    assert "20.0 ms" in text


async def test_one_short_last_frame_survives(dial: Dialer) -> None:
    async with AssemblyAIEmulator(script=SCRIPT, rules=FAST) as emulator:
        client = await dial(emulator)
        await client.audio(800)
        await client.ws.send_bytes(bytes(32 * 13))
        await client.tell("ForceEndpoint")
        assert (await client.final())["transcript"] == "Turn on."


async def test_a_message_over_128_kilobytes_closes_with_1009(dial: Dialer) -> None:
    async with AssemblyAIEmulator() as emulator:
        client = await dial(emulator)
        await client.next()
        await client.ws.send_bytes(bytes(129 * 1024))
        assert (await client.frame()).type is aiohttp.WSMsgType.CLOSE
        await emulator.sessions[0].closed.wait()

    assert client.ws.close_code == 1009
    assert (emulator.sessions[0].close_code, emulator.sessions[0].closed_by) == (1009, "server")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "Invalid JSON: "),
        ("[]", "Invalid JSON: "),
        ('{"type": "Bogus"}', "Invalid Message Type: Bogus"),
        ('{"type": "UpdateConfiguration", "keyterms_prompt": "Hue"}', "Invalid JSON array"),
    ],
)
async def test_bad_messages_end_the_session(dial: Dialer, text: str, error: str) -> None:
    async with AssemblyAIEmulator() as emulator:
        client = await dial(emulator)
        await client.ws.send_str(text)
        answer, code = await client.error()

    assert code == 3006
    assert answer.startswith("User Input Validation Error: ")
    assert error in answer


async def test_inactivity_ends_the_session(dial: Dialer) -> None:
    async with AssemblyAIEmulator(rules=Rules(inactivity_unit=0.01)) as emulator:
        client = await dial(emulator, inactivity_timeout=5)
        text, code = await client.error()

    assert (code, text) == (3006, "Session terminated due to inactivity: No messages received for 5 seconds")


async def test_keep_alive_puts_inactivity_off(dial: Dialer) -> None:
    async with AssemblyAIEmulator(rules=Rules(inactivity_unit=0.1)) as emulator:
        client = await dial(emulator, inactivity_timeout=5)
        for _ in range(7):
            await asyncio.sleep(0.1)
            await client.tell("KeepAlive")
        await client.error()
        record = emulator.sessions[0]

    assert record.closed_at is not None
    assert record.closed_at >= record.received[-1][0] + 0.5
    assert record.message_types == ["KeepAlive"] * 7


async def test_the_session_expires(dial: Dialer) -> None:
    async with AssemblyAIEmulator(rules=Rules(max_session=0.05)) as emulator:
        client = await dial(emulator)
        _, code = await client.error()

    assert code == 3008


async def test_heartbeats_come_when_asked_for(dial: Dialer) -> None:
    async with AssemblyAIEmulator(rules=Rules(heartbeat=0.02, throttle=None)) as emulator:
        client = await dial(emulator)
        await client.audio(500)
        await client.next()
        assert await client.quiet()
        client = await dial(emulator)
        await client.audio(500)
        await client.tell("UpdateConfiguration", session_heartbeat=True)
        *_, beat = await client.until("Heartbeat")

    assert beat["total_audio_received_ms"] == 500
    assert set(beat) == {
        "type",
        "total_audio_received_ms",
        "total_duration_ms",
        "realtime_factor",
        "max_speech_probability",
    }


async def test_one_session_too_many_is_refused(dial: Dialer) -> None:
    async with AssemblyAIEmulator(rules=Rules(max_sessions=1)) as emulator:
        first = await dial(emulator)
        await first.next()
        text, code = await (await dial(emulator)).error()
        await first.tell("Terminate")
        await first.rest()
        await emulator.sessions[0].closed.wait()
        assert (await (await dial(emulator)).next())["type"] == "Begin"

    assert (code, text) == (1008, "Unauthorized Connection: Too many concurrent sessions")


async def test_audio_sent_fast_is_worked_on_at_the_throttle(dial: Dialer) -> None:
    rules = Rules(throttle=4.0)
    async with AssemblyAIEmulator(script=SCRIPT, rules=rules, latency=Latency.zero()) as emulator:
        client = await dial(emulator)
        await client.audio(800)
        await client.tell("ForceEndpoint")
        await client.final()
        record = emulator.sessions[0]

    assert record.first_audio_at is not None
    assert record.sent[-1][0] - record.first_audio_at >= 0.7 / 4
    assert record.received[0][0] < record.sent[-1][0] - 0.1


async def test_a_backlog_past_the_limit_is_refused(dial: Dialer) -> None:
    async with AssemblyAIEmulator(rules=Rules(max_backlog=2.0)) as emulator:
        client = await dial(emulator)
        await client.audio(5000, frame_ms=1000)
        text, code = await client.error()

    assert code == 3007
    assert text.startswith("Audio Transmission Rate Exceeded: Received ")
