from __future__ import annotations

import asyncio
import sys
from array import array
from typing import TYPE_CHECKING

from modal_whisper.model import Passage, Transcript
from tests.emulators.assemblyai import AssemblyAIEmulator, Drop, Fault, by_recording, script_for
from tests.end_to_end.clips import LEADER, MUTED, PASSWORD, WEASELS, Clip
from tests.end_to_end.house import running_house
from tests.end_to_end.speaker import Speaker
from tests.end_to_end.stage import GOOD_KEY, settings_for
from tests.end_to_end.worker import Witness, running_worker

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from tests.end_to_end.house import House
    from tests.end_to_end.speaker import Answer

NAMES = (
    *("Ada", "Bela", "Cara", "Dora", "Emil", "Fred", "Gita", "Hugo"),
    *("Ines", "Jana", "Karl", "Lena", "Mira", "Nils", "Olga", "Paul"),
)
LOUDNESS = (1.0, 0.8, 0.6, 0.5)
PEOPLE = (WEASELS, PASSWORD, MUTED, LEADER)


def crowd() -> list[Clip]:
    """Sixteen recordings that differ, each with words of its own."""
    voices = [_at_loudness(clip.pcm, loudness) for clip in PEOPLE for loudness in LOUDNESS]
    return [
        Clip(voice, f"{name} wants number {number}.", "en")
        for number, (voice, name) in enumerate(zip(voices, NAMES, strict=True))
    ]


class ByHeart:
    """A Transcriber that knows the words of whole recordings, and of no others."""

    model = "by-heart"

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = clips

    def load(self) -> None:
        pass

    def transcribe(self, passage: Passage, _: threading.Event) -> Transcript:
        (text,) = (clip.text for clip in self._clips if clip.is_all_in(passage.pcm))
        return Transcript(text, "en", self.model)


def service(
    clips: Sequence[Clip], faults: Callable[[int], Sequence[Fault]] = lambda _: ()
) -> AssemblyAIEmulator:
    scripts = by_recording((clip.pcm, script_for(clip.pcm, clip.text)) for clip in clips)
    return AssemblyAIEmulator({GOOD_KEY}, script=scripts, faults=faults)


async def all_at_once(house: House, clips: Sequence[Clip]) -> list[Answer]:
    """The only answer of each speaker, who has never been shown anybody else's words."""

    async def answer(clip: Clip) -> Answer:
        async with Speaker(house.uri) as speaker:
            await speaker.say(clip)
            everybody.release()
            await stopped.wait()
            answer = await speaker.only_answer()
        assert speaker.partials
        assert all(clip.text.startswith(partial) for partial in speaker.partials)
        return answer

    everybody, stopped = asyncio.Semaphore(0), asyncio.Event()
    answers = [asyncio.create_task(answer(clip)) for clip in clips]
    for _ in clips:
        await everybody.acquire()
    await house.stop()
    stopped.set()
    return await asyncio.gather(*answers)


async def test_sixteen_speakers_at_once_each_get_their_own_words() -> None:
    clips = crowd()
    async with service(clips) as assemblyai:
        async with running_house(settings_for(assemblyai)) as house:
            answers = await all_at_once(house, clips)

        assert [answer.text for answer in answers] == [clip.text for clip in clips]
        assert {answer.backend for answer in answers} == {"assemblyai"}
        assert sorted(_trimmed(session.audio) for session in assemblyai.sessions) == sorted(
            _trimmed(clip.pcm) for clip in clips
        )
        assert all(session.terminated and session.closed.is_set() for session in assemblyai.sessions)


async def test_of_sixteen_speakers_the_eight_who_lose_assemblyai_lose_no_word_and_get_nobody_elses() -> None:
    clips = crowd()
    faults: dict[bool, Sequence[Fault]] = {True: [Fault("audio", Drop(), audio_ms=900)], False: ()}
    async with (
        service(clips, lambda index: faults[index % 2 == 1]) as assemblyai,
        running_worker(Witness(ByHeart(clips))) as worker,
    ):
        async with running_house(settings_for(assemblyai, worker)) as house:
            answers = await all_at_once(house, clips)

        assert [answer.text for answer in answers] == [clip.text for clip in clips]
        moved = [clip.pcm for clip, answer in zip(clips, answers, strict=True) if answer.backend == "whisper"]
        assert len(moved) == len(clips) // 2
        assert sorted(worker.heard) == sorted(moved)


def _at_loudness(pcm: bytes, loudness: float) -> bytes:
    samples = array("h", pcm)
    assert sys.byteorder == "little"
    return array("h", (int(sample * loudness) for sample in samples)).tobytes()


def _trimmed(pcm: bytes | bytearray) -> bytes:
    """Without the silence at the end, part of which is a frame filled up."""
    return bytes(pcm).rstrip(b"\0")
