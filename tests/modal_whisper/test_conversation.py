"""A connection with an ear of the test's own; test_service.py has the rest, with the worker's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from modal_whisper.conversation import Conversation, Limits
from modal_whisper.errors import MessageError
from modal_whisper.messages import Failure, Final, Partial, Ready, Start, Stop, decode_worker, encode
from tests.fakes import PATIENCE
from tests.wyoming_server.backends.servers import serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from modal_whisper.messages import WorkerMessage

READY = Ready("ear", "1")


class Ear:
    """Repeats how many bytes it heard, in every language but "xx"."""

    def __init__(self, tidying: float = 0.0, failure: Exception | None = None) -> None:
        self.started: list[Start] = []
        self.at_work = 0
        self.most_at_work = 0
        self._tidying = tidying
        self._failure = failure

    def greet(self, start: Start) -> Ready:
        if start.language == "xx":
            raise MessageError("no such language")
        return READY

    async def transcribe(
        self, audio: AsyncIterator[bytes], start: Start
    ) -> AsyncGenerator[Partial | Final, None]:
        self.started.append(start)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            heard = 0
            async for pcm in audio:
                heard += len(pcm)
                yield Partial(str(heard))
            yield Final(str(heard))
        finally:
            await asyncio.sleep(self._tidying)
            self.at_work -= 1
            if self._failure:
                raise self._failure


@asynccontextmanager
async def talking_to(ear: Ear) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async def serve(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await Conversation(socket, ear, Limits(idle_timeout=PATIENCE)).run()
        return socket

    async with (
        serving(serve) as port,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{port}/") as socket,
    ):
        yield socket


async def say(socket: aiohttp.ClientWebSocketResponse, start: Start, *pieces: bytes) -> None:
    await socket.send_str(encode(start))
    for piece in pieces:
        await socket.send_bytes(piece)
    await socket.send_str(encode(Stop()))


async def hear(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[WorkerMessage]:
    async with asyncio.timeout(PATIENCE):
        return [decode_worker(await socket.receive_str()) for _ in range(count)]


async def test_the_ear_greets_and_answers() -> None:
    ear = Ear()
    start = Start("en", names=("Anna",))
    async with talking_to(ear) as socket:
        await say(socket, start, b"12", b"345")
        assert await hear(socket, 4) == [READY, Partial("2"), Partial("5"), Final("5")]
    assert ear.started == [start]


async def test_what_the_ear_does_not_greet_is_an_error_and_the_next_start_is_answered() -> None:
    async with talking_to(Ear()) as socket:
        await say(socket, Start("xx"), b"12")
        assert await hear(socket, 1) == [Failure("bad-message", "no such language")]
        await say(socket, Start())
        assert await hear(socket, 2) == [READY, Final("0")]


async def test_a_client_may_go_on_when_it_has_its_answer_while_the_ear_still_tidies_up() -> None:
    ear = Ear(tidying=0.05)
    async with talking_to(ear) as socket:
        for _ in range(3):
            await say(socket, Start())
            assert await hear(socket, 2) == [READY, Final("0")]
    assert ear.most_at_work == 1


async def test_what_goes_wrong_after_the_answer_is_no_second_one() -> None:
    async with talking_to(Ear(failure=MessageError("too late"))) as socket:
        for _ in range(3):
            await say(socket, Start())
            assert await hear(socket, 2) == [READY, Final("0")]
