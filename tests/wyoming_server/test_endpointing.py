"""Where an utterance ends that nobody ends: by the audio, on a virtual clock, over sockets."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioStart, AudioStop
from wyoming.error import Error
from wyoming.info import Describe, Info

from modal_whisper.samples import LEADER, MUTED, PASSWORD, WEASELS
from modal_whisper.speech import SpeechDetector
from tests.emulators.assemblyai import AssemblyAIEmulator, Rules, script_for
from tests.engines import new_engine
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.fakes import PATIENCE
from tests.sounds import BYTES_PER_MS, silence, speech, tone
from tests.virtual_clock import virtual_clock
from tests.wyoming_server.backends.assemblyai_clients import assemblyai
from tests.wyoming_server.serving import HeldBackend, connected
from wyoming_server.audio import AudioFormat
from wyoming_server.backends.base import Hypothesis, Request
from wyoming_server.endpointing import Endpointer
from wyoming_server.errors import SignInRefusedError
from wyoming_server.handler import Limits
from wyoming_server.recording import Recording
from wyoming_server.server import WyomingServer
from wyoming_server.utterance import Utterance, Wishes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wyoming.event import Event

    from modal_whisper.samples import Sample
    from wyoming_server.backends.base import Backend

SAMPLES = pytest.mark.parametrize(
    "sample", [WEASELS, PASSWORD, MUTED, LEADER], ids=lambda item: item.text[:8]
)
SENTENCE = speech(1700, MUTED)
"""Without a pause; the last sound of it is not cut."""
WORD = speech(330, MUTED)
LATER = silence(3000)


class Microphone:
    """Writes into a recording of its own, in pieces of so many milliseconds."""

    def __init__(self, piece_ms: int = 10, max_seconds: float = 60.0) -> None:
        self.recording = Recording(max_seconds=max_seconds, clock=lambda: 0.0)
        self.endpointer = Endpointer(self.recording)
        self._piece = piece_ms * BYTES_PER_MS

    @property
    def is_open(self) -> bool:
        return self.recording.ended_at is None

    @property
    def ms(self) -> int:
        return round(self.recording.seconds * 1000)

    def hear(self, *sounds: bytes) -> Microphone:
        pcm = b"".join(sounds)
        for at in range(0, len(pcm), self._piece):
            self.endpointer.write(pcm[at : at + self._piece])
        return self


def end_of_speech(pcm: bytes) -> int:
    detector = SpeechDetector()
    detector.feed(pcm)
    assert detector.speech_end_ms is not None
    return detector.speech_end_ms


# By the audio alone


@SAMPLES
def test_a_person_is_heard_to_the_end_and_half_a_second_more(sample: Sample) -> None:
    pcm = speech(sample=sample) + LATER
    microphone = Microphone().hear(pcm)
    assert not microphone.is_open
    assert microphone.ms - end_of_speech(pcm) in range(500, 540)


@pytest.mark.parametrize("piece_ms", [1, 30, 64, 1000, 10_000])
def test_the_end_is_the_same_in_pieces_of_any_length(piece_ms: int) -> None:
    pcm = SENTENCE + LATER + SENTENCE
    assert Microphone(piece_ms).hear(pcm).ms - Microphone().hear(pcm).ms in range(-30, 31)


@pytest.mark.parametrize(("pause_ms", "survives"), [(300, True), (500, True), (900, False), (2000, False)])
def test_short_pauses_in_a_command_survive_long_ones_end_it(pause_ms: int, *, survives: bool) -> None:
    """Between, it depends on the sounds: voice is heard for 0.05 to 0.34 s longer than it lasts."""
    microphone = Microphone().hear(SENTENCE, silence(pause_ms), SENTENCE)
    assert microphone.is_open is survives


def test_one_word_is_given_time_to_become_a_command() -> None:
    assert end_of_speech(WORD + LATER) < 700
    assert Microphone().hear(WORD, silence(650), SENTENCE).is_open
    alone = Microphone().hear(WORD, LATER)
    assert not alone.is_open
    assert alone.ms in range(1200, 1260)


def test_a_click_before_a_command_does_not_end_it() -> None:
    click = tone(100, level=0.3)
    assert end_of_speech(click + LATER) < 300  # so it is heard
    microphone = Microphone().hear(click, silence(900), SENTENCE)
    assert microphone.is_open
    assert not microphone.hear(LATER).is_open
    assert microphone.ms > 100 + 900 + 1700


def test_where_nobody_speaks_it_ends_after_15_s() -> None:
    microphone = Microphone().hear(silence(14_950))
    assert microphone.is_open
    assert not microphone.hear(silence(100)).is_open
    assert microphone.ms == 15_000


def test_who_speaks_late_is_heard_to_the_end() -> None:
    microphone = Microphone().hear(silence(14_500), SENTENCE)
    assert microphone.is_open
    assert not microphone.hear(LATER).is_open


def test_who_goes_on_speaking_is_ended_by_the_limit_of_recordings_alone() -> None:
    microphone = Microphone(max_seconds=20.0)
    for _ in range(11):
        microphone.hear(SENTENCE)
    assert microphone.is_open
    assert not microphone.hear(SENTENCE).is_open
    assert microphone.recording.is_capped


def test_what_comes_after_the_end_is_dropped() -> None:
    microphone = Microphone().hear(SENTENCE, LATER)
    before = microphone.ms
    assert microphone.hear(SENTENCE).ms == before


# A service that says that it was all


def test_a_whole_sentence_is_ended_sooner() -> None:
    pcm = SENTENCE + silence(400)
    microphone = Microphone().hear(pcm)
    assert microphone.recording.speech.silence_ms < 350
    microphone.endpointer.end_turn()
    assert microphone.is_open
    microphone.hear(LATER)
    assert microphone.recording.speech.silence_ms in range(350, 390)


def test_a_whole_sentence_that_is_known_late_is_ended_at_once() -> None:
    microphone = Microphone().hear(SENTENCE)
    while microphone.recording.speech.silence_ms < 420:
        microphone.hear(silence(10))
    assert microphone.is_open
    microphone.endpointer.end_turn()
    assert not microphone.is_open


def test_a_sentence_that_goes_on_after_all_is_ended_as_any_other() -> None:
    microphone = Microphone().hear(SENTENCE, silence(300))
    microphone.endpointer.end_turn()
    assert microphone.hear(SENTENCE).is_open
    microphone.hear(LATER)
    assert microphone.recording.speech.silence_ms in range(500, 540)


def test_a_sentence_that_nobody_was_heard_saying_ends_nothing() -> None:
    microphone = Microphone().hear(silence(1000))
    microphone.endpointer.end_turn()
    assert microphone.hear(silence(1000)).is_open


# The utterance, on a virtual clock


class Speaker:
    """Feeds an utterance at the speed of speech, and keeps what is written for it and when."""

    def __init__(self, *backends: Backend, endpointing: bool = True) -> None:
        self.events: list[tuple[float, Event]] = []
        self.engine = new_engine(backends)
        self.utterance = Utterance(
            self.engine,
            Wishes(Request()),
            AudioFormat(16_000, 2, 1),
            self._write,
            max_seconds=60,
            endpointing=endpointing,
        )

    async def say(self, *sounds: bytes) -> None:
        pcm = b"".join(sounds)
        for at in range(0, len(pcm), 10 * BYTES_PER_MS):
            self.utterance.feed(pcm[at : at + 10 * BYTES_PER_MS])
            await asyncio.sleep(0.01)

    @property
    def answer(self) -> tuple[float, str]:
        ((at, event),) = self.events
        return at, Transcript.from_event(event).text

    async def _write(self, event: Event) -> None:
        self.events.append((asyncio.get_running_loop().time(), event))


@virtual_clock
async def test_an_utterance_is_answered_while_the_client_still_sends() -> None:
    backend = ScriptedBackend("there", CONNECTED, Wait.AUDIO, 0.1, final("muted"))
    speaker = Speaker(backend)
    await speaker.say(SENTENCE, LATER)
    at, text = speaker.answer
    assert text == "muted"
    ended = end_of_speech(SENTENCE + LATER) / 1000 + 0.5
    assert ended + 0.1 <= at <= ended + 0.15
    assert backend.asked[0].received == (SENTENCE + LATER)[: len(backend.asked[0].received)]
    heard_ms = len(backend.asked[0].received) // BYTES_PER_MS
    await speaker.say(SENTENCE)
    speaker.utterance.stop()
    assert len(backend.asked[0].received) // BYTES_PER_MS == heard_ms
    assert len(speaker.events) == 1


@pytest.mark.parametrize(("ends_turn", "silence_s"), [(True, 0.35), (False, 0.5)])
def test_a_service_that_ends_the_turn_makes_the_answer_come_sooner(
    *, ends_turn: bool, silence_s: float
) -> None:
    @virtual_clock
    async def run() -> None:
        words = Hypothesis("muted", ends_turn=ends_turn)
        speaker = Speaker(ScriptedBackend("there", CONNECTED, 2.1, words, Wait.AUDIO, final("muted")))
        await speaker.say(SENTENCE, LATER)
        at, text = speaker.answer
        assert text == "muted"
        ended = end_of_speech(SENTENCE + LATER) / 1000
        assert ended + silence_s <= at <= ended + silence_s + 0.05

    run()


@virtual_clock
async def test_a_service_that_ends_the_turn_changes_nothing_where_the_client_says_when_it_is_over() -> None:
    whole = Hypothesis("muted", ends_turn=True)
    backend = ScriptedBackend("there", CONNECTED, 2.1, whole, Wait.AUDIO, final("muted"))
    speaker = Speaker(backend, endpointing=False)
    await speaker.say(SENTENCE, LATER)
    assert speaker.events == []
    speaker.utterance.stop()
    await speaker.utterance.wait_answered()
    assert speaker.answer[1] == "muted"


@virtual_clock
async def test_a_pause_in_the_command_is_no_end() -> None:
    backend = ScriptedBackend("there", CONNECTED, Wait.AUDIO, final("turn on the light"))
    speaker = Speaker(backend)
    await speaker.say(SENTENCE, silence(500), SENTENCE, LATER)
    at, _ = speaker.answer
    assert at > 1.7 + 0.5 + 1.7
    assert backend.asked[0].received.startswith(SENTENCE + silence(500) + SENTENCE)


@virtual_clock
async def test_a_client_that_says_so_is_believed_at_once() -> None:
    speaker = Speaker(ScriptedBackend("there", CONNECTED, Wait.AUDIO, final("muted")))
    await speaker.say(SENTENCE)
    speaker.utterance.stop()
    await speaker.utterance.wait_answered()
    assert speaker.answer[0] < 1.75


@virtual_clock
async def test_where_nobody_speaks_the_answer_is_empty_after_15_s() -> None:
    speaker = Speaker(ScriptedBackend("deaf", CONNECTED, Wait.FOREVER))
    await speaker.say(silence(16_000))
    at, text = speaker.answer
    assert text == ""
    assert 14.95 <= at <= 15.05


@virtual_clock
async def test_a_final_in_mid_sentence_is_still_no_answer() -> None:
    hasty = ScriptedBackend("hasty", CONNECTED, partial("the"), 0.5, final("the"))
    second = ScriptedBackend("second", CONNECTED, Wait.AUDIO, final("the conference is now muted"))
    speaker = Speaker(hasty, second)
    await speaker.say(SENTENCE, LATER)
    assert speaker.answer[1] == "the conference is now muted"
    assert second.asked[0].received.startswith(SENTENCE)
    await speaker.engine.close()


@virtual_clock
async def test_a_failure_before_the_end_is_one_error_and_nothing_more() -> None:
    speaker = Speaker(ScriptedBackend("there", SignInRefusedError("no")))
    await speaker.say(SENTENCE, LATER)
    assert [Error.from_event(event).code for _, event in speaker.events] == ["all-backends-failed"]
    await speaker.engine.close()


# Over sockets


@asynccontextmanager
async def serving(*backends: Backend, endpointing: bool = True) -> AsyncIterator[WyomingServer]:
    limits = Limits(max_utterance=60, idle_timeout=PATIENCE, max_connections=4, endpointing=endpointing)
    engine = new_engine(backends)
    server = WyomingServer("tcp://127.0.0.1:0", engine, limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        await engine.close()


async def test_a_client_gets_its_answer_without_an_audio_stop_and_then_the_next_one() -> None:
    backend = ScriptedBackend("there", CONNECTED, Wait.AUDIO, final("muted"))
    async with serving(backend) as server, connected(server) as client:
        for _ in range(2):
            await client.send(AudioStart(16_000, 2, 1).event())
            await client.speak(SENTENCE + LATER)
            assert await client.text() == "muted"
            await client.finish(SENTENCE)  # what was still on its way
            assert await client.settle() == []
        await client.say(SENTENCE)  # by a client that says when it is over
        assert await client.text() == "muted"
    first, second, third = (bytes(asked.received) for asked in backend.asked)
    assert first == second
    assert first.startswith(SENTENCE)
    assert len(first) < len(SENTENCE + LATER)
    assert third == SENTENCE


async def test_a_client_that_closes_its_direction_after_the_end_still_gets_the_answer() -> None:
    backend = HeldBackend("muted")
    async with serving(backend) as server, connected(server) as client:
        await client.send(AudioStart(16_000, 2, 1).event())
        await client.speak(SENTENCE + LATER)
        await client.settle()
        client.half_close()
        backend.let_go.set()
        assert await client.text() == "muted"


async def test_audio_stop_while_the_answer_is_due_brings_that_answer_alone() -> None:
    backend = HeldBackend("muted")
    async with serving(backend) as server, connected(server) as client:
        await client.send(AudioStart(16_000, 2, 1).event())
        await client.speak(SENTENCE + LATER)
        await client.send(AudioStop().event())
        assert await client.settle() == []
        backend.let_go.set()
        assert await client.text() == "muted"
        assert await client.settle() == []


async def test_the_end_of_assemblyai_s_turn_is_the_end_of_the_utterance() -> None:
    pcm = SENTENCE
    while len(pcm) < (end_of_speech(pcm + LATER) + 430) * BYTES_PER_MS:
        pcm += silence(10)
    script = script_for(pcm, "The conference is now muted.")
    async with (
        AssemblyAIEmulator(script=script, rules=Rules(throttle=None)) as emulator,
        assemblyai(emulator.url) as backend,
        serving(backend) as server,
        connected(server) as client,
    ):
        await client.send(AudioStart(16_000, 2, 1).event())
        await client.speak(pcm)  # too little silence for the detector alone, and nothing follows
        assert await client.text() == "The conference is now muted."


@pytest.mark.parametrize("endpointing", [True, False])
async def test_home_assistant_learns_whether_it_must_end_the_audio_itself(*, endpointing: bool) -> None:
    async with serving(endpointing=endpointing) as server, connected(server) as client:
        await client.send(Describe().event())
        (program,) = Info.from_event(await client.next()).asr
    assert program.requires_external_vad is not endpointing


async def test_without_the_setting_the_client_alone_says_when_it_is_over() -> None:
    backend = ScriptedBackend("there", CONNECTED, Wait.AUDIO, final("muted"))
    async with serving(backend, endpointing=False) as server, connected(server) as client:
        await client.send(AudioStart(16_000, 2, 1).event())
        await client.speak(SENTENCE + LATER)
        assert await client.settle() == []
        await client.finish(SENTENCE)
        assert await client.text() == "muted"
    assert backend.asked[0].received == SENTENCE + LATER + SENTENCE
