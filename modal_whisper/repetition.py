"""Whisper's typical slip: one phrase over and over, because it does not see where the speech ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAST_TIMES: Final = 3
_LEAST_TOKENS: Final = 8
"""People do say "no, no, no"."""


def loop(tokens: Sequence[int]) -> int | None:
    """Where the tokens begin to say one phrase again and again until they end; None where they do not.

    What lies before that place has the phrase once. Three times count, of which the last may be cut off.
    """
    for length in range(1, len(tokens) // 2 + 1):
        repeated = 0
        while repeated < len(tokens) - length and tokens[-1 - repeated] == tokens[-1 - repeated - length]:
            repeated += 1
        whole = repeated + length
        if whole >= max(_LEAST_TOKENS, (_LEAST_TIMES - 1) * length + 1):
            return len(tokens) - repeated
    return None
