from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.emulators.assemblyai import (
    AssemblyAIEmulator,
    Latency,
    Rules,
    Script,
    SessionRecord,
    Word,
    by_recording,
)

if TYPE_CHECKING:
    from tests.emulators_checks.conftest import Dialer

SCRIPT = Script((Word("Turn", 100, 400), Word("on.", 400, 800, sentence_end=True)))
US = {"speech_model": "universal-streaming-english"}
FAST = Rules(throttle=None)


async def test_begin_comes_first_and_tells_the_configuration(dial: Dialer) -> None:
    async with AssemblyAIEmulator() as emulator:
        client = await dial(emulator, speech_model="universal-3-5-pro", mode="min_latency", sample_rte=1)
        begin = await client.next()

    assert begin["type"] == "Begin"
    assert begin["configuration"]["model"] == "universal-3-5-pro"
    assert begin["configuration"]["mode"] == "min_latency"
    assert len(begin["configuration"]) == 8
    assert 10_790 < begin["expires_at"] - time.time() < 10_801


@pytest.mark.parametrize(
    "credentials", [{"key": "good-key"}, {"key": "a-token"}, {"key": None, "token": "a-token"}]
)
async def test_a_key_or_token_opens_a_session(dial: Dialer, credentials: dict[str, Any]) -> None:
    async with AssemblyAIEmulator({"good-key"}, tokens={"a-token"}) as emulator:
        client = await dial(emulator, **credentials)
        assert (await client.next())["type"] == "Begin"


@pytest.mark.parametrize(
    ("credentials", "why"),
    [
        ({"key": None}, "Missing Authorization header"),
        ({"key": "bad-key"}, "Invalid API key"),
        ({"key": "Bearer good-key"}, "Invalid API key"),
        ({"key": None, "token": "bad-token"}, "Invalid API key"),
        ({"key": "old-token"}, "Signature has expired"),
    ],
)
async def test_bad_credentials_get_an_error_frame_and_no_begin(
    dial: Dialer, credentials: dict[str, Any], why: str
) -> None:
    async with AssemblyAIEmulator({"good-key"}, expired_tokens={"old-token"}) as emulator:
        client = await dial(emulator, **credentials)
        messages = await client.rest()
        record = emulator.sessions[0]

    assert messages == [{"type": "Error", "error_code": 1008, "error": f"Unauthorized Connection: {why}"}]
    assert client.ws.close_code == 1008
    assert (record.close_code, record.closed_by, record.billed_seconds) == (1008, "server", 0.0)


async def test_an_invalid_parameter_gets_an_error_frame(dial: Dialer) -> None:
    async with AssemblyAIEmulator() as emulator:
        client = await dial(emulator, query="sample_rate=4000")
        text, code = await client.error()

    assert code == 3006
    assert "sample_rate" in text


async def test_a_whole_session(dial: Dialer) -> None:
    async with AssemblyAIEmulator(script=SCRIPT, rules=FAST) as emulator:
        client = await dial(emulator, mode="min_latency")
        await client.audio(850)
        await client.tell("Terminate")
        messages = await client.rest()
        record = emulator.sessions[0]
        await record.closed.wait()

    assert [message["type"] for message in messages] == [
        "Begin",
        "SpeechStarted",
        "Turn",
        "Turn",
        "Termination",
    ]
    assert messages[-2]["transcript"] == "Turn on."
    assert messages[-1]["audio_duration_seconds"] == 1
    assert client.ws.close_code == 1000
    assert (record.terminated, record.close_code, record.closed_by) == (True, 1000, "server")
    assert record.closed_at is not None
    assert record.begun_at is not None
    assert record.billed_seconds == record.closed_at - record.begun_at


async def test_a_client_that_leaves_without_terminate_pays_for_three_hours(dial: Dialer) -> None:
    async with AssemblyAIEmulator() as emulator:
        client = await dial(emulator)
        await client.next()
        await client.ws.close()
        record = await emulator.session(0)
        await record.closed.wait()

    assert (record.terminated, record.closed_by, record.billed_seconds) == (False, "client", 10_800.0)


async def test_the_record_holds_what_was_sent(dial: Dialer) -> None:
    async with AssemblyAIEmulator(rules=FAST) as emulator:
        client = await dial(emulator, keyterms_prompt='["Hue"]')
        await client.ws.send_bytes(b"\1\2" * 800)
        await client.ws.send_bytes(b"\3\4" * 1600)
        await client.tell("KeepAlive")
        await client.tell("UpdateConfiguration", keyterms_prompt=["Sonos"])
        await client.tell("Terminate")
        await client.rest()
        record = emulator.sessions[0]

    assert bytes(record.audio) == b"\1\2" * 800 + b"\3\4" * 1600
    assert (record.audio_bytes, record.frame_sizes) == (4800, [1600, 3200])
    assert record.message_types == ["KeepAlive", "UpdateConfiguration", "Terminate"]
    assert record.params == {"sample_rate": 16_000, "keyterms_prompt": ["Sonos"]}
    assert record.headers["authorization"] == "good-key"


