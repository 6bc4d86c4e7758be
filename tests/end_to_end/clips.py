"""Recordings of people as the tests use them, and how words are compared."""

from __future__ import annotations

import functools
import unicodedata
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modal_whisper import samples
from modal_whisper.speech import BYTES_PER_SECOND, SpeechDetector

if TYPE_CHECKING:
    from modal_whisper.samples import Sample


@dataclass(frozen=True, slots=True)
class Clip:
    """Audio (16 kHz, mono, s16le) and what is said in it."""

    pcm: bytes
    text: str
    language: str

    @property
    def seconds(self) -> float:
        return len(self.pcm) / BYTES_PER_SECOND

    def followed_by_silence(self, seconds: float) -> Clip:
        """The same, with the person silent for a while before the microphone closes."""
        return Clip(self.pcm + silence(seconds), self.text, self.language)

    def is_all_in(self, pcm: bytes) -> bool:
        """Whether a piece of this recording has all of its speech: Whisper's session leaves out silence."""
        at = self.pcm.find(pcm)
        start, end = _speech_in(self.pcm)
        return 0 <= at <= start and at + len(pcm) >= end


@functools.cache
def _speech_in(pcm: bytes) -> tuple[int, int]:
    """Where the first speech begins and the last one ends, in bytes."""
    detector = SpeechDetector()
    detector.feed(pcm)
    bytes_per_ms = BYTES_PER_SECOND // 1000
    return (detector.speech_start_ms or 0) * bytes_per_ms, (detector.speech_end_ms or 0) * bytes_per_ms


def silence(seconds: float) -> bytes:
    return bytes(round(seconds * BYTES_PER_SECOND) // 2 * 2)


def _clip(sample: Sample) -> Clip:
    with wave.open(str(sample.path)) as file:
        return Clip(file.readframes(file.getnframes()), sample.text, sample.language)


WEASELS = _clip(samples.WEASELS)
PASSWORD = _clip(samples.PASSWORD)
MUTED = _clip(samples.MUTED)
LEADER = _clip(samples.LEADER)


def words(text: str) -> list[str]:
    """The words without case and punctuation."""
    letters = (character if _is_of_a_word(character) else " " for character in text.casefold())
    return "".join(letters).split()


def error_rate(spoken: str, heard: str) -> float:
    """Words left out, put in or replaced, as a share of the spoken ones."""
    wanted, got = words(spoken), words(heard)
    row = list(range(len(got) + 1))
    for number, word in enumerate(wanted, start=1):
        before, row[0] = row[0], number
        for position, other in enumerate(got, start=1):
            best = min(row[position] + 1, row[position - 1] + 1, before + (word != other))
            before, row[position] = row[position], best
    return row[-1] / len(wanted)


def _is_of_a_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"
