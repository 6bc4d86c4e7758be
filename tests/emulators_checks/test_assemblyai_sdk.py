"""The official SDK, an independent client, holds whole sessions with the emulator."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from assemblyai.streaming.v3 import (
    AsyncRealTimeTranscriber,
    BeginEvent,
    HeartbeatEvent,
    RealTimeError,
    RealTimeEvents,
    RealTimeParameters,
    RealTimeSessionParameters,
    RealTimeTranscriber,
    RealTimeTranscriberOptions,
    SpeechStartedEvent,
    TerminationEvent,
    TurnEvent,
)

from tests.emulators.assemblyai import AssemblyAIEmulator, ErrorFrame, Fault, Latency, Rules, script_for

if TYPE_CHECKING:
    from tests.emulators_checks.conftest import Recording

PRO = "universal-3-6-pro"
US = "universal-streaming-english"
FRAME = 1600
FAST = Rules(throttle=None)
SILENCE_MS = 1500


class Events(list[Any]):
    """What the SDK reported, in order."""

    def __init__(self, client: AsyncRealTimeTranscriber | RealTimeTranscriber) -> None:
        super().__init__()
        self.news = asyncio.Event()
        for event in RealTimeEvents:
            client.on(event, self._note)

    def _note(self, _: object, event: Any) -> None:
        self.append(event)
        self.news.set()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]

    @property
    def kinds(self) -> list[type]:
        return [type(event) for event in self]

    @property
    def finals(self) -> list[str]:
        return [turn.transcript for turn in self.of(TurnEvent) if turn.end_of_turn]

    @property
    def partials(self) -> list[str]:
        return [turn.transcript for turn in self.of(TurnEvent) if not turn.end_of_turn]

    async def final(self) -> None:
        async with asyncio.timeout(10):
            while not self.finals:
                self.news.clear()
                await self.news.wait()


def options(emulator: AssemblyAIEmulator, key: str = "good-key") -> RealTimeTranscriberOptions:
    return RealTimeTranscriberOptions(api_key=key, api_host=emulator.url, connect_timeout=5.0)


def parameters(model: str, **more: Any) -> RealTimeParameters:
    return RealTimeParameters.model_validate({"sample_rate": 16_000, "speech_model": model, **more})


def frames(pcm: bytes) -> list[bytes]:
    return [pcm[at : at + FRAME].ljust(FRAME, b"\0") for at in range(0, len(pcm), FRAME)]


def words(text: str) -> list[str]:
    return text.lower().rstrip(".").split()


async def test_a_whole_session_at_the_speed_of_speech(recording: Recording) -> None:
    script = script_for(recording.pcm, recording.text)
    async with AssemblyAIEmulator(script=script) as emulator:
        client = AsyncRealTimeTranscriber(options(emulator))
        events = Events(client)
        await client.connect(
            parameters(
                PRO,
                mode="min_latency",
                language_codes=["en"],
                keyterms_prompt=["Hue"],
            )
        )
        for frame in frames(recording.pcm):
            await client.stream(frame)
            await asyncio.sleep(0.05)
        await client.force_endpoint()
        await events.final()
        await client.disconnect(terminate=True)
        record = emulator.sessions[0]

    assert events.kinds[:2] == [BeginEvent, SpeechStartedEvent]
    assert events.kinds[-1] is TerminationEvent
    assert " ".join(events.finals) == recording.text
    assert events.partials
    assert all(recording.text.startswith(partial) for partial in events.partials)
    assert events.of(RealTimeError) == []
    assert record.params["keyterms_prompt"] == ["Hue"]
    assert bytes(record.audio).startswith(recording.pcm)
    assert (record.terminated, record.close_code) == (True, 1000)
    # Partials came while the person still spoke, not all at the end.
    first_turn = next(at for at, message in record.sent if message["type"] == "Turn")
    assert record.last_audio_at is not None
    assert first_turn < record.last_audio_at


@pytest.mark.parametrize("model", [PRO, US])
async def test_the_natural_end(recording: Recording, model: str) -> None:
    async with AssemblyAIEmulator(script=script_for(recording.pcm, recording.text), rules=FAST) as emulator:
        client = AsyncRealTimeTranscriber(options(emulator))
        events = Events(client)
        await client.connect(parameters(model))
        await client.stream(frames(recording.pcm + bytes(32 * SILENCE_MS)))
        await events.final()
        await client.disconnect(terminate=True)

    assert words(" ".join(events.finals)) == words(recording.text)
    assert bool(events.of(SpeechStartedEvent)) == (model == PRO)


async def test_universal_streaming_loses_the_tail_when_forced_but_not_when_terminated(
    recording: Recording,
) -> None:
    script = script_for(recording.pcm, recording.text)
    spoken = recording.pcm[: script.words[-1].end_ms * 32]
    async with AssemblyAIEmulator(script=script, rules=FAST) as emulator:
        heard = {}
        for force in (True, False):
            client = AsyncRealTimeTranscriber(options(emulator))
            events = Events(client)
            await client.connect(parameters(US))
            await client.stream(frames(spoken))
            if force:
                await client.force_endpoint()
            await client.disconnect(terminate=True)
            heard[force] = words(" ".join(events.finals))

    assert heard[False] == words(recording.text)
    assert heard[True] == heard[False][: len(heard[True])]
    assert 0 < len(heard[True]) < len(heard[False])


async def test_an_update_of_the_configuration(recording: Recording) -> None:
    async with AssemblyAIEmulator(script=script_for(recording.pcm, recording.text), rules=FAST) as emulator:
        client = AsyncRealTimeTranscriber(options(emulator))
        events = Events(client)
        await client.connect(parameters(PRO, max_turn_silence=10_000))
        await client.set_params(
            RealTimeSessionParameters(min_turn_silence=1000, keyterms_prompt=["Sonos"], format_turns=True)
        )
        await client.keep_alive()
        await client.stream(frames(recording.pcm + bytes(32 * SILENCE_MS)))
        await events.final()
        await client.disconnect(terminate=True)
        record = emulator.sessions[0]

    assert record.message_types == ["UpdateConfiguration", "KeepAlive", "Terminate"]
    assert (record.params["min_turn_silence"], record.params["keyterms_prompt"]) == (1000, ["Sonos"])
    assert events.of(RealTimeError) == []


async def test_heartbeats_are_understood() -> None:
    async with AssemblyAIEmulator(rules=Rules(heartbeat=0.01)) as emulator:
        client = AsyncRealTimeTranscriber(options(emulator))
        events = Events(client)
        await client.connect(parameters(PRO, session_heartbeat=True))
        await asyncio.sleep(0.1)
        await client.disconnect(terminate=True)

    assert events.of(HeartbeatEvent)


async def test_a_wrong_key_is_exactly_one_error() -> None:
    async with AssemblyAIEmulator() as emulator:
        client = AsyncRealTimeTranscriber(options(emulator, key="wrong-key"))
        events = Events(client)
        await client.connect(parameters(PRO))
        async with asyncio.timeout(5):
            await events.news.wait()
        await emulator.sessions[0].closed.wait()
        await client.disconnect(terminate=True)

    assert events.kinds == [RealTimeError]
    assert events[0].code == 1008
    assert "Invalid API key" in str(events[0])


async def test_a_prompt_on_universal_streaming_is_refused() -> None:
    async with AssemblyAIEmulator() as emulator:
        client = AsyncRealTimeTranscriber(options(emulator))
        events = Events(client)
        await client.connect(parameters(US, prompt="Talk."))
        async with asyncio.timeout(5):
            await events.news.wait()
        await client.disconnect()

    assert [error.code for error in events] == [3006]


async def test_an_error_in_mid_speech_is_exactly_one_error(recording: Recording) -> None:
    fault = Fault("audio", ErrorFrame(3005, "Session Cancelled: An error occurred"), audio_ms=500)
    async with AssemblyAIEmulator(rules=FAST, faults=[fault]) as emulator:
        client = AsyncRealTimeTranscriber(options(emulator))
        events = Events(client)
        await client.connect(parameters(PRO))
        await client.stream(frames(recording.pcm))
        await emulator.sessions[0].closed.wait()
        await client.disconnect(terminate=True)

    assert [error.code for error in events.of(RealTimeError)] == [3005]


async def test_the_threaded_client(recording: Recording) -> None:
    latency = Latency.zero()
    async with AssemblyAIEmulator(
        script=script_for(recording.pcm, recording.text), rules=FAST, latency=latency
    ) as emulator:

        def session() -> Events:
            client: Any = RealTimeTranscriber(options(emulator))  # Any: the SDK leaves some methods untyped
            events = Events(client)
            final = threading.Event()

            def note(_: object, turn: TurnEvent) -> None:
                if turn.end_of_turn:
                    final.set()

            client.on(RealTimeEvents.Turn, note)
            client.connect(parameters(PRO, format_turns=True))
            client.stream(iter(frames(recording.pcm)))
            client.force_endpoint()
            assert final.wait(10)
            client.disconnect(terminate=True)
            return events

        events = await asyncio.to_thread(session)
        record = emulator.sessions[0]

    assert " ".join(events.finals) == recording.text
    assert events.kinds[-1] is TerminationEvent
    assert record.params["format_turns"] is True
    assert record.headers["user-agent"].startswith("AssemblyAI/1.0 (sdk=Python/")
