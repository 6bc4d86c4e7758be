"""A small Wyoming server whose every word a test decides."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from wyoming.event import Event, async_read_event, async_write_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from wyoming.event import Eventable


class Client:
    """One client, as the server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.sent: list[Event] = []
        """What it has sent so far."""

    @property
    def audio(self) -> bytes:
        """The samples that it has sent so far."""
        return b"".join(event.payload or b"" for event in self.sent)

    async def read(self) -> Event | None:
        """What it sends next; None when it has left."""
        try:
            event = await async_read_event(self.reader)
        except OSError, EOFError:
            return None
        if event:
            self.sent.append(event)
        return event

    async def read_to(self, kind: str) -> Event:
        """Read on to an event of this type."""
        while (event := await self.read()) is not None:
            if event.type == kind:
                return event
        raise AssertionError(f"the client left before {kind}: {[event.type for event in self.sent]}")

    async def write(self, *events: Eventable) -> None:
        for event in events:
            await async_write_event(event.event(), self.writer)


class Peer:
    """The server; `behave` is run for each client."""

    def __init__(self, behave: Callable[[Client], Awaitable[None]]) -> None:
        self._behave = behave
        self.clients: list[Client] = []
        self.port = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def uri(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def client(self) -> Client:
        """The only client there was."""
        (client,) = self.clients
        return client

    async def done(self) -> None:
        """Return when every client has been served; raises what went wrong."""
        await asyncio.gather(*self._tasks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer)
        self.clients.append(client)
        task = asyncio.create_task(self._run(client))
        self._tasks.append(task)

    async def _run(self, client: Client) -> None:
        try:
            await self._behave(client)
        finally:
            client.writer.close()

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self.clients:
            client.writer.transport.abort()


@asynccontextmanager
async def peer(behave: Callable[[Client], Awaitable[None]]) -> AsyncIterator[Peer]:
    """A server on a port of its own."""
    made = Peer(behave)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.cancel()
        await server.wait_closed()
