"""Recordings of people, and how many words of them were understood."""

from __future__ import annotations

import json
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from whisper_normalizer.english import EnglishTextNormalizer

from tests.emulators.assemblyai import voiced_spans

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

_T = TypeVar("_T")
RATE: Final = 16_000
BYTES_PER_MS: Final = 32
FOLDER_HELP: Final = "the folder of recordings, with a manifest.jsonl"
_AFTERGLOW_MS: Final = 100
"""Kept after the loudest is over: last consonants are quiet."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: 16 kHz, mono, signed 16-bit little-endian."""

    name: str
    pcm: bytes
    text: str


def spoken_clips(folder: Path) -> list[Clip]:
    """Those in English, spoken by people, of which every word is known (their kind is not "slots")."""
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        Clip(clip["id"], read(folder / clip["path"]), clip["text"])
        for clip in map(json.loads, lines)
        if (clip["lang"], clip["synthetic"]) == ("en", False) and clip["kind"] != "slots"
    ]


def read(path: Path) -> bytes:
    """The samples of a WAV file."""
    with wave.open(str(path), "rb") as file:
        if file.getparams()[:3] != (1, 2, RATE):
            raise SystemExit(f"{path} is not 16 kHz, mono, 16-bit")
        return file.readframes(file.getnframes())


def spread(items: Sequence[_T], most: int) -> list[_T]:
    """At most so many of them, taken evenly from the whole."""
    most = min(most, len(items))
    return [items[number * len(items) // most] for number in range(most)]


def without_silence(pcm: bytes) -> bytes:
    """The recording up to a tenth of a second after the last that is loud, in whole frames of 10 ms."""
    end = (voiced_spans(pcm)[-1][1] + _AFTERGLOW_MS) * BYTES_PER_MS
    return pcm[: min(end, len(pcm) // (10 * BYTES_PER_MS) * (10 * BYTES_PER_MS))]


def to_pcm(sound: np.ndarray[Any, np.dtype[np.float64]]) -> bytes:
    """Samples between -1 and 1 as PCM."""
    samples: np.ndarray[Any, np.dtype[np.int16]] = np.clip(np.rint(sound * 32_768), -32_768, 32_767).astype(
        "<i2"
    )
    return samples.tobytes()


def hiss(random: np.random.Generator, seconds: float, level: float) -> bytes:
    """White noise whose effective value lies at that level, in dB of full scale."""
    return to_pcm(random.standard_normal(round(seconds * RATE)) * 10 ** (level / 20))


class WordErrors:
    """Counts the words that must be changed, left out or put in to make what was said from what was heard.

    Both are normalised as Whisper's authors do for English.
    """

    def __init__(self) -> None:
        self._normalise = EnglishTextNormalizer()
        self.errors = 0
        self.words = 0

    def add(self, said: str, heard: str) -> None:
        """Count one recording."""
        wanted = self.words_of(said)
        self.errors += distance(wanted, self.words_of(heard))
        self.words += len(wanted)

    def words_of(self, text: str) -> list[str]:
        """What is compared."""
        words: list[str] = self._normalise(text).split()
        return words

    @property
    def rate(self) -> float:
        """Errors for each word that was said."""
        return self.errors / self.words

    def __str__(self) -> str:
        return f"{self.rate:.1%} ({self.errors} of {self.words})"


def distance(wanted: list[str], words: list[str]) -> int:
    """How many items must be changed, left out or put in to make the one list from the other."""
    row = list(range(len(words) + 1))
    for number, right in enumerate(wanted, 1):
        above, row[0] = row[0], number
        for at, word in enumerate(words, 1):
            above, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, above + int(word != right))
    return row[-1]
