"""How one backend is doing: its breaker and its latency, told to whoever listens when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wyoming_server.breaker import Breaker, State
from wyoming_server.events import BreakerChanged
from wyoming_server.latency import Latency

if TYPE_CHECKING:
    from collections.abc import Callable

    from wyoming_server.breaker import Cause
    from wyoming_server.errors import BackendError
    from wyoming_server.events import Listener

_HEDGE_QUANTILE: Final = 0.95
_MEDIAN: Final = 0.5


class Health:
    """Of the backend `name`; for clock and chance see Breaker."""

    def __init__(
        self, name: str, *, clock: Callable[[], float], chance: Callable[[], float], listener: Listener
    ) -> None:
        self._name = name
        self._clock = clock
        self._listener = listener
        self._breaker = Breaker(clock=clock, chance=chance)
        self._latency = Latency()
        self.is_punctual = True
        """Whether it gave the latest answer that it was asked for, and in time."""

    @property
    def is_closed(self) -> bool:
        """Whether a user's words may go there."""
        return self._breaker.is_closed

    @property
    def state(self) -> State:
        """Of its breaker."""
        return self._breaker.state

    @property
    def cause(self) -> Cause | None:
        """Why its breaker is not closed; None where it is."""
        return self._breaker.cause

    @property
    def probe_at(self) -> float | None:
        """When a probe is due, by the clock; None for never."""
        return self._breaker.probe_at

    @property
    def p95(self) -> float | None:
        """Seconds within which 95 % of its answers come; None before it is known."""
        return self._latency.quantile(_HEDGE_QUANTILE)

    @property
    def median(self) -> float | None:
        """Seconds within which half of its answers come; None before it is known."""
        return self._latency.quantile(_MEDIAN)

    def answered(self, seconds: float) -> None:
        """It gave an utterance its words, so many seconds after they were due."""
        self.is_punctual = True
        self._latency.add(seconds)
        self._change(self._breaker.succeed)

    def overtaken(self, seconds: float) -> None:
        """It was late, by so much already, when another one answered."""
        self.is_punctual = False
        self._latency.add(seconds)
        self._change(self._breaker.be_late)

    def failed(self, error: BackendError) -> None:
        """It gave an error to an utterance or to a probe."""
        self.is_punctual = False
        self._change(lambda: self._breaker.fail(error))

    def begin_probe(self) -> None:
        """A probe starts."""
        self._change(self._breaker.begin_probe)

    def recovered(self) -> None:
        """A probe went well, or somebody knows better."""
        self.is_punctual = True
        self._change(self._breaker.succeed)

    def _change(self, act: Callable[[], None]) -> None:
        before = self._breaker.state
        act()
        breaker = self._breaker
        if breaker.state is not before:
            due = breaker.probe_at if breaker.state is State.OPEN else None
            pause = None if due is None else due - self._clock()
            self._listener(BreakerChanged(self._name, breaker.state, breaker.cause, pause))
