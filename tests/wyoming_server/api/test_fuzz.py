"""Whatever comes to the API's port is answered or let go, and nobody changes anything without the token."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from modal_whisper.messages import Start, Stop, encode
from tests.fakes import PATIENCE, ScriptedTranscriber
from tests.sounds import speech
from tests.wyoming_server.api.running import running
from tests.wyoming_server.houses import ALL, TOKEN, Works
from wyoming_server.settings import NAMES

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

FREE = {name: value for name, value in ALL.items() if name == "ASSEMBLYAI_API_KEY"}
PAGES = {
    "/health": "GET",
    "/api/status": "GET",
    "/api/config": "PATCH",
    "/api/test": "POST",
    "/api/warm": "POST",
    "/api/close-breakers": "POST",
    "/api/traces": "GET",
    "/api/day": "GET",
    "/api/events": "GET",
    "/ws/stt": "GET",
    "/metrics": "GET",
    "/": "GET",
    "/page/index.html": "GET",
}
OPEN = ("/page/", "/health")
"""Where the addresses begin that need no token, besides / itself."""
WRONG_TOKEN = "not-the-token"


class Door:
    """A house with an API, for all examples, and what must not happen there."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "settings.json"
        self._loop = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        patches = pytest.MonkeyPatch()
        self._stack.callback(patches.undo)
        Works(patches)
        patches.setattr(
            "wyoming_server.build.WhisperTranscriber", lambda model, **_: ScriptedTranscriber(model)
        )
        patches.setattr(
            "wyoming_server.changes._bind", lambda *_: None
        )  # it would ask for names in the network
        self._loop.run(self._enter())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._stack.aclose())
        self._loop.close()

    async def _enter(self) -> None:
        handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: self.complaints.append(handler.format(record))  # type: ignore[method-assign]
        logger = logging.getLogger("wyoming_server")
        logger.addHandler(handler)
        self._stack.callback(logger.removeHandler, handler)
        self._house = await self._stack.enter_async_context(running(self._path, FREE))
        await self._stack.enter_async_context(self._connected())
        self._calm = await self._count()

    def _connected(self) -> Any:
        return self._house.client.get("/health")

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do that, then see that all is as it was."""
        self._loop.run(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(2 * PATIENCE):
            await work
            assert (await self._house.ask("GET", "/health"))[0] == 200
        assert self.complaints == []

    def settled(self) -> None:
        """See that nothing is left of all examples."""
        self._loop.run(self._settled())

    async def _settled(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while any(now > calm for now, calm in zip(await self._count(), self._calm, strict=True)):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.02)

    async def _count(self) -> tuple[int, int]:
        """Descriptors and tasks."""
        gc.collect()
        return len(_entries("/proc/self/fd")), len(asyncio.all_tasks())

    @property
    def kept(self) -> str:
        """What is stored by now."""
        return self._path.read_text()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        return await asyncio.open_connection("127.0.0.1", self._house.api.port)


def _entries(folder: str) -> list[Path]:
    return list(Path(folder).iterdir())


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with Door(tmp_path_factory.mktemp("fuzz")) as house:
        yield house
        house.settled()


async def say(door: Door, sent: bytes, then: bytes | None = None) -> bytes:
    """What a connection gives back, once it is at its end; `then` is sent after the head of the answer."""
    reader, writer = await door.open()
    got = b""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        writer.write(sent)
        if then is not None:
            got = await reader.readuntil(b"\r\n\r\n")
            writer.write(then)
            writer.write_eof()
        while part := await reader.read(65_536):
            got += part
    writer.close()
    return got


async def mumble(door: Door, sent: bytes) -> bytes:
    """What there is of an answer to something that may never end, and then leave."""
    reader, writer = await door.open()
    got = b""
    with suppress(ConnectionError, TimeoutError):
        writer.write(sent)
        while part := await asyncio.wait_for(reader.read(65_536), 0.01):
            got += part
    writer.close()
    return got


def request(method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    lines += ["Host: x", f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


def status_of(answer: bytes) -> int:
    """0 where there is none."""
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    return int(answer.split(None, 2)[1]) if answer.startswith(b"HTTP/1.") else 0


NUMBERS = st.integers() | st.floats() | st.sampled_from([2**53, 10**400, -1, 0, 1])
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    [
        "",
        "\ud800",
        "\0",
        "wss://x",
        "wss://u:p@x/?k",
        "tcp://:0",
        "~nobody/x",
        "%",
        "a,b",
        "١٢",
        "😀",
        "-0",
        "en",
    ]
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
CHANGES = st.dictionaries(st.sampled_from(NAMES) | TEXTS, VALUES, max_size=4)
BODIES = st.one_of(
    st.fixed_dictionaries({}, optional={"settings": CHANGES | VALUES, "backends": VALUES}).map(json.dumps),
    VALUES.map(json.dumps),
    st.text(max_size=40),
).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40)
LATIN = st.characters(codec="latin-1", exclude_characters="\r\n\0")
HEADER_NAMES = st.sampled_from(
    [
        "Accept",
        "Authorization",
        "Content-Encoding",
        "Content-Type",
        "Expect",
        "If-None-Match",
        "Origin",
        "Range",
        "Sec-WebSocket-Protocol",
        "Transfer-Encoding",
        "Upgrade",
        "X-Forwarded-For",
    ]
)
HEADER_VALUES = st.text(LATIN, max_size=20) | st.sampled_from(
    [
        "gzip",
        "deflate",
        "100-continue",
        "chunked",
        "http://[",
        "websocket",
        "bytes=0-,0-",
        "*",
        "null",
        "text/html",
        f"Bearer {WRONG_TOKEN}",
        f"stt-failover, bearer.{WRONG_TOKEN}",
        "stt-failover, bearer64.!",
        "stt-failover, bearer64._w",
    ]
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=4)
METHODS = st.sampled_from(
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"]
)
TARGETS = st.sampled_from(list(PAGES)) | st.builds(
    str.__add__,
    st.sampled_from(
        [*PAGES, "/page/", "/page/../", "/page/%2e%2e%2f", "//x/api/", "http://x/api/config", "*", "?", ""]
    ),
    st.text(
        st.characters(codec="ascii", exclude_characters=" \r\n\0", exclude_categories=["Cc"]), max_size=12
    ),
)
WITH_TOKEN = ("Authorization", f"Bearer {TOKEN}")
quick = settings(max_examples=40, suppress_health_check=list(HealthCheck))


@quick
@given(METHODS, TARGETS, HEADERS, BODIES)
@example("PATCH", "/page/../api/config", [], b'{"settings": {"DEADLINE": 5}}')
@example("PATCH", "/page/%2e%2e/api/config", [], b'{"settings": {"DEADLINE": 5}}')
@example("PATCH", "//api/config", [], b'{"settings": {"DEADLINE": 5}}')
@example("PATCH", "/api/config", [("X-HTTP-Method-Override", "GET")], b'{"settings": {"DEADLINE": 5}}')
@example("GET", "/page/%2e%2e%2f%2e%2e%2fpages.py", [], b"")
@example("GET", "/api/status", [("Sec-WebSocket-Protocol", "stt-failover, bearer64._w")], b"")
@example("GET", "/api/status", [("Sec-WebSocket-Protocol", "stt-failover, bearer64.a")], b"")
def test_without_the_token_nothing_is_told_and_nothing_changes(
    door: Door, method: str, target: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    before = door.kept

    async def ask() -> None:
        answer = await say(door, request(method, target, headers, body))
        status = status_of(answer)
        if not answer and method == "CONNECT":
            return  # what follows it is no HTTP, so that aiohttp closes
        assert status in {400, 401, 403, 404, 405, 413, 417} or (status in {200, 304} and is_open(target))

    door.run(ask())
    assert door.kept == before


def is_open(target: str) -> bool:
    path = target.removeprefix("http://x").partition("?")[0].partition("#")[0]
    return path in {"", "/"} or path.startswith(OPEN)


@quick
@given(METHODS | st.none(), st.sampled_from(list(PAGES)), HEADERS, BODIES)
@example("PATCH", "/api/config", [("Content-Encoding", "gzip")], b"{}")
@example("PATCH", "/api/config", [], b'{"settings": {"KEY_TERMS": "\\ud800"}}')
def test_with_the_token_nothing_is_a_fault_of_the_server(
    door: Door, method: str | None, target: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    async def ask() -> None:
        given_headers = [item for item in headers if item[0] not in {"Authorization", "Upgrade"}]
        sent = request(method or PAGES[target], target, [WITH_TOKEN, *given_headers], body)
        assert 200 <= status_of(await say(door, sent)) < 500

    door.run(ask())


@settings(quick, max_examples=150)
@given(st.sampled_from(NAMES), VALUES)
@example("DEADLINE", 10**400)
@example("MODEL_DIR", "~nobody-of-that-name")
@example("KEY_TERMS", ["\udc80"])
@example("WHISPER_SERVICE_URL", "ws://[")
def test_every_setting_takes_a_value_or_refuses_it(door: Door, name: str, value: Any) -> None:
    async def change() -> None:
        for method, page in (("PATCH", "/api/config"), ("POST", "/api/test")):
            body = {"settings": {name: value}} | ({"backends": []} if page == "/api/test" else {})
            answer = await say(door, request(method, page, [WITH_TOKEN], json.dumps(body).encode()))
            assert status_of(answer) in {200, 400, 409}
            told = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert status_of(answer) == 200 or told["setting"] == name
            assert "\n" not in told.get("error", "")

    door.run(change())


SCRAPS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /api/warm HTTP/1.1\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"Host: x\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n",
        b"X: " + b"a" * 9000,
        b" folded\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n\r\n",
        b"\r\n",
        b"\0",
    ]
)


@quick
@given(st.binary(max_size=200) | st.lists(SCRAPS, max_size=12).map(b"".join))
def test_what_is_no_http_ends_the_connection(door: Door, sent: bytes) -> None:
    async def ask() -> None:
        assert b" 500 " not in await mumble(door, sent)

    door.run(ask())


MESSAGES = st.one_of(
    st.binary(max_size=40).map(lambda data: (2, data)),
    st.text(max_size=40).map(lambda text: (1, text.encode())),
    st.sampled_from([encode(Start("en", (), (), ())), encode(Stop()), "{}", "[]", '{"type": "start"}']).map(
        lambda text: (1, text.encode())
    ),
    st.just((2, speech(300))),
    st.tuples(st.sampled_from([0, 1, 2, 3, 8, 9, 10, 15]), st.binary(max_size=130)),
)


@quick
@given(
    st.sampled_from(["/api/events", "/ws/stt"]),
    st.lists(st.tuples(MESSAGES, st.sampled_from([0x80, 0x80, 0x80, 0, 0xC0, 0xF0]))),
    st.integers(0, 10),
)
def test_whatever_a_websocket_brings_hurts_nobody(
    door: Door, page: str, messages: list[tuple[tuple[int, bytes], int]], cut: int
) -> None:
    sent = b"".join(_frame(opcode, data, first) for (opcode, data), first in messages)
    head = (
        f"GET {page} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n"
    )

    async def ask() -> None:
        answer = await say(door, head.encode(), sent[:-cut] if cut else sent)
        assert status_of(answer) == 101

    door.run(ask())


def _frame(opcode: int, payload: bytes, first: int) -> bytes:
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([first | opcode]) + length + bytes(4) + payload
