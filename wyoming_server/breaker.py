"""A circuit breaker: may a backend that has failed be asked again? Pure; clock and chance are given."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    NotReadyError,
    OverdueError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 300.0
_RATE_LIMIT_PAUSE: Final = 30.0
"""Where the service does not say how long to wait: AssemblyAI counts new sessions by the minute."""
_LONGEST_TOLD: Final = 3600.0
_JITTER: Final = 0.2
_LATE_IN_A_ROW: Final = 3
"""One late answer is cured by the hedge and may be chance; so many are an outage."""


class State(StrEnum):
    """Closed: asked as usual. Open: left out. Half-open: a probe in the background is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Cause(StrEnum):
    """Why a breaker is not closed."""

    SIGN_IN = "sign-in"
    RATE_LIMIT = "rate-limit"
    NETWORK = "network"
    OVERLOAD = "overload"
    NOT_READY = "not-ready"


class Breaker:
    """Opens on failure; pauses by the cause, each time twice as long, until a probe succeeds.

    Args:
        clock: seconds that never go backwards.
        chance: a number from 0 to below 1, for the jitter of the pauses.
    """

    def __init__(self, *, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._late = 0
        self.state = State.CLOSED
        self.cause: Cause | None = None
        """None while closed."""
        self.probe_at: float | None = None
        """When a probe is due, by the clock; None while closed, and where only other settings can help."""

    @property
    def is_closed(self) -> bool:
        """Whether a user's words may go there."""
        return self.state is State.CLOSED

    def succeed(self) -> None:
        """It answered an utterance or a probe."""
        self._failures = self._late = 0
        self.state, self.cause, self.probe_at = State.CLOSED, None, None

    def be_late(self) -> None:
        """It has been overtaken by a backend that was started because this one was late."""
        self._late += 1
        if self._late >= _LATE_IN_A_ROW:
            self._open(Cause.OVERLOAD, None)

    def fail(self, error: BackendError) -> None:
        """It gave an error instead of a final."""
        match error:
            case (
                OverdueError() | RejectedError()
            ):  # the one may be chance, the other this one request's fault
                self.be_late()
            case SignInRefusedError():
                self._open(Cause.SIGN_IN, None)
            case RateLimitedError(retry_after=pause):
                self._open(Cause.RATE_LIMIT, pause)
            case OverloadedError(retry_after=pause):
                self._open(Cause.OVERLOAD, pause)
            case UnreachableError() | DisconnectedError():
                self._open(Cause.NETWORK, None)
            case NotReadyError():
                self._open(Cause.NOT_READY, None)
            case _:
                self._open(Cause.OVERLOAD, None)

    def begin_probe(self) -> None:
        """A probe starts; `succeed` or `fail` tells how it went."""
        self.state = State.HALF_OPEN

    def _open(self, cause: Cause, told_pause: float | None) -> None:
        if self.state is State.OPEN and self.cause is Cause.SIGN_IN:
            return
        was_open = self.state is State.OPEN
        if not was_open:  # those who were under way then tell of the same outage
            self._failures = min(self._failures + 1, 16)
        first = _RATE_LIMIT_PAUSE if cause is Cause.RATE_LIMIT else _FIRST_PAUSE
        pause = min(first * 2.0 ** (self._failures - 1), _LONGEST_PAUSE)
        pause *= 1 + _JITTER * (2 * self._chance() - 1)
        self.state, self.cause = State.OPEN, cause
        if told_pause is not None:  # several servers that were told the same must not come back together
            told = min(max(told_pause, 0.0), _LONGEST_TOLD) * (1 + _JITTER * self._chance())
            pause = told if cause is Cause.RATE_LIMIT else max(told, pause)
        due = self._clock() + pause
        if was_open and self.probe_at is not None:
            due = max(due, self.probe_at)  # never sooner than told
        self.probe_at = None if cause is Cause.SIGN_IN else due
