"""AssemblyAI's turns put together to one text, and whether they hold everything that was said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modal_whisper.speech import SpeechDetector

_SETTLING_SILENCE_MS = 250
"""Silence heard by the time a final arrives, below which the person may already have gone on."""
_WORD_END_TOLERANCE_MS = 400
"""Word times are soft, and voice activity lasts a little longer than the voice."""


class Turns:
    """The turns of one session. Partials replace, finals stay, `turn_order` decides about the order."""

    def __init__(self) -> None:
        self._finals: dict[int, str] = {}
        self._open: dict[int, str] = {}
        self._last_word_end_ms = 0
        self._covered_speech_end_ms: int | None = None
        self.language: str | None = None
        """The language that the service reports, where it was asked to."""

    @property
    def text(self) -> str:
        """Everything known so far, joined in order."""
        turns = self._open | self._finals
        return " ".join(turns[order] for order in sorted(turns) if turns[order])

    @property
    def has_final(self) -> bool:
        """Whether at least one turn with words is final."""
        return any(self._finals.values())

    @property
    def are_open(self) -> bool:
        """Whether a turn has words that are not final yet."""
        return bool(self._open)

    def absorb(self, turn: Mapping[str, Any], speech: SpeechDetector) -> None:
        """Take in a Turn message; `speech` is what has been heard by now.

        Raises KeyError, TypeError or ValueError for a message that is no Turn.
        """
        order, text = int(turn["turn_order"]), str(turn["transcript"]).strip()
        words = turn.get("words") or ()
        if not turn["end_of_turn"]:
            self._open[order] = text
            return
        self._open.pop(order, None)
        if not text and order in self._finals:
            return  # universal-streaming repeats a turn without words when the session ends
        self._finals[order] = text
        if words:
            self._last_word_end_ms = max(self._last_word_end_ms, int(words[-1]["end"]))
        self.language = turn.get("language_code") or self.language
        if speech.silence_ms >= _SETTLING_SILENCE_MS:
            self._covered_speech_end_ms = speech.speech_end_ms

    def reach_end_of(self, speech: SpeechDetector) -> bool:
        """Whether the finals' last word lies where the last speech was heard."""
        end_ms = speech.speech_end_ms or 0
        return self.has_final and not self._open and self._last_word_end_ms >= end_ms - _WORD_END_TOLERANCE_MS

    def are_settled(self, speech: SpeechDetector) -> bool:
        """Whether the natural end of the last turn has come and nobody has spoken since.

        Both signs must agree: word ends overshoot the voice by up to a second, and a final can arrive late.
        """
        return self.reach_end_of(speech) and self._covered_speech_end_ms == speech.speech_end_ms
