"""Turns in audio time: which words are known, when partials come and when a turn ends. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.emulators.assemblyai_script import FULL_WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.emulators.assemblyai_params import Timing
    from tests.emulators.assemblyai_script import Script, Word

Message = dict[str, Any]
_PUNCTUATION = '.,;:?!"…' + FULL_WIDTH
_FIRST_PARTIAL_MS = 256
_UTTERANCE_PAUSE_MS = 160
_SILENCE_MS = 1000


@dataclass(frozen=True, slots=True)
class Emission:
    """A message that the audio clock or the client's word brought about."""

    message: Message
    final: bool


class TurnEngine:
    """One session's turns; advanced by the audio clock, never by the wall's."""

    def __init__(self, timing: Timing, *, decode_lag_ms: int) -> None:
        """A universal-streaming model knows a word `decode_lag_ms` after its end, a Pro model at its end."""
        self.timing = timing
        self.script: Script | None = None
        self.clock_ms = 0
        self.turn_order = 0
        self._lag = 0 if timing.pro else decode_lag_ms
        self._taken = 0
        self._open: list[Word] = []
        self._started = False
        self._shown = 0
        self._partial_due: float = math.inf
        self._paused = False
        self._silent_from = 0

    def advance(self, clock_ms: int) -> list[Emission]:
        """The audio received so far ends at `clock_ms`; the messages that this brings about."""
        self.clock_ms = clock_ms
        emissions: list[Emission] = []
        while True:
            steps = (
                (self._decode_at(), self._decode),
                (self._end_at(), self._finalise),
                (self._pause_at(), self._pause),
                (self._tick_at(), self._tick),
                (self._silence_at(), self._silence),
            )
            at, step = min(steps, key=lambda entry: entry[0])
            if at > clock_ms:
                return emissions
            emissions += step()

    def force(self, *, split: bool = False) -> list[Emission]:
        """End the open turn now; nothing where no turn is open.

        Pro models take in everything received, universal-streaming ones lose what is not decoded yet.
        With `split` the words make two turns, the later one sent first.
        """
        if self.timing.pro:
            self._take_received()
        else:
            while (word := self._next) is not None and word.start_ms < self.clock_ms:
                self._taken += 1
        if split and len(self._open) > 1:
            return self._split()
        return self._finalise() if self._open else []

    def finish(self, *, split: bool = False) -> list[Emission]:
        """End the session: everything received becomes final, with either family."""
        self._take_received()
        if split and len(self._open) > 1:
            return self._split()
        return self._finalise() if self._open else []

    def empty_final(self) -> Emission:
        """A final without words, which takes a turn number of its own."""
        message = self._turn((), final=True, formatted=self.timing.pro)
        self.turn_order += 1
        return Emission(message, final=True)

    @property
    def _next(self) -> Word | None:
        words = self.script.words if self.script is not None else ()
        return words[self._taken] if self._taken < len(words) else None

    @property
    def _resume_at(self) -> float:
        return self._next.start_ms if self._next is not None else math.inf

    def _take_received(self) -> None:
        while (word := self._next) is not None and (word.start_ms + word.end_ms) / 2 <= self.clock_ms:
            self._open.append(word)
            self._taken += 1

    def _decode_at(self) -> float:
        return self._next.end_ms + self._lag if self._next is not None else math.inf

    def _decode(self) -> list[Emission]:
        word = self._next
        if word is None:  # never: _decode_at was infinite then
            return []
        if not self._open:
            delay = self.timing.interruption_delay + _FIRST_PARTIAL_MS
            self._partial_due = max(word.start_ms + delay, word.end_ms) if self.timing.pro else math.inf
        self._open.append(word)
        self._taken += 1
        self._paused = False
        return [] if self.timing.pro else self._partial()

    def _end_at(self) -> float:
        if not self._open:
            return math.inf
        last = self._open[-1]
        timing = self.timing
        complete = last.sentence_end and (
            timing.pro or self._confidence_in(self._open, final=False) > timing.threshold
        )
        silence = min(timing.min_silence, timing.max_silence) if complete else timing.max_silence
        natural: float = last.end_ms + silence
        natural = max(natural, last.end_ms + self._lag) if natural <= self._resume_at else math.inf
        return min(natural, self._open[0].start_ms + timing.longest_turn)

    def _finalise(self) -> list[Emission]:
        emissions = self._announced()
        words, self._open = tuple(self._open), []
        emissions.append(Emission(self._turn(words, final=True, formatted=self.timing.pro), final=True))
        if self.timing.format_turns and not self.timing.pro:
            emissions.append(Emission(self._turn(words, final=True, formatted=True), final=True))
        self.turn_order += 1
        self._started, self._shown, self._paused = False, 0, False
        self._partial_due = math.inf
        self._silent_from = max(self._silent_from, words[-1].end_ms)
        return emissions

    def _split(self) -> list[Emission]:
        half = len(self._open) // 2
        rest = self._open[half:]
        self._open = self._open[:half]
        first = self._finalise()
        self._open = rest
        return [*self._finalise(), *first]

    def _pause_at(self) -> float:
        if not self._open or self._paused:
            return math.inf
        pause = self.timing.min_silence if self.timing.pro else max(_UTTERANCE_PAUSE_MS, self._lag)
        at = self._open[-1].end_ms + pause
        return at if at <= self._resume_at else math.inf

    def _pause(self) -> list[Emission]:
        self._paused = True
        return self._partial(utterance=not self.timing.pro)

    def _tick_at(self) -> float:
        return self._partial_due

    def _tick(self) -> list[Emission]:
        self._partial_due += self.timing.partial_interval
        return self._partial()

    def _partial(self, *, utterance: bool = False) -> list[Emission]:
        if not self.timing.partials or not self._open:
            return []
        if self._shown == len(self._open) and not utterance:
            return []
        self._shown = len(self._open)
        message = self._turn(tuple(self._open), final=False, formatted=self.timing.pro)
        if utterance:
            message["utterance"] = message["transcript"]
        return [*self._announced(), Emission(message, final=False)]

    def _announced(self) -> list[Emission]:
        if self._started or not self.timing.pro:
            return []
        self._started = True
        message = {"type": "SpeechStarted", "timestamp": self._open[0].start_ms, "confidence": 0.93}
        return [Emission(message, final=False)]

    def _silence_at(self) -> float:
        if not self.timing.acknowledge_silence or self._open:
            return math.inf
        if self._resume_at < self._silent_from + _SILENCE_MS:
            return math.inf
        return self._silent_from + _SILENCE_MS

    def _silence(self) -> list[Emission]:
        start, self._silent_from = self._silent_from, self._silent_from + _SILENCE_MS
        return [Emission({"type": "Silence", "start_ms": start, "end_ms": self._silent_from}, final=False)]

    def _turn(self, words: Sequence[Word], *, final: bool, formatted: bool) -> Message:
        pro = self.timing.pro
        texts = [word.text if formatted else _plain(word.text) for word in words]
        entries = [
            {
                "start": word.start_ms,
                "end": word.end_ms,
                "text": text,
                "confidence": 0.99,
                "word_is_final": final or not pro,
            }
            for word, text in zip(words, texts, strict=True)
        ]
        coming = self._next
        if not pro and not final and coming is not None and coming.start_ms < self.clock_ms:
            beginning = _plain(coming.text)[: max(1, len(coming.text) // 2)]
            end = min(coming.end_ms, self.clock_ms)
            entries.append(
                {
                    "start": coming.start_ms,
                    "end": end,
                    "text": beginning,
                    "confidence": 0.61,
                    "word_is_final": False,
                }
            )
        transcript = " ".join(texts)
        confidence = self._confidence_in(words, final=final)
        message: Message = {
            "turn_order": self.turn_order,
            "turn_is_formatted": formatted,
            "end_of_turn": final,
            "transcript": transcript,
            "end_of_turn_confidence": confidence,
            "words": entries,
            "utterance": transcript if final else "",
            "type": "Turn",
        }
        if final and self.timing.language_detection and self.script is not None and self.script.language:
            message |= {"language_code": self.script.language, "language_confidence": 0.98}
        return message

    def _confidence_in(self, words: Sequence[Word], *, final: bool) -> float:
        if self.timing.pro:
            return 1.0 if final else 0.0
        return 0.9 if words and words[-1].sentence_end else 0.1


def _plain(text: str) -> str:
    return text.lower().strip(_PUNCTUATION) or text
