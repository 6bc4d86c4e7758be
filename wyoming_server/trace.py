"""The trace of an utterance: who was asked when and why, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a backend was asked."""

    FIRST = "first"
    RACE = "race"
    FAILED = "the one before failed"
    SLOW_CONNECT = "the one before does not connect"
    NO_PROGRESS = "the one before hears nothing"
    HEDGE = "the one before is late"


class Outcome(StrEnum):
    """What became of an attempt."""

    WON = "won"
    LOST = "lost"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTrace:
    """One backend's part in an utterance; times in seconds after the utterance began, None: never."""

    backend: str
    reason: Reason
    outcome: Outcome
    error: str | None
    """The code of its error."""
    started: float
    connected: float | None
    first_partial: float | None
    final: float | None
    bytes_read: int
    dollars: float
    over: float | None = None
    """When it came to its end: the final, the failure, or that it was told to give up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One utterance; times as in AttemptTrace. Holds no words."""

    audio_seconds: float
    last_speech: float | None
    """Where the last voice was heard, in seconds of audio; None where nobody spoke."""
    ended: float | None
    """When the person had stopped; None where the client left before."""
    answered: float | None
    backend: str
    """Whose answer it was; empty for nobody's."""
    error: str | None
    """The code of the error event, where the answer was one."""
    attempts: tuple[AttemptTrace, ...]
