"""The connections to the API's port: no more than there is room for, and nobody keeps one for nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from wyoming_server.api.attempts import network_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

IDLE_SECONDS: Final = 20.0
"""For the next request's head; most clients let go of a connection after 15 s by themselves."""
LINGERING_SECONDS: Final = 2.0
"""For the rest of a body that nobody wants."""
_MOST: Final = 256
_UNREAD_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 5.0


class Connections:
    """All that are open, whatever their clients send or do not send.

    Where there is no room for one more, the address that has the most loses the one that it has been silent
    on longest; what is at work for those who were let in stays.
    """

    def __init__(self) -> None:
        self._open: dict[asyncio.BaseTransport, _Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    def accepting(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """The protocol factory of a listener whose clients `make` serves."""
        return lambda: _Connection(self._open, make)

    @property
    def middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """What the application calls for each request that was let in."""

        @web.middleware
        async def at_work(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            with self._at_work(request.transport):
                return await handler(request)

        return at_work

    @contextmanager
    def _at_work(self, transport: asyncio.BaseTransport | None) -> Iterator[None]:
        connection = self._open.get(transport) if transport else None
        if connection is None:
            yield
            return
        connection.is_at_work = True
        try:
            yield
        finally:
            connection.is_at_work = False


class _Connection(asyncio.Protocol):
    """Stands between one transport and what serves it, which gets all that comes."""

    def __init__(
        self, others: dict[asyncio.BaseTransport, _Connection], make: Callable[[], asyncio.Protocol]
    ) -> None:
        self._others = others
        self._make = make
        self._inner: asyncio.Protocol | None = None
        self._unread_since: float | None = None
        self.is_at_work = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the API is served over streams")
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self.network = network_of(str((transport.get_extra_info("peername") or ("",))[0]))
        self.heard_at = self._loop.time()
        if len(self._others) >= _MOST and not self._make_room():
            transport.abort()
            return
        self._others[transport] = self
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)
        self._inner = self._make()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        if self._inner:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner else None

    def pause_writing(self) -> None:
        if self._inner:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        if self._inner:
            self._inner.connection_lost(exc)

    def drop(self) -> None:
        """Close it at once; its place is free from now on."""
        self._forget()
        self._transport.abort()

    def _make_room(self) -> bool:
        idle = [item for item in self._others.values() if not item.is_at_work]
        if not idle:
            return False
        counts = Counter(item.network for item in idle)
        min(idle, key=lambda item: (-counts[item.network], item.heard_at)).drop()
        return True

    def _look(self) -> None:
        """Give up a client that does not read; a transport that was closed would wait for it, too."""
        now = self._loop.time()
        if not self._transport.get_write_buffer_size():
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since >= _UNREAD_SECONDS:
            self.drop()
            return
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)

    def _forget(self) -> None:
        if self._others.pop(self._transport, None):
            self._looking.cancel()
