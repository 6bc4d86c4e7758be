"""What can go wrong with the service, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


@dataclass(frozen=True, slots=True)
class HttpStatus:
    """Answer the upgrade with this status instead of 101."""

    status: int
    retry_after: int | None = None
    """Seconds, for the header of that name."""


@dataclass(frozen=True, slots=True)
class NeverAnswer:
    """Accept the TCP connection and read the upgrade request, but never answer it."""


@dataclass(frozen=True, slots=True)
class SlowBegin:
    """Open the WebSocket, but send Begin only after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    """An Error frame, then a close with the same code."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """A close frame without an Error before it."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """End the TCP connection abruptly, by reset."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Go on reading, but say nothing more: at connect there is no Begin, at the end no final."""


@dataclass(frozen=True, slots=True)
class StopReading:
    """Stop reading from the socket, and say nothing more, so that the client's sending blocks in time."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this text, these bytes or this JSON message, then go on as if nothing were amiss."""

    data: str | bytes | dict[str, Any]


@dataclass(frozen=True, slots=True)
class EmptyFinal:
    """A final without words in place of the real one."""


@dataclass(frozen=True, slots=True)
class DelayFinal:
    """The answer to the end comes so many seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SwapFinals:
    """The open turn's words come as two finals, the later turn first."""


Action = (
    HttpStatus
    | NeverAnswer
    | SlowBegin
    | ErrorFrame
    | Close
    | Drop
    | Stall
    | StopReading
    | Send
    | EmptyFinal
    | DelayFinal
    | SwapFinals
)
_ANYWHERE = (ErrorFrame, Close, Drop, Stall, StopReading, Send)
_ACTIONS: dict[str, tuple[type, ...]] = {
    "connect": (HttpStatus, NeverAnswer, SlowBegin, *_ANYWHERE),
    "audio": _ANYWHERE,
    "end": (EmptyFinal, DelayFinal, SwapFinals, *_ANYWHERE),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong once in each session that it applies to.

    Raises:
        ValueError: the action cannot happen at that point.
    """

    at: Literal["connect", "audio", "end"]
    action: Action
    audio_ms: int = 0
    """For "audio": once so many milliseconds of audio have been received."""
    on: Collection[str] = ("ForceEndpoint", "Terminate")
    """For "end": which message of the client brings it about; the first of them that comes."""
    sessions: Collection[int] | Callable[[int], bool] | None = None
    """Which connections, counted from 0; None for all."""

    def __post_init__(self) -> None:
        if type(self.action) not in _ACTIONS[self.at]:
            name = type(self.action).__name__
            raise ValueError(f"{name} cannot happen at {self.at!r}; choose another point for it")

    def applies_to(self, index: int) -> bool:
        """Whether the connection with this number has the fault."""
        if self.sessions is None:
            return True
        if callable(self.sessions):
            return self.sessions(index)
        return index in self.sessions
