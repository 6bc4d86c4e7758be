"""How quick a backend usually is; pure."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

_REMEMBERED: Final = 100
_ENOUGH: Final = 10
"""Samples below which a quantile says little."""


class Latency:
    """Seconds from the moment that an answer was due to the answer, of the latest utterances."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_REMEMBERED)

    def add(self, seconds: float) -> None:
        """One more answer; for one that was given up, the time that it had."""
        self._samples.append(seconds)

    def quantile(self, share: float) -> float | None:
        """The time within which that share of the answers came; None before there are enough of them."""
        if len(self._samples) < _ENOUGH:
            return None
        ordered = sorted(self._samples)
        return ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1]
