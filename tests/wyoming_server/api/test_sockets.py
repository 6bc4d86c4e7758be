"""WebSockets: how many, for whom, and how they end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.fakes import PATIENCE
from tests.wyoming_server.api.running import BEARER, Running, running
from tests.wyoming_server.houses import ALL, TOKEN, Works
from tests.wyoming_server.test_statistics import trace
from wyoming_server.events import Traced

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOLS = ("stt-failover", f"bearer.{TOKEN}")


@pytest.fixture(autouse=True)
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    return Works(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


async def gone(house: Running) -> None:
    """Return once the server has let go of all its sockets."""
    async with asyncio.timeout(PATIENCE):
        while len(house.api._sockets):
            await house.ask("GET", "/health")


@pytest.mark.parametrize("page", ["/api/events", "/ws/stt"])
async def test_a_browser_comes_in_by_subprotocol(path: Path, page: str) -> None:
    async with running(path, ALL) as house, aiohttp.ClientSession() as browser:
        origin = {"Origin": house.url}
        async with browser.ws_connect(house.url + page, protocols=PROTOCOLS, headers=origin) as client:
            assert client.protocol == "stt-failover"
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await browser.ws_connect(
                house.url + page, protocols=PROTOCOLS, headers={"Origin": "http://evil.example"}
            )
        assert caught.value.status == 403


async def test_no_more_than_sixty_four_are_open_at_once(path: Path) -> None:
    async with running(path, ALL) as house, AsyncExitStack() as stack:
        for number in range(64):
            page = "/ws/stt" if number % 2 else "/api/events"
            await stack.enter_async_context(house.client.ws_connect(page))
        for page in ("/api/events", "/ws/stt"):
            async with house.client.get(
                page,
                headers={
                    "Connection": "Upgrade",
                    "Upgrade": "websocket",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "A" * 22 + "==",
                },
            ) as answer:
                assert (answer.status, (await answer.json())["code"]) == (503, "too-many-clients")
        assert (await house.ask("GET", "/api/status"))[0] == 200
        await stack.aclose()
        await gone(house)
        async with house.client.ws_connect("/api/events") as client:
            assert (await client.receive_json())["type"] == "status"


async def test_the_end_is_told_to_everybody_even_if_somebody_does_not_listen(path: Path) -> None:
    async with running(path, ALL) as house, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(house.client.ws_connect(page, autoclose=False))
            for page in ("/api/events", "/ws/stt")
        ]
        await clients[0].receive_json()
        reader, writer = await mute(house)
        async with asyncio.timeout(PATIENCE):
            stopping = asyncio.create_task(house.api.stop())
            for client in clients:
                message = await client.receive()
                assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
                await client.close()
            await stopping
            assert b"\x88" in await reader.read()  # the close frame, and then the end
        writer.close()
        assert len(house.api._sockets) == 0


async def mute(house: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client of the feed that reads no further than the answer's head, and takes little at once."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)  # noqa: FBT003 - there is no other way to call it
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", house.api.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    head = {
        "Host": "x",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "A" * 22 + "==",
        **BEARER,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    writer.write(f"GET /api/events HTTP/1.1\r\n{lines}\r\n".encode())
    assert b"101" in await reader.readline()
    return reader, writer


async def test_who_does_not_read_is_dropped_and_hurts_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wyoming_server.api.pages._SEND_SECONDS", 0.2)
    async with running(path, ALL) as house, house.client.ws_connect("/api/events") as other:
        _, writer = await mute(house)
        long = Traced(trace("x" * 50_000))  # which fills the buffers of the system
        async with asyncio.timeout(PATIENCE):
            while len(house.api._sockets) == 2:
                house.house._tell(long)
                await other.receive()
        writer.close()
        house.house._tell(Traced(trace()))
        assert (await other.receive()).type is aiohttp.WSMsgType.TEXT


async def test_what_a_client_of_the_feed_says_is_passed_over_unless_it_is_long(path: Path) -> None:
    async with running(path, ALL) as house:
        async with house.client.ws_connect("/api/events") as client:
            await client.send_str("hello")
            await client.send_bytes(b"\xff")
            assert (await client.receive_json())["type"] == "status"
            await client.send_str("x" * 10_000)
            while (message := await client.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG or message.type in (
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.CLOSING,
            )
        await gone(house)


async def test_a_client_that_leaves_is_forgotten(path: Path) -> None:
    async with running(path, ALL) as house:
        async with house.client.ws_connect("/api/events") as client:
            await client.receive_json()
            assert len(house.api._sockets) == 1
        await gone(house)
        assert all(not getattr(item, "_subscriptions", ()) for item in house.house._listeners)
