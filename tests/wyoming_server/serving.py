"""The server on a real socket with backends that do as they are told, and a client for it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.ping import Ping

from tests.engines import ignore, new_engine
from tests.fake_backends import Asked, ScriptedBackend, final
from tests.fakes import PATIENCE
from wyoming_server.handler import Limits
from wyoming_server.server import WyomingServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from wyoming.event import Event

    from tests.processes import Process
    from wyoming_server.backends.base import Backend, Progress, Request
    from wyoming_server.recording import Pool, Recording


class HeldBackend(ScriptedBackend):
    """Hears the whole recording, then keeps its words back until it is let go."""

    def __init__(self, text: str = "open the door", name: str = "held") -> None:
        super().__init__(name)
        self._text = text
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()
        self.over = asyncio.Event()
        """Whether it works on the latest utterance no more."""

    async def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Progress, None]:
        asked = Asked(request, asyncio.get_running_loop().time())
        self.asked.append(asked)
        self.over.clear()
        self.begun.set()
        try:
            async for frame in recording.frames():
                asked.received += frame
            await self.let_go.wait()
            yield final(self._text)
        finally:
            asked.is_over = True
            self.over.set()


class Client:
    """A connection to the server, by the `wyoming` package's own client."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def writer(self) -> asyncio.StreamWriter:
        assert self._client._writer is not None
        return self._client._writer

    async def send(self, *events: Event) -> None:
        for event in events:
            await self._client.write_event(event)

    async def send_bytes(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def say(
        self, pcm: bytes, *, chunk: int = 320, rate: int = 16_000, width: int = 2, channels: int = 1
    ) -> None:
        """A whole utterance; `chunk` is the most bytes a piece."""
        await self.send(AudioStart(rate, width, channels).event())
        await self.finish(pcm, chunk=chunk)

    async def finish(self, pcm: bytes, *, chunk: int = 320) -> None:
        """The rest of an utterance that has begun."""
        await self.speak(pcm, chunk=chunk)
        await self.send(AudioStop().event())

    async def speak(self, pcm: bytes, *, chunk: int = 320) -> None:
        for at in range(0, len(pcm), chunk):
            await self.send(AudioChunk(16_000, 2, 1, pcm[at : at + chunk]).event())

    async def next(self) -> Event:
        event = await self._client.read_event()
        assert event is not None, "the server closed the connection"
        return event

    async def text(self) -> str:
        """The next event is a transcript; its text."""
        event = await self.next()
        assert Transcript.is_type(event.type), event
        return Transcript.from_event(event).text

    async def error(self) -> str:
        """The next event is an error; its code."""
        event = await self.next()
        assert Error.is_type(event.type), event
        code = Error.from_event(event).code
        assert code is not None
        return code

    async def settle(self) -> list[str]:
        """Return once the server has taken in all that was sent; the types of what it had sent by then."""
        await self.send(Ping("settled").event())
        types = []
        while (event := await self.next()).data.get("text") != "settled" or event.type != "pong":
            types.append(event.type)
        return types

    async def rest(self) -> list[str]:
        """The types of all events until the server closes the connection."""
        types = []
        while (event := await self._client.read_event()) is not None:
            types.append(event.type)
        return types

    def half_close(self) -> None:
        """Say that nothing follows, and listen on."""
        self.writer.write_eof()

    def crash(self) -> None:
        """Be gone as when the power fails and the system says so: with a reset."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def leave(self) -> None:
        await self._client.disconnect()


def encoded(event: Event) -> bytes:
    """The event as it goes over the wire."""
    data, payload = json.dumps(event.data).encode(), event.payload or b""
    header = {"type": event.type, "data_length": len(data), "payload_length": len(payload)}
    return json.dumps(header).encode() + b"\n" + data + payload


def wish(**data: Any) -> Event:
    """A transcribe event."""
    return Transcribe(**data).event()


@asynccontextmanager
async def serving(
    *backends: Backend,
    uri: str = "tcp://127.0.0.1:0",
    deadline: float = PATIENCE,
    key_terms: tuple[str, ...] = (),
    max_utterance: float = 60.0,
    idle_timeout: float = PATIENCE,
    max_connections: int = 256,
    pool: Pool | None = None,
) -> AsyncIterator[WyomingServer]:
    """A server that listens, stopped without mercy in the end."""
    engine = new_engine(backends, deadline=deadline, listener=ignore)
    limits = Limits(max_utterance=max_utterance, idle_timeout=idle_timeout, max_connections=max_connections)
    server = WyomingServer(uri, engine, limits, key_terms, pool=pool)
    await server.start()
    try:
        yield server
    finally:
        for task in list(server._connections):
            task.cancel()
        await server.stop()
        assert not server._connections


@asynccontextmanager
async def connected(server: WyomingServer | Process) -> AsyncIterator[Client]:
    """A client of the server, gone in the end."""
    client = AsyncClient.from_uri(server.uri, PATIENCE, PATIENCE)
    await client.connect()
    try:
        yield Client(client)
    finally:
        with suppress(OSError):
            await client.disconnect()
