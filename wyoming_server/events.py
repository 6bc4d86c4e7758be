"""What happened, as plain facts. The engine reports them; log, metrics and feeds listen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wyoming_server.errors import BackendError


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
    """Who takes over from the first sample; None when nobody is left to be started."""
    audio_seconds: float
    """How much had been said by then."""


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


Event = BackendConnected | BackendFailed | Answered | Unanswered
Listener = Callable[[Event], None]
