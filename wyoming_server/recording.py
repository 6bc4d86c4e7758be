"""The recording of one utterance: written once, read by any number of readers at their own pace."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol

from modal_whisper.speech import BYTES_PER_SECOND, SpeechDetector

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable


def _bytes_in(ms: int) -> int:
    return BYTES_PER_SECOND * ms // 1000


class Audio(Protocol):
    """What a backend may do with a recording."""

    @property
    def speech(self) -> SpeechDetector:
        """Who was heard when, up to the latest write."""

    @property
    def seconds(self) -> float:
        """How much audio there is."""

    @property
    def ended_at(self) -> float | None:
        """The clock's time when the person had stopped; None while the recording grows."""

    async def wait_ended(self) -> None:
        """Return when the person has stopped."""

    def frames(self, ms: int = 50, most_ms: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the recording from its first sample, see Recording.frames."""


MOST_BYTES: Final = 64 * 1024 * 1024
"""What all utterances together may hold before the long ones are ended: 35 minutes of speech."""


class Pool:
    """The bytes that all recordings together may hold.

    Once those are `most`, only what holds less than its equal share may grow: many long recordings never cost
    a short one its words, and all together they hold no more than twice as much.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._recordings = 0
        self._held = 0

    def enter(self) -> None:
        """One more shares it."""
        self._recordings += 1

    def take(self, size: int) -> None:
        """A recording has grown by so much."""
        self._held += size

    def leave(self, size: int) -> None:
        """A recording of that size is gone."""
        self._recordings -= 1
        self._held -= size

    def room(self, size: int) -> int:
        """By how much a recording of that size may grow, a whole number of samples."""
        share = self._most // self._recordings
        return max(self._most - self._held, share - size, 0) // 2 * 2


class Recording:
    """Append-only audio, 16 kHz mono s16le, that ends by itself at `max_seconds`, or sooner by its `pool`.

    `clock` gives seconds; it stamps the end, from which every delay of an answer is counted.
    """

    def __init__(self, *, max_seconds: float, clock: Callable[[], float], pool: Pool | None = None) -> None:
        self._pcm = bytearray()
        self._size = 0
        self._pool = pool
        if pool:
            pool.enter()
        self._max_bytes = _bytes_in(round(max_seconds * 1000))
        self._clock = clock
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._ended_at: float | None = None
        self.is_capped = False
        """Whether the recording ended because it was full."""
        self.speech = SpeechDetector()
        """Who was heard when, up to the latest write."""

    @property
    def seconds(self) -> float:
        """How much audio there is."""
        return self._size / BYTES_PER_SECOND

    @property
    def ended_at(self) -> float | None:
        """The clock's time when the person had stopped; None while the recording grows."""
        return self._ended_at

    def write(self, pcm: bytes) -> None:
        """Append audio, a whole number of samples. What comes after the end is dropped."""
        if self._ended_at is not None:
            return
        room = self._max_bytes - self._size
        if self._pool:
            room = min(room, self._pool.room(self._size))
        kept = pcm[:room]
        self._pcm += kept
        self._size += len(kept)
        if self._pool:
            self._pool.take(len(kept))
        self.speech.feed(kept)
        if len(kept) == room:
            self.is_capped = True
            self.end()
        else:
            self._wake()

    def end(self) -> None:
        """Say that nothing follows. Doing so twice changes nothing."""
        if self._ended_at is None:
            self._ended_at = self._clock()
            self._wake()

    def release(self) -> None:
        """Let go of the audio, which nobody reads any more; how long it was is still known."""
        self.end()
        self._pcm = bytearray()
        if self._pool:
            self._pool.leave(self._size)
            self._pool = None

    async def wait_ended(self) -> None:
        """Return when the person has stopped."""
        while self._ended_at is None:
            await self._grown(self._max_bytes)

    async def frames(self, ms: int = 50, most_ms: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the recording from its first sample: what is there, then what is still being said.

        Every frame holds at least `ms` of audio, only the last one may be shorter, and at most `most_ms`
        (default `ms`), so that a reader who is behind can catch up in large pieces.
        """
        least, most = _bytes_in(ms), _bytes_in(most_ms or ms)
        position = 0
        while True:
            available = len(self._pcm) - position
            if available < least and self._ended_at is None:
                await self._grown(position + least)
                continue
            if available <= 0:
                return
            frame = bytes(memoryview(self._pcm)[position : position + most])
            position += len(frame)
            yield frame

    async def _grown(self, size: int) -> None:
        entry = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[1]
        finally:
            self._waiting.remove(entry)

    def _wake(self) -> None:
        for size, waiter in self._waiting:
            if (self._ended_at is not None or len(self._pcm) >= size) and not waiter.done():
                waiter.set_result(None)


class Reader:
    """One backend's way through a recording: the same audio, and a count of what was taken of it."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.bytes_read = 0

    @property
    def speech(self) -> SpeechDetector:
        """See Audio."""
        return self._recording.speech

    @property
    def seconds(self) -> float:
        """See Audio."""
        return self._recording.seconds

    @property
    def ended_at(self) -> float | None:
        """See Audio."""
        return self._recording.ended_at

    async def wait_ended(self) -> None:
        """See Audio."""
        await self._recording.wait_ended()

    async def frames(self, ms: int = 50, most_ms: int | None = None) -> AsyncGenerator[bytes, None]:
        """See Audio."""
        async with aclosing(self._recording.frames(ms, most_ms)) as frames:
            async for frame in frames:
                self.bytes_read += len(frame)
                yield frame
