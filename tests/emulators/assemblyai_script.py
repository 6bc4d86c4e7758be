"""What will be said in a session, and when: the emulator recognises no speech, it is told."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.emulators.assemblyai_record import SessionRecord

FULL_WIDTH = "\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH QUESTION MARK}\N{FULLWIDTH EXCLAMATION MARK}"
_SENTENCE_ENDS = (*".?!…", *FULL_WIDTH)
_BYTES_PER_MS = 32
_FRAME_MS = 20
_FRAME_BYTES = _FRAME_MS * _BYTES_PER_MS
_PAUSE_MS = 240
_CLICK_MS = 60
"""Shorter sounds are nobody's words."""
_QUIET = 60.0
"""Root mean square of 16-bit samples that no near voice stays under."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word as a Pro model writes it; times in milliseconds from the session's first sample."""

    text: str
    start_ms: int
    end_ms: int
    sentence_end: bool = False
    """Whether the model would judge the turn complete after this word."""


@dataclass(frozen=True, slots=True)
class Script:
    """The words of a session in the order of their times."""

    words: tuple[Word, ...] = ()
    language: str | None = None
    """Reported on finals where the client asked for language detection."""

    @classmethod
    def empty(cls) -> Script:
        """Nobody speaks."""
        return cls()

    @property
    def text(self) -> str:
        """All the words, as the finals of a Pro session joined by spaces."""
        return " ".join(word.text for word in self.words)


def script_for(pcm: bytes, text: str, *, language: str | None = None) -> Script:
    """Spread the words of `text` over the voiced spans of a recording (16 kHz, mono, s16le).

    A span gets words by its share of the voiced time, a word time by its share of the letters, so that a word
    becomes known only when the audio clock has passed it, and a pause of the recording is one of the script.
    """
    texts = text.split()
    if not texts:
        return Script(language=language)
    spans = voiced_spans(pcm) or [(0, len(pcm) // _BYTES_PER_MS)]
    words: list[Word] = []
    for (start, end), members in zip(spans, _shared_out(texts, spans), strict=True):
        bounds = [0, *accumulate(len(member) + 1 for member in members)]
        for number, member in enumerate(members):
            last = len(words) == len(texts) - 1
            words.append(
                Word(
                    member,
                    start + (end - start) * bounds[number] // bounds[-1],
                    start + (end - start) * bounds[number + 1] // bounds[-1],
                    sentence_end=last or member.endswith(_SENTENCE_ENDS),
                )
            )
    return Script(tuple(words), language)


def voiced_spans(pcm: bytes) -> list[tuple[int, int]]:
    """Where somebody speaks (16 kHz, mono, s16le): start and end in milliseconds; short pauses are bridged.

    By loudness alone, so that it owes nothing to the voice activity detection of the code under test.
    """
    levels = [
        _level(pcm[at : at + _FRAME_BYTES]) for at in range(0, len(pcm) - _FRAME_BYTES + 1, _FRAME_BYTES)
    ]
    if not levels or max(levels) < _QUIET:
        return []
    floor = sorted(levels)[len(levels) // 10]
    threshold = max(_QUIET, min(floor * 3, max(levels) / 3), max(levels) / 20)
    spans: list[tuple[int, int]] = []
    for number, level in enumerate(levels):
        if level < threshold:
            continue
        start = number * _FRAME_MS
        if spans and start - spans[-1][1] < _PAUSE_MS:
            start = spans.pop()[0]
        spans.append((start, (number + 1) * _FRAME_MS))
    return [(start, end) for start, end in spans if end - start >= _CLICK_MS]


def by_recording(recordings: Iterable[tuple[bytes, Script]]) -> Callable[[SessionRecord], Script | None]:
    """Choose each session's script by the audio it sends: the recording whose first bytes are the same.

    For several speakers at once over one emulator. Undecided (None) while several recordings still fit.
    """
    known = list(recordings)

    def choose(session: SessionRecord) -> Script | None:
        heard = bytes(session.audio)
        fitting = [script for pcm, script in known if pcm[: len(heard)] == heard[: len(pcm)]]
        if len(fitting) > 1 and any(script != fitting[0] for script in fitting):
            return None
        return fitting[0] if fitting else Script.empty()

    return choose


def _shared_out(texts: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[list[str]]:
    voiced = sum(end - start for start, end in spans)
    letters = sum(len(text) + 1 for text in texts)
    limits = list(accumulate(end - start for start, end in spans))
    shares: list[list[str]] = [[] for _ in spans]
    passed = 0
    for text in texts:
        middle = (passed + (len(text) + 1) / 2) * voiced / letters
        passed += len(text) + 1
        shares[next(number for number, limit in enumerate(limits) if middle <= limit)].append(text)
    return shares


def _level(frame: bytes) -> float:
    samples = array("h", frame)
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples))
