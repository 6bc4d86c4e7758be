"""When to ask one backend more, and how often that may be done at the cost of a backend that is well."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_MOST_SAVED: Final = 3.0
"""Hedges that can be saved up, so that a first stall after quiet days is covered."""


class Strategy(StrEnum):
    """How many backends may be asked at once."""

    FAILOVER = "failover"
    """One at a time: the next is asked when the one before it has failed."""
    HEDGE = "hedge"
    """The next is asked also when the one before it is late."""
    RACE = "race"
    """All at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an attempt may show nothing before the next backend is started beside it; seconds."""

    hint: float = 0.3
    """Without a connection while somebody speaks; then whoever is next warms up."""
    connect: float = 1.0
    """Without a connection while somebody speaks."""
    progress: float = 3.0
    """Without a hypothesis while somebody speaks, for backends that give any before the end."""
    least: float = 0.3
    """Without a final after the person has stopped: the backend's own 95th percentile, but at least this."""
    usual: float = 0.6
    """The same for a backend that has not been measured yet."""
    most: float = 1.5
    """By so long after the person has stopped every backend that is left has been started."""

    def after_stop(self, p95: float | None) -> float:
        """How long to wait for the final of a backend with that 95th percentile, None: not measured."""
        return min(max(self.usual if p95 is None else p95, self.least), self.most)


class HedgeBudget:
    """Allows hedges for a given share of the utterances."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = _MOST_SAVED

    def earn(self) -> None:
        """One more utterance."""
        self._saved = min(self._saved + self._share, _MOST_SAVED)

    def spend(self) -> bool:
        """Take one hedge out of the budget; False where there is none left."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
