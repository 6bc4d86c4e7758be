"""The whole server in this process, built from settings as the command line does it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.end_to_end.speaker import Speaker
from wyoming_server.build import build_engine, build_server
from wyoming_server.log import log_event
from wyoming_server.settings import validate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.end_to_end.clips import Clip
    from tests.end_to_end.speaker import Answer
    from wyoming_server.engine import Engine
    from wyoming_server.events import Event
    from wyoming_server.server import WyomingServer


class House:
    """A running server, with what its engine has told so far."""

    def __init__(self, server: WyomingServer, engine: Engine, facts: list[tuple[float, Event]]) -> None:
        self._server = server
        self._engine = engine
        self.facts = facts
        """What happened, and when; loop time."""

    @property
    def uri(self) -> str:
        return self._server.uri

    async def stop(self) -> None:
        """Answer what is in flight, end every session at a service, and close all connections."""
        await self._server.stop()
        await self._engine.close()

    def close_breakers(self) -> None:
        """Ask every backend again."""
        self._engine.close_breakers()

    async def answer(self, clip: Clip, *, chunk_ms: int = 20) -> tuple[Speaker, Answer]:
        """Let one person speak, then stop the server; the only answer on that connection."""
        async with Speaker(self.uri, chunk_ms=chunk_ms) as speaker:
            await speaker.say(clip)
            await self.stop()
            return speaker, await speaker.only_answer()


@asynccontextmanager
async def running_house(settings: dict[str, Any]) -> AsyncIterator[House]:
    """The server that these settings describe, on any free port of this machine."""
    checked = validate({"URI": "tcp://127.0.0.1:0", **settings})
    facts: list[tuple[float, Event]] = []
    loop = asyncio.get_running_loop()

    def listen(event: Event) -> None:
        facts.append((loop.time(), event))
        log_event(event)

    async with aiohttp.ClientSession() as session:
        engine = build_engine(checked, session, listen)
        server = build_server(checked, engine)
        await server.start()
        engine.start()
        house = House(server, engine, facts)
        try:
            yield house
        finally:
            await house.stop()
