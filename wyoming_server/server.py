"""Listens for Wyoming clients and keeps their number within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from wyoming.event import async_get_stdin, async_get_stdout

from wyoming_server.errors import SettingsError, UnavailableError
from wyoming_server.handler import Connection
from wyoming_server.info import describe
from wyoming_server.recording import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wyoming_server.engine import Engine
    from wyoming_server.handler import Limits

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_BACKLOG: Final = 1024
_TAKEN_AT_ONCE: Final = 16
"""Clients that are let in before those who are in have their turn: a new one must be heard before it goes."""
_NO_ROOM: Final = "too many clients are connected; try again later"
_MOST_REFUSALS: Final = 64
"""How many clients at once are told that there is no room; to the others the connection is just closed."""
_FLOOD: Final = 0.25
"""Of all places: one address that has more of them floods the server."""
_LARGEST_HOUSEHOLD: Final = 16
"""Connections that are no flood of one address, however few places there are."""
SHUTDOWN_SECONDS: Final = 8.0
"""How long the utterances in flight have for their answers when the server stops."""
_LAST_WORD_SECONDS: Final = 1.0
"""How long a client may then take to be told that it gets none."""


class WyomingServer:
    """A Wyoming server on one engine.

    `uri` is tcp://HOST:PORT (port 0: any), unix://PATH or stdio://. `pool` bounds the audio of all clients,
    and of who else shares it.
    """

    def __init__(
        self,
        uri: str,
        engine: Engine,
        limits: Limits,
        key_terms: tuple[str, ...] = (),
        *,
        pool: Pool | None = None,
    ) -> None:
        self._uri = uri
        self._engine = engine
        self._limits = limits
        self._key_terms = key_terms
        self._info = describe(engine.languages, endpointing=limits.endpointing)
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._refusals: set[asyncio.Task[None]] = set()
        self._pool = pool or Pool()
        self._listener: asyncio.Server | None = None

    @property
    def uri(self) -> str:
        """Where clients of this machine reach the server."""
        host = urlsplit(self.listening_uri).hostname or ""
        if is_unspecified(host):
            host = "::1" if ":" in host else "127.0.0.1"
        return self._uri_at(host)

    @property
    def listening_uri(self) -> str:
        """Where it listens: every address of this machine is 0.0.0.0."""
        if self._listener and self._uri.startswith("tcp://"):
            return self._uri_at(self._listener.sockets[0].getsockname()[0])
        return self._uri

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._connections)

    def reconfigure(self, limits: Limits, key_terms: tuple[str, ...]) -> None:
        """Serve by these from the next utterance on, and tell of what the engine can do by now."""
        self._limits, self._key_terms = limits, key_terms
        self._info = describe(self._engine.languages, endpointing=limits.endpointing)
        for connection in self._connections.values():
            connection.reconfigure(self._info, limits, key_terms)

    async def start(self) -> None:
        """Begin to listen; raises SettingsError, or UnavailableError where that may be possible later."""
        parts = urlsplit(self._uri)
        try:
            if parts.scheme == "unix":
                self._listener = await asyncio.start_unix_server(
                    self._accept, path=self._unix_path, backlog=_TAKEN_AT_ONCE
                )
            elif parts.scheme == "tcp":
                self._listener = await asyncio.start_server(
                    self._accept, host=parts.hostname, port=parts.port, backlog=_TAKEN_AT_ONCE
                )
            else:
                self._accept(await async_get_stdin(), await async_get_stdout())
        except (OSError, ValueError) as error:  # ValueError: a file for standard input, an impossible host
            kind = UnavailableError if isinstance(error, OSError) else SettingsError
            reason = getattr(error, "strerror", None) or error
            raise kind(f"URI {self._uri}: cannot listen there ({reason})") from None
        for bound in self._listener.sockets if self._listener else ():
            # asyncio has one number for how many wait and how many are let in at once.
            with socket.fromfd(bound.fileno(), bound.family, bound.type) as same:
                same.listen(_BACKLOG)

    async def wait_closed(self) -> None:
        """Return when a server on standard input has lost its client; a listening one never returns."""
        if self._listener:
            await asyncio.Event().wait()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def stop(self) -> None:
        """Take no more clients, let the utterances in flight be answered, and close."""
        if self._listener:
            self._listener.close()
        connections = dict(self._connections)
        await asyncio.gather(*(_finish(task, connection) for task, connection in connections.items()))
        for task in self._refusals:
            task.cancel()
        await asyncio.gather(*self._refusals, return_exceptions=True)
        if self._uri.startswith("unix://"):
            _remove(self._unix_path)

    def _uri_at(self, host: str) -> str:
        if self._listener is None or not self._uri.startswith("tcp://"):
            return self._uri
        port = self._listener.sockets[0].getsockname()[1]
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    @property
    def _unix_path(self) -> str:
        return self._uri.removeprefix("unix://")

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self._connection(reader, writer)
        if self._has_room() or self._make_room(connection.address):
            task = asyncio.create_task(connection.run())
            self._connections[task] = connection
        elif len(self._refusals) < _MOST_REFUSALS:
            task = asyncio.create_task(connection.turn_away("too-many-connections", _NO_ROOM))
            self._refusals.add(task)
        else:
            writer.transport.abort()
            return
        task.add_done_callback(self._forget)
        # Not by the task itself, which may be cancelled before it has begun.
        task.add_done_callback(lambda _: connection.close())

    def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        return Connection(
            (reader, writer), self._engine, self._info, self._limits, self._key_terms, pool=self._pool
        )

    def _has_room(self) -> bool:
        return len(self._connections) < self._limits.max_connections

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)
        self._refusals.discard(task)

    def _make_room(self, newcomer: str) -> bool:
        """Give somebody's place to a client of that address, if anybody's."""
        task = whose_place(self._connections, newcomer)
        if task is None:
            return False
        _LOGGER.debug("closing one of %d connections to make room", len(self._connections))
        task.cancel()
        self._forget(task)  # at once: the next client may come before the task has ended
        return True


def whose_place(served: Mapping[_T, Connection], newcomer: str) -> _T | None:
    """Who makes room for a client of the address `newcomer`; `served` are all, the oldest first.

    Of the address that has the most, who has been silent longest; else who is furthest behind in an utterance
    that it does not go on with. Who speaks or waits for an answer stays, unless its address floods the
    server. Such an address makes room before all others, for clients of others even by its youngest, and gets
    nobody else's place.
    """
    counts = Counter(item.address for item in served.values())
    ((address, most),) = counts.most_common(1)
    floods = most > max(len(served) * _FLOOD, _LARGEST_HOUSEHOLD)
    there = [(who, item) for who, item in served.items() if not floods or item.address == address]
    if idle := [pair for pair in there if not pair[1].is_busy]:
        return min(idle, key=lambda pair: (-counts[pair[1].address], pair[1].last_event_at))[0]
    if stalled := [pair for pair in there if pair[1].is_stalled]:
        return min(stalled, key=lambda pair: (-counts[pair[1].address], -pair[1].lag))[0]
    return there[-1][0] if floods and counts[newcomer] + 1 < most else None


def is_unspecified(host: str) -> bool:
    """Whether a host stands for every address of this machine, which nobody can connect to."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


async def _finish(task: asyncio.Task[None], connection: Connection) -> None:
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await connection.wait_idle()
        if connection.is_busy:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD_SECONDS):
                    await connection.refuse("shutting-down", "the server is shutting down")
    finally:
        task.cancel()
    await asyncio.wait([task])
