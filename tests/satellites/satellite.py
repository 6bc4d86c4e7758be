"""A satellite or a Home Assistant that has something to say, as the `wyoming` package's own client."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.info import Describe, Info

if TYPE_CHECKING:
    from types import TracebackType

    from wyoming.event import Event

    from tests.end_to_end.clips import Clip

PATIENCE = 30.0
WYOMING = 10300
"""The port."""
_BYTES_PER_MS = 32


class LostError(Exception):
    """The server has closed the connection."""


class Satellite:
    """One connection to a server, for any number of utterances."""

    def __init__(self, host: str, port: int, *, chunk_ms: int = 10, speed: float = 1.0) -> None:
        self._client = AsyncTcpClient(host, port, connect_timeout=PATIENCE)
        self._chunk_bytes = chunk_ms * _BYTES_PER_MS
        self._speed = speed

    async def __aenter__(self) -> Self:
        await self._client.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # the server may be gone
            await self._client.disconnect()

    async def describe(self) -> Info:
        """Who answers there."""
        await self._client.write_event(Describe().event())
        return Info.from_event(await self._read(Info))

    async def say(self, clip: Clip) -> str:
        """Speak, and give what was understood; raises LostError and OSError."""
        await self.begin(clip)
        await self.stream(clip.pcm)
        return await self.finish()

    async def begin(self, clip: Clip) -> None:
        await self._client.write_event(Transcribe(language=clip.language).event())
        await self._client.write_event(AudioStart(16_000, 2, 1).event())

    async def stream(self, pcm: bytes) -> None:
        now = asyncio.get_running_loop().time
        due = now()
        for at in range(0, len(pcm), self._chunk_bytes):
            chunk = AudioChunk(16_000, 2, 1, pcm[at : at + self._chunk_bytes])
            await self._client.write_event(chunk.event())
            due += chunk.seconds / self._speed
            await asyncio.sleep(due - now())

    async def finish(self) -> str:
        await self._client.write_event(AudioStop().event())
        return Transcript.from_event(await self._read(Transcript)).text

    async def _read(self, kind: type[Info | Transcript]) -> Event:
        async with asyncio.timeout(PATIENCE):
            while event := await self._client.read_event():
                assert not Error.is_type(event.type), event.data
                if kind.is_type(event.type):
                    return event
        raise LostError


async def heard(host: str, clip: Clip, *, chunk_ms: int = 10, speed: float = 1.0) -> str:
    """What the server makes of an utterance that has a connection to itself, as Home Assistant does it."""
    async with Satellite(host, WYOMING, chunk_ms=chunk_ms, speed=speed) as satellite:
        return await satellite.say(clip)
