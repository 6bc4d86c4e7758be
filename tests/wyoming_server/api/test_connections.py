"""Whatever clients do with their connections, there is room for the next one."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest

from modal_whisper.messages import MAX_MESSAGE_BYTES
from tests.fakes import PATIENCE
from tests.sounds import speech
from tests.wyoming_server.api.running import BEARER, Running, running
from tests.wyoming_server.houses import ALL, TOKEN, Works
from tests.wyoming_server.serving import connected
from wyoming_server.api import connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
WITH_TOKEN = f"Authorization: Bearer {TOKEN}\r\n".encode()


@pytest.fixture(autouse=True)
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    return Works(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """All limits are short."""
    monkeypatch.setattr("wyoming_server.api.serve.IDLE_SECONDS", 0.1)
    monkeypatch.setattr("wyoming_server.api.serve.LINGERING_SECONDS", 0.1)
    monkeypatch.setattr(connections, "_UNREAD_SECONDS", 0.1)
    monkeypatch.setattr(connections, "_LOOK_SECONDS", 0.02)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many connections there is room for."""
    monkeypatch.setattr(connections, "_MOST", 6)
    return 6


class Stranger:
    """A connection that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes = HEALTH) -> bytes:
        """The answer's status line, once all of it is here."""
        self.writer.write(request)
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            await self.reader.readuntil(b"}")
        return head.partition(b"\r\n")[0]

    async def rest(self) -> bytes:
        """What comes until the server ends the connection."""
        got = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while part := await self.reader.read(65_536):
                    got += part
        return got


