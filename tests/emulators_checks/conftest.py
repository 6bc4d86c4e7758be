"""A plain WebSocket client for the emulator, free of any knowledge of the service."""

from __future__ import annotations

import asyncio
import json
import math
from array import array
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.emulators.assemblyai import AssemblyAIEmulator

FRAME_MS = 50
PATIENCE = 10.0


class Client:
    """One open WebSocket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def audio(self, length_ms: int, *, frame_ms: int = FRAME_MS) -> None:
        for _ in range(0, length_ms, frame_ms):
            await self.ws.send_bytes(bytes(frame_ms * 32))

    async def tell(self, kind: str, **fields: Any) -> None:
        await self.ws.send_str(json.dumps({"type": kind, **fields}))

    async def frame(self) -> aiohttp.WSMessage:
        async with asyncio.timeout(PATIENCE):
            return await self.ws.receive()

    async def next(self) -> dict[str, Any]:
        frame = await self.frame()
        assert frame.type is aiohttp.WSMsgType.TEXT, frame
        message = json.loads(frame.data)
        assert isinstance(message, dict)
        return message

    async def until(self, kind: str) -> list[dict[str, Any]]:
        messages = [await self.next()]
        while messages[-1]["type"] != kind:
            messages.append(await self.next())
        return messages

    async def final(self) -> dict[str, Any]:
        while not (message := await self.next()).get("end_of_turn"):
            pass
        return message

    async def rest(self) -> list[dict[str, Any]]:
        """All messages up to the close."""
        messages = []
        async with asyncio.timeout(PATIENCE):
            async for frame in self.ws:
                assert frame.type is aiohttp.WSMsgType.TEXT, frame
                messages.append(json.loads(frame.data))
        return messages

    async def error(self) -> tuple[str, int | None]:
        """The text of the Error frame that ends the session, and the code of the close after it."""
        *_, message = await self.rest()
        assert message["type"] == "Error"
        assert message["error_code"] == self.ws.close_code
        return message["error"], self.ws.close_code

    async def quiet(self, seconds: float = 0.1) -> bool:
        """Whether nothing comes for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.ws.receive()
        except TimeoutError:
            return True
        return False


class Dialer:
    """Opens WebSockets to an emulator, closed with the test."""

    def __init__(self, stack: AsyncExitStack, http: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._http = http

    async def __call__(
        self,
        emulator: AssemblyAIEmulator,
        *,
        key: str | None = "good-key",
        query: str | None = None,
        **params: Any,
    ) -> Client:
        headers = {} if key is None else {"Authorization": key}
        text = urlencode({"sample_rate": 16_000, **params}) if query is None else query
        async with asyncio.timeout(PATIENCE):
            ws = await self._http.ws_connect(
                f"{emulator.url}/v3/ws?{text}", headers=headers, timeout=_NO_WAIT
            )
        self._stack.push_async_callback(ws.close)
        return Client(ws)


_NO_WAIT = aiohttp.ClientWSTimeout(ws_close=0.2)


@pytest.fixture
async def dial() -> AsyncIterator[Dialer]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Dialer(stack, http)


@dataclass(frozen=True)
class Recording:
    """What somebody said (16 kHz, mono, s16le), and the words of it."""

    pcm: bytes
    text: str


@pytest.fixture(scope="session")
def recording() -> Recording:
    voice = (
        int(6000 * math.sin(at / 16_000 * 754) + 3000 * math.sin(at / 16_000 * 2262)) for at in range(28_800)
    )
    return Recording(bytes(9600) + array("h", voice).tobytes() + bytes(9600), "Turn on the kitchen lights.")
