"""What a session of the emulator saw and did, and the figures that it goes by."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.emulators.assemblyai_params import Parameters


@dataclass(frozen=True, slots=True)
class Latency:
    """Delays of the service, seconds of the loop's clock; 0.0 adds nothing."""

    connect: float = 0.0
    """From the upgrade request to the 101."""
    begin: float = 0.0
    """From the 101 to Begin, or to the Error that refuses the session."""
    partial: float = 0.0
    final: float = 0.02
    """From the natural end of a turn, in audio time, to its final."""
    force: float = 0.02
    """From ForceEndpoint to the final."""
    terminate_final: float = 0.02
    """From Terminate to the last final."""
    termination: float = 0.02
    """From Terminate to Termination; never before the last final."""

    @classmethod
    def zero(cls) -> Latency:
        """Everything at once."""
        return cls(final=0.0, force=0.0, terminate_final=0.0, termination=0.0)

    @classmethod
    def measured(cls) -> Latency:
        """As others measured the real service, their distance to it taken off."""
        return cls(connect=0.1, begin=0.1, final=0.25, force=0.12, terminate_final=0.2, termination=0.5)


@dataclass(frozen=True, slots=True)
class Rules:
    """Where the service sets limits, or where its behaviour is uncertain."""

    throttle: float | None = 1.25
    """Audio seconds worked on per second; None for any speed."""
    decode_lag_ms: int = 300
    """How long after its end a universal-streaming model knows a word."""
    max_session: float = 10_800.0
    """Seconds; then Error 3008."""
    max_backlog: float = 300.0
    """Seconds of audio that may wait for the throttle; then Error 3007."""
    max_sessions: int | None = None
    """Open at once; one more is refused with 1008."""
    force_without_turn: Literal["nothing", "empty"] = "nothing"
    """What ForceEndpoint brings where no turn is open; unknown of the real service."""
    extra_empty_final: bool = False
    """Whether universal-streaming models send an empty final on Terminate, as they sometimes do."""
    heartbeat: float = 5.0
    """Seconds between Heartbeats where the client asked for them."""
    inactivity_unit: float = 1.0
    """Seconds that one second of `inactivity_timeout` lasts; smaller makes tests quick."""
    keep_audio: bool = True
    """Whether a record keeps the audio itself, not only its length."""


@dataclass(slots=True, eq=False)
class SessionRecord:
    """One connection, from its upgrade request to its end; times are those of the loop's clock."""

    index: int
    """Counts the connections from 0."""
    headers: dict[str, str]
    """The authorization, user-agent and assemblyai-version that were sent; lower-case names."""
    query: dict[str, str]
    opened_at: float
    parameters: Parameters = field(default_factory=lambda: Parameters({}))
    """Decoded; UpdateConfiguration changes them."""
    http_status: int | None = None
    """What the upgrade was answered with; 101 once open, None while unanswered."""
    begun_at: float | None = None
    """When Begin left."""
    audio: bytearray = field(default_factory=bytearray)
    audio_bytes: int = 0
    frame_sizes: list[int] = field(default_factory=list)
    first_audio_at: float | None = None
    last_audio_at: float | None = None
    received: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """The client's JSON messages and their times."""
    sent: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """The emulator's JSON messages and their times."""
    terminated: bool = False
    """Whether the client sent Terminate."""
    closed_at: float | None = None
    close_code: int | None = None
    """Whoever closed; 1006 for a connection that just ended."""
    closed_by: Literal["client", "server"] | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    max_session: float = 10_800.0

    @property
    def params(self) -> dict[str, Any]:
        """The known parameters, decoded."""
        return dict(self.parameters.values)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The client's JSON messages in order."""
        return [message for _, message in self.received]

    @property
    def message_types(self) -> list[str]:
        """The types of the client's JSON messages in order."""
        return [str(message.get("type")) for message in self.messages]

    @property
    def finals(self) -> list[dict[str, Any]]:
        """The final Turns sent."""
        return [message for _, message in self.sent if message.get("end_of_turn")]

    @property
    def billed_seconds(self) -> float:
        """What the session costs so far or in the end: the time it is open.

        A client that goes away without Terminate pays until the service's own limit.
        """
        if self.begun_at is None:
            return 0.0
        if self.closed_at is None:
            return asyncio.get_running_loop().time() - self.begun_at
        if self.closed_by == "client" and not self.terminated:
            return self.max_session
        return self.closed_at - self.begun_at

    def note_audio(self, data: bytes, now: float, *, keep: bool) -> None:
        """A binary frame came."""
        if self.first_audio_at is None:
            self.first_audio_at = now
        self.last_audio_at = now
        self.audio_bytes += len(data)
        self.frame_sizes.append(len(data))
        if keep:
            self.audio += data

    def note_closed(self, code: int | None, by: Literal["client", "server"], now: float) -> None:
        """The connection is over; only the first call counts."""
        if self.closed_at is None:
            self.close_code, self.closed_by, self.closed_at = code, by, now
            self.closed.set()