@asynccontextmanager
async def stranger(house: Running, address: str = "127.0.0.1") -> AsyncIterator[Stranger]:
    """A connection from that address of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.api.port, local_addr=(address, 0))
    try:
        yield Stranger(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def until(house: Running, count: int) -> None:
    """Return once so many connections are open."""
    async with asyncio.timeout(PATIENCE):
        while len(house.api._connections) != count:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


# Time


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"G",
        b"GET /api/events HTTP/1.1\r\nUpgrade: websocket\r\n",
        HEALTH,
        b"POST /api/warm HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        b"POST /api/warm HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n",
    ],
    ids=["nothing", "a letter", "half a handshake", "one request", "half a body", "half a chunk"],
)
async def test_who_says_nothing_more_is_let_go(path: Path, begun: bytes) -> None:
    async with running(path, ALL) as house, stranger(house) as client:
        client.writer.write(begun)
        await client.rest()
        await until(house, 0)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    "head",
    [b"GET /health HTTP/1.1\r\nX: ", b"POST /api/warm HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"],
)
async def test_who_sends_byte_by_byte_is_let_go(path: Path, head: bytes) -> None:
    async with running(path, ALL) as house, stranger(house) as client:
        client.writer.write(head)
        await client.reader.read(1) if b"POST" in head else await until(house, 1)
        async with asyncio.timeout(PATIENCE):
            while house.api._connections:
                client.writer.write(b"a")
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("brief")
async def test_who_asks_and_never_reads_is_let_go(path: Path) -> None:
    async with running(path, ALL) as house, stranger(house) as client:
        page = b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + WITH_TOKEN + b"\r\n"
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while not client.writer.is_closing():
                    client.writer.write(page * 1000)
                    await client.writer.drain()
        await until(house, 0)


async def test_who_is_at_work_may_be_silent(path: Path, brief: None) -> None:
    async with running(path, ALL) as house:
        async with house.client.ws_connect("/api/events") as feed:
            await feed.receive_json()
            async with stranger(house) as client:
                await client.rest()  # which takes as long as anybody may be silent
            assert (await house.ask("POST", "/api/close-breakers"))[0] == 200
            assert not feed.closed
            await until(house, 1)  # the feed: the client's other connection has been idle
        await until(house, 0)


# Room


async def test_the_longest_silent_connection_makes_room(path: Path, few: int) -> None:
    async with running(path, ALL) as house, stranger(house) as first, stranger(house) as second:
        assert await first.ask() == await second.ask() == b"HTTP/1.1 200 OK"
        assert await first.ask() == b"HTTP/1.1 200 OK"
        opened = [await asyncio.open_connection("127.0.0.1", house.api.port) for _ in range(few - 1)]
        assert await second.rest() == b""
        assert await first.ask() == b"HTTP/1.1 200 OK"
        assert len(house.api._connections) == few
        for _, writer in opened:
            writer.close()


async def test_nobody_is_kept_out_by_what_another_address_keeps_open(path: Path, few: int) -> None:
    async with running(path, ALL) as house, stranger(house, "127.0.0.2") as other:
        assert await other.ask() == b"HTTP/1.1 200 OK"
        flood = [await asyncio.open_connection("127.0.0.1", house.api.port) for _ in range(5 * few)]
        assert await other.ask() == b"HTTP/1.1 200 OK"
        async with stranger(house, "127.0.0.3") as third:
            assert await third.ask() == b"HTTP/1.1 200 OK"
        assert len(house.api._connections) <= few
        for _, writer in flood:
            writer.close()


async def test_what_is_at_work_stays_and_where_that_is_all_the_next_one_is_turned_away(
    path: Path, few: int
) -> None:
    async with running(path, ALL) as house:
        feeds = [await house.client.ws_connect("/api/events") for _ in range(few)]
        for feed in feeds:
            await feed.receive_json()
        async with stranger(house) as client:
            assert await client.rest() == b""
        await feeds.pop().close()
        await until(house, few - 1)
        async with stranger(house) as client:
            assert await client.ask() == b"HTTP/1.1 200 OK"
        assert not any(feed.closed for feed in feeds)


async def test_a_flood_of_connections_hurts_neither_the_token_holder_nor_those_who_speak(
    path: Path, few: int
) -> None:
    async with running(path, ALL) as house:

        async def flood() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(40):
                    group.create_task(begin())

        async def begin() -> None:
            with suppress(ConnectionError):
                async with stranger(house) as client:
                    client.writer.write(b"GET / HT")
                    await client.reader.read()

        flooding = asyncio.create_task(flood())
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=connector, headers=BEARER) as holder:
            for _ in range(5):
                async with holder.get(f"{house.url}/api/status") as answer:
                    assert answer.status == 200
                async with connected(house.wyoming) as client:
                    await client.say(speech(600))
                    assert (await client.next()).type == "transcript"
        assert len(house.api._connections) <= few
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


async def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    assert connections.network_of("2001:db8::1") == connections.network_of("2001:db8::2")


# WebSockets


def frame(opcode: int, payload: bytes, *, first: int = 0x80, length: int | None = None) -> bytes:
    """A masked frame, whose length may be a lie; the mask is nought."""
    size = len(payload) if length is None else length
    announced = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([first | opcode]) + announced + bytes(4) + payload


TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n" + WITH_TOKEN + b"\r\n"
)


@pytest.mark.parametrize("page", ["/api/events", "/ws/stt"])
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(BINARY, b"", length=2**62), 1009),
        (frame(BINARY, b"", length=2**63 + 1), 1009),
        (frame(BINARY, b"x" * (MAX_MESSAGE_BYTES + 2), first=0), 1009),
        (
            frame(BINARY, b"x" * 100, first=0)
            + frame(0, b"x" * 100, first=0) * (MAX_MESSAGE_BYTES // 100 + 1),
            1009,
        ),
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT, b"x", first=0xC0), 1002),
        (frame(3, b""), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(0, b"x"), 1002),
        (frame(CLOSE, b"\x00"), 1002),
        (frame(CLOSE, b"\x00\x01"), 1002),
    ],
    ids=[
        "giant",
        "beyond giant",
        "large",
        "many fragments",
        "no text",
        "compressed",
        "opcode",
        "long ping",
        "loose",
        "half a code",
        "no code",
    ],
)
async def test_frames_that_break_the_rules_end_a_websocket(
    path: Path, page: str, sent: bytes, code: int
) -> None:
    async with running(path, ALL) as house, stranger(house) as client:
        client.writer.write(HANDSHAKE % page.encode())
        async with asyncio.timeout(PATIENCE):
            head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"deflate" not in head
        client.writer.write(sent)
        closed = (await client.rest()).rpartition(b"\x88")[2]
        assert int.from_bytes(closed[1:3], "big") == code or (page, closed) == ("/api/events", b"")
        await until(house, 0)
        assert len(house.api._sockets) == 0


# Bodies


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_is_not_encoded_as_it_says_is_refused(path: Path, encoding: str) -> None:
    async with running(path, ALL) as house:
        status, body = await house.ask(
            "PATCH", "/api/config", b"nonsense", headers={"Content-Encoding": encoding}
        )
        assert (status, body["code"]) == (400, "bad-request")


async def test_a_body_that_grows_when_it_is_unpacked_is_refused(path: Path) -> None:
    packed = json.dumps({"settings": {"KEY_TERMS": "x" * 1_000_000}}).encode()
    async with running(path, ALL) as house:
        async with house.client.patch("/api/config", data=packed, compress="gzip") as answer:
            assert answer.status == 413
        assert (await house.ask("GET", "/health"))[0] == 200
