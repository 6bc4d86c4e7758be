"""AssemblyAI's turns put together to one text, and whether they hold everything that was said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modal_whisper.speech import SpeechDetector

# Speech is heard some 180 ms longer than it lasts, 340 ms at most in 95 % of recordings. Word times are soft.
_WORD_END_TOLERANCE_MS = 400
_SPEECH_END_TOLERANCE_MS = 250


class Turns:
    """The turns of one session. Partials replace, finals stay, `turn_order` decides about the order."""

    def __init__(self) -> None:
        self._finals: dict[int, str] = {}
        self._open: dict[int, str] = {}
        self._last_word_end_ms = 0
        self._last_final_at_ms = 0
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
        return any(self._open.values())

    def absorb(self, turn: Mapping[str, Any], speech: SpeechDetector) -> None:
        """Take in a Turn message; `speech` is what has been heard by now.

        Raises KeyError, TypeError, ValueError or OverflowError, with nothing taken in, for what is no Turn.
        """
        order, text, words = turn["turn_order"], turn["transcript"], turn.get("words")
        if not isinstance(order, int) or not isinstance(text, str):
            raise TypeError("turn_order or transcript is of the wrong type")
        text = text.strip()
        last_word_end_ms = int(words[-1]["end"]) if words else 0
        if not turn["end_of_turn"]:
            if order not in self._finals:
                self._open[order] = text
            return
        if not text and (self._open.get(order) or self._finals.get(order)):
            return  # no words are taken back: universal-streaming sends empty turns as a session ends
        self._open.pop(order, None)
        self._finals[order] = text
        self._last_word_end_ms = max(self._last_word_end_ms, last_word_end_ms)
        self._last_final_at_ms = speech.audio_ms
        self.language = turn.get("language_code") or self.language

    def reach_end_of(self, speech: SpeechDetector) -> bool:
        """Whether the finals' last word lies where the last speech was heard.

        That speech must also have been over when the last final arrived: a word's end can be reported up to a
        second late, when somebody else's word, or the next sentence, may be there already.
        """
        end_ms = speech.speech_end_ms or 0
        return (
            self.has_final
            and not self.are_open
            and len(self._finals) > max(self._finals)  # none is missing before the last
            and self._last_word_end_ms >= end_ms - _WORD_END_TOLERANCE_MS
            and self._last_final_at_ms >= end_ms - _SPEECH_END_TOLERANCE_MS
        )
