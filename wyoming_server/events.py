"""What happened, as plain facts. The engine reports them; log, metrics and feeds listen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wyoming_server.breaker import Cause, State
    from wyoming_server.errors import BackendError
    from wyoming_server.trace import Reason, Trace


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A backend is asked beside or after another one."""

    backend: str
    reason: Reason
    audio_seconds: float
    """How much had been said by then; it hears all of it."""


@dataclass(frozen=True, slots=True)
class BackendConnected:
    """A backend answered for the first time in an utterance."""

    backend: str
    ms: float
    """Since it was asked."""


@dataclass(frozen=True, slots=True)
class BackendFailed:
    """A backend is out of the running for an utterance."""

    backend: str
    error: BackendError
    successor: str | None
    """Who takes over from the first sample, or is at it already; None when nobody is left."""
    audio_seconds: float
    """How much had been said by then."""
    was_known: bool = False
    """Whether it was known to be bad and asked as a last resort."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The utterance has its words."""

    backend: str
    """Empty where nobody had spoken, so that nobody had to be asked."""
    ms: float
    """After the last sample."""
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The utterance ends in an error event."""

    error: BackendError
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    """A backend is left out from now on, probed, or asked again."""

    backend: str
    state: State
    cause: Cause | None
    """None once it is closed."""
    retry_seconds: float | None
    """Until the next probe; None where there is none."""


@dataclass(frozen=True, slots=True)
class BudgetReached:
    """A backend has cost what it may cost in a day, and is asked last until the day is over."""

    backend: str
    dollars: float


@dataclass(frozen=True, slots=True)
class Traced:
    """An utterance is over, in whatever way; everything that happened in it."""

    trace: Trace


Event = (
    AttemptStarted
    | BackendConnected
    | BackendFailed
    | BreakerChanged
    | BudgetReached
    | Answered
    | Unanswered
    | Traced
)
Listener = Callable[[Event], None]


def all_of(*listeners: Listener) -> Listener:
    """One listener that tells each of these, in this order."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell
