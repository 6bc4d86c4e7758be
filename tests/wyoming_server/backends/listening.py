"""What the tests of all backends need: a recording that somebody speaks into, and somebody who listens."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

import wyoming_server
from tests.sounds import BYTES_PER_MS
from wyoming_server.backends.base import Connected, Hypothesis, Request
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from wyoming_server.backends.base import Backend, Progress

PATIENCE = 10.0
_PIECE = 20 * BYTES_PER_MS
_SEND_BUFFER = 32 * 1024
"""Bytes; small, so that a peer that reads nothing is soon felt."""
_SOURCES = str(Path(wyoming_server.__file__).parent)
_NOTHING_ASKED = Request()


@dataclass(slots=True)
class Heard:
    """What a backend has yielded."""

    connected: asyncio.Event = field(default_factory=asyncio.Event)
    hypotheses: list[Hypothesis] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def texts(self) -> list[str]:
        return [hypothesis.text for hypothesis in self.hypotheses]

    async def note(self, item: Progress) -> None:
        async with self._news:
            if isinstance(item, Connected):
                self.connected.set()
            else:
                self.hypotheses.append(item)
            self._news.notify_all()

    async def until(self, is_true: Callable[[], object]) -> None:
        """Return once something was yielded that makes it true."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(is_true)

    @property
    def final(self) -> Hypothesis:
        (final,) = [hypothesis for hypothesis in self.hypotheses if hypothesis.is_final]
        assert final is self.hypotheses[-1]
        return final


def recording_of(*pieces: bytes, ended: bool = True) -> Recording:
    recording = Recording(max_seconds=120, clock=asyncio.get_running_loop().time)
    for piece in pieces:
        recording.write(piece)
    if ended:
        recording.end()
    return recording


async def say(recording: Recording, *pieces: bytes) -> None:
    """At the speed of speech; the recording goes on."""
    loop = asyncio.get_running_loop()
    pcm = b"".join(pieces)
    due = loop.time()
    for at in range(0, len(pcm), _PIECE):
        piece = pcm[at : at + _PIECE]
        due += len(piece) / BYTES_PER_MS / 1000
        await asyncio.sleep(due - loop.time())
        recording.write(piece)


async def listen(
    backend: Backend, recording: Recording, request: Request = _NOTHING_ASKED, heard: Heard | None = None
) -> Heard:
    """Everything that the backend says; raises what it raises."""
    heard = heard or Heard()
    async with asyncio.timeout(PATIENCE), aclosing(backend.transcribe(recording, request)) as progress:
        async for item in progress:
            await heard.note(item)
    return heard


@asynccontextmanager
async def leaving_nothing(
    tls: ssl.SSLContext | bool = True,  # noqa: FBT001, FBT002 - as aiohttp has it
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client session for backends, which must leave neither a socket nor a task behind."""
    opened: list[socket.socket] = []

    def make_socket(address: tuple[Any, ...]) -> socket.socket:
        opened.append(socket.socket(*address[:3]))
        opened[-1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        return opened[-1]

    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    connector = aiohttp.TCPConnector(ssl=tls, socket_factory=make_socket, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
        for _ in range(10):  # a transport lets go of its socket a few rounds after it was told to
            await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() if _is_of_the_server(task)] == []
        gc.collect(1)  # the young ones; all of them take 50 ms
        assert complaints == [], complaints
        assert [client for client in opened if client.fileno() != -1] == []


def _is_of_the_server(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_SOURCES)