async def test_audio_before_begin_is_not_lost(dial: Dialer) -> None:
    latency = Latency(begin=0.1)
    async with AssemblyAIEmulator(script=SCRIPT, rules=FAST, latency=latency) as emulator:
        client = await dial(emulator)
        await client.audio(800)
        await client.tell("ForceEndpoint")
        messages = await client.until("SpeechStarted")
        final = await client.final()
        record = emulator.sessions[0]

    assert messages[0]["type"] == "Begin"
    assert final["transcript"] == "Turn on."
    assert record.begun_at is not None
    assert record.begun_at > record.received[0][0]


async def test_work_on_the_audio_starts_with_begin(dial: Dialer) -> None:
    rules, latency = Rules(throttle=8.0), Latency(begin=0.2, force=0.0)
    async with AssemblyAIEmulator(script=SCRIPT, rules=rules, latency=latency) as emulator:
        client = await dial(emulator)
        await client.audio(800)
        await client.tell("ForceEndpoint")
        await client.final()
        record = emulator.sessions[0]

    assert record.begun_at is not None
    assert record.sent[-1][0] - record.begun_at >= 0.7 / 8


async def test_force_endpoint_without_a_turn_brings_nothing_or_an_empty_final(dial: Dialer) -> None:
    async with AssemblyAIEmulator() as emulator:
        client = await dial(emulator)
        await client.next()
        await client.tell("ForceEndpoint")
        assert await client.quiet()
    async with AssemblyAIEmulator(rules=Rules(force_without_turn="empty")) as emulator:
        client = await dial(emulator)
        await client.tell("ForceEndpoint")
        assert (await client.final())["transcript"] == ""


async def test_the_natural_end_comes_with_the_silence_and_not_before(dial: Dialer) -> None:
    async with AssemblyAIEmulator(script=SCRIPT, rules=FAST) as emulator:
        client = await dial(emulator, max_turn_silence=200, interruption_delay=1000)
        await client.audio(900)
        await client.next()
        assert await client.quiet()
        client = await dial(emulator, max_turn_silence=200, interruption_delay=1000)
        await client.audio(950)
        assert (await client.final())["transcript"] == "Turn on."


async def test_an_update_changes_the_turns_that_follow(dial: Dialer) -> None:
    async with AssemblyAIEmulator(script=SCRIPT, rules=FAST) as emulator:
        client = await dial(emulator, min_turn_silence=5000, max_turn_silence=5000)
        await client.audio(1000)
        await client.tell("UpdateConfiguration", min_turn_silence=300)
        await client.audio(100)
        assert (await client.final())["transcript"] == "Turn on."


async def test_an_extra_empty_final_of_universal_streaming(dial: Dialer) -> None:
    rules = Rules(throttle=None, extra_empty_final=True)
    async with AssemblyAIEmulator(script=SCRIPT, rules=rules) as emulator:
        client = await dial(emulator, **US)
        await client.audio(850)
        await client.tell("Terminate")
        await client.rest()

    assert [final["transcript"] for final in emulator.sessions[0].finals] == ["turn on", ""]


async def test_each_session_has_a_script_of_its_own(dial: Dialer) -> None:
    def choose(record: SessionRecord) -> Script:
        word = record.params["keyterms_prompt"][0]
        return Script((Word(word, 0, 100, sentence_end=True),))

    async with AssemblyAIEmulator(script=choose, rules=FAST) as emulator:
        clients = [await dial(emulator, keyterms_prompt=json.dumps([name])) for name in ("Hue", "Sonos")]
        for client in clients:
            await client.audio(100)
            await client.tell("ForceEndpoint")
        assert [(await client.final())["transcript"] for client in clients] == ["Hue", "Sonos"]


async def test_scripts_are_told_apart_by_the_audio(dial: Dialer) -> None:
    one, other = bytes(3200) + b"\1" * 3200, bytes(3200) + b"\2" * 3200
    words = {
        pcm: Script((Word(name, 0, 200, sentence_end=True),))
        for pcm, name in ((one, "One"), (other, "Other"))
    }
    async with AssemblyAIEmulator(script=by_recording(words.items()), rules=FAST) as emulator:
        for pcm, heard in ((other, "Other"), (one, "One"), (b"\3" * 3200, None)):
            client = await dial(emulator)
            for at in range(0, len(pcm), 1600):
                await client.ws.send_bytes(pcm[at : at + 1600])
            await client.tell("ForceEndpoint")
            await client.tell("Terminate")
            await client.rest()
            finals = [final["transcript"] for final in emulator.sessions[-1].finals]
            assert finals == ([heard] if heard else [])


async def test_the_service_can_go_away_and_come_back(dial: Dialer) -> None:
    emulator = AssemblyAIEmulator()
    async with emulator:
        client = await dial(emulator)
        await client.next()
        await emulator.stop()
        assert (emulator.sessions[0].close_code, emulator.sessions[0].closed_by) == (1006, "server")
        assert (await client.frame()).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
        with pytest.raises(aiohttp.ClientConnectorError):
            await dial(emulator)
        await emulator.start()
        assert (await (await dial(emulator)).next())["type"] == "Begin"
