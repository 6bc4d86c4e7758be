"""How fast the service works on audio, and which frames it takes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from tests.emulators.assemblyai_params import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

_SHORTEST_FRAME_MS, _LONGEST_FRAME_MS = 50, 1000
_SHORT_FRAMES_MS = 1000
"""How much audio may come in too short frames before the service takes offence."""
_COMPRESSED_MESSAGE_MS = 20.0
"""What a message of compressed audio is taken for: the emulator decodes none."""


class Intake:
    """Measures the frames of a session, and keeps what is to be done with them in order and at the pace.

    Raises:
        Refusal: 3007, from `audio`.
    """

    def __init__(self, bytes_per_second: int | None, *, throttle: float | None, max_backlog: float) -> None:
        self.audio_ms = 0.0
        self._rate = bytes_per_second
        self._throttle = throttle
        self._max_backlog = max_backlog
        self._loop = asyncio.get_running_loop()
        self._opened = self._ready_at = self._loop.time()
        self._short_ms = 0.0
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, seconds: float) -> None:
        """Work on nothing for so long: the session has not begun."""
        self._ready_at = self._loop.time() + seconds

    def audio(self, data: bytes) -> int:
        """The next frame has come; how many milliseconds of audio that makes in all."""
        length = len(data) * 1000 / self._rate if self._rate else _COMPRESSED_MESSAGE_MS
        if self._rate:
            self._check_length(length)
        self.audio_ms += length
        if self._throttle is not None:
            now = self._loop.time()
            self._ready_at = max(now, self._ready_at + length / 1000 / self._throttle)
            if (self._ready_at - now) * self._throttle > self._max_backlog:
                rate = f"Received {self.audio_ms / 1000:.1f} sec. audio in {now - self._opened:.1f} sec"
                raise Refusal(3007, f"Audio Transmission Rate Exceeded: {rate}")
        return int(self.audio_ms)

    def then(self, work: Callable[[], None]) -> None:
        """Do this once all audio received before it has been worked on; at once where nothing waits."""
        if not self._waiting and self._ready_at <= self._loop.time():
            work()
            return
        self._waiting.append((self._ready_at, work))
        if self._timer is None:
            self._timer = self._loop.call_at(self._ready_at, self._drain)

    def close(self) -> None:
        """Forget what still waits."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _check_length(self, length: float) -> None:
        short = length < _SHORTEST_FRAME_MS
        if short:
            self._short_ms += length
        if length > _LONGEST_FRAME_MS or (short and self._short_ms >= _SHORT_FRAMES_MS):
            bounds = f"Expected between {_SHORTEST_FRAME_MS} and {_LONGEST_FRAME_MS} ms"
            violation = f"Input Duration Violation: {length:.1f} ms. {bounds}"
            raise Refusal(3007, f"Input Duration Error: {violation}")

    def _drain(self) -> None:
        self._timer = None
        # A timer may fire early by the resolution of the clock; what is due then is due now.
        now = self._loop.time() + 0.001
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[1]()
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0][0], self._drain)
