"""Strangers, guests and burglars at the API's port while people speak: does it fail, leak, or let anybody in?

Requests with and without the token, changes of settings to values of every type, bodies that are packed,
cut off or lie, WebSockets whose frames break every rule, what is no HTTP at all, and connections that are
opened and then left alone.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final

from bench.fuzz import PATIENCE, Tally, measure, served, speak, watch
from modal_whisper.messages import Start, Stop, encode
from tests.processes import free_port
from wyoming_server.settings import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.fuzz import Served

_TOKEN: Final = "the-token-of-the-fuzz-" + "x" * 32
_FORGED: Final = "forged"
"""What only those without the token want the settings to hold."""
_FIXED: Final = {
    "BACKENDS": "local",
    "DEBUG": "false",
    "DEADLINE": "20",
    "ENDPOINTING": "false",
    "IDLE_TIMEOUT": "60",
    "LOCAL_ENABLED": "true",
    "MAX_CONNECTIONS": "256",
    "MAX_UTTERANCE": "60",
    "DAILY_BUDGET": "0",
}
"""What the people who speak meanwhile need; nobody can change it."""
_PATHS: Final = (
    "/health",
    "/api/status",
    "/api/config",
    "/api/test",
    "/api/warm",
    "/api/close-breakers",
    "/api/traces",
    "/api/day",
    "/api/events",
    "/ws/stt",
    "/metrics",
    "/",
    "/page/index.html",
    "/page/../api/config",
    "/page/%2e%2e%2f%2e%2e%2fsettings.py",
    "//api/config",
    "http://elsewhere/api/config",
    "/%00",
    "/" + "a" * 3000,
    "*",
)
_METHODS: Final = ("GET", "GET", "POST", "PATCH", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT")
_HEADERS: Final = (
    "Origin: http://elsewhere",
    "Origin: null",
    "Origin: http://[",
    "Accept: application/openmetrics-text; version=999",
    "Expect: 100-continue",
    "If-None-Match: *",
    "Range: bytes=0-,0-",
    "Upgrade: websocket",
    "Content-Type: application/json; charset=none",
    "X-Forwarded-For: 127.0.0.1",
    "X-HTTP-Method-Override: PATCH",
    "Cookie: a=b; token=c",
    "X: " + "y" * 5000,
)
_ODD_NUMBERS: Final = (0, -1, 1, 5, 2**31, 2**64, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"))
_ODD_TEXTS: Final = (
    "",
    "en",
    "zh-Hant",
    "\ud83d",
    "\0",
    "x" * 3000,
    "ws://127.0.0.1:9",
    "wss://u:p@x/?k",
    "~",
    "1",
)
_ODD_LISTS: Final = ([], [[]], ["a", 5, None], {}, {"a": {"b": []}}, ["\ud800"], ["en", "de"])
_ODD_VALUES: Final = (None, True, False, *_ODD_NUMBERS, *_ODD_TEXTS, *_ODD_LISTS)
_HOSTS: Final = ("127.0.0.1", "::1", "192.0.2.1", "", "\0", 5, None)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_SCRAPS: Final = (
    b"GET / HTTP/1.1\r\n",
    b"POST /api/warm HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\n",
    b"Host: x\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"ffffffffffffffff\r\n",
    b"0\r\n\r\n",
    b"\r\n",
    b"\0",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"X: " + b"a" * 9000,
)
_MESSAGES: Final = (
    encode(Start("en", (), (), ())).encode(),
    encode(Start(None, ("Ada",), (), ())).encode(),
    encode(Stop()).encode(),
    b"{}",
    b"[]",
    b"\xff\xfe",
    b"",
)
_ENDS: Final = ("close", "close", "close", "left alone")
_ALONE_SECONDS: Final = 2.0
_SILENT_SECONDS: Final = 0.2


def _request(random: Random, method: str, path: str, body: bytes, *lines: str) -> bytes:
    headers = [*lines, *random.sample(_HEADERS, random.choice((0, 0, 0, 1, 2)))]
    head = "".join(f"{line}\r\n" for line in ("Host: x", *headers, f"Content-Length: {len(body)}"))
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def _without(random: Random) -> list[bytes]:
    """One that must come to nothing."""
    body = json.dumps({"settings": {"KEY_TERMS": _FORGED, "STRATEGY": "race"}}).encode()
    guess = random.choice(
        ((), (), (_bearer("guess"),), ("Sec-WebSocket-Protocol: stt-failover, bearer.guess",))
    )
    return [_request(random, random.choice(_METHODS), random.choice(_PATHS), body, *guess)]


def _with(random: Random) -> list[bytes]:
    path = random.choice(_PATHS)
    return [
        _request(
            random, random.choice(_METHODS), path, random.choice((b"", b"{}", b"[", b"5")), _bearer(_TOKEN)
        )
    ]


def _change(random: Random) -> list[bytes]:
    changes: dict[str, Any] = {}
    for name in random.sample(NAMES, random.choice((1, 1, 2, 5))):
        changes[name] = random.choice(_HOSTS if name in {"API_HOST", "URI"} else _ODD_VALUES)
    body = json.dumps({"settings": changes, "backends": random.choice((["local"], [], _ODD_VALUES[0], "x"))})
    method, path = random.choice((("PATCH", "/api/config"), ("PATCH", "/api/config"), ("POST", "/api/test")))
    return [_request(random, method, path, body.encode(), _bearer(_TOKEN))]


def _packed(random: Random) -> list[bytes]:
    """A body that grows, that is cut off, or that is not what it says."""
    packed = gzip.compress(b" " * random.choice((10, 100_000, 5_000_000)))
    body = random.choice((packed, packed[: random.randrange(len(packed))], random.randbytes(50)))
    how = f"Content-Encoding: {random.choice(('gzip', 'deflate', 'br', 'x'))}"
    return [_request(random, "PATCH", "/api/config", body, how, _bearer(_TOKEN))]


def _scraps(random: Random) -> list[bytes]:
    return [random.choice(_SCRAPS) for _ in range(random.randrange(1, 8))]


def _frames(random: Random) -> list[bytes]:
    """A handshake and what follows."""
    page = random.choice(("/api/events", "/ws/stt", "/ws/stt"))
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    head = "".join(
        f"{line}\r\n" for line in ("Host: x", *upgrade, f"Sec-WebSocket-Key: {'A' * 22}==", _bearer(_TOKEN))
    )
    parts = [f"GET {page} HTTP/1.1\r\n{head}\r\n".encode()]
    for _ in range(random.choice((1, 10, 50))):
        if random.random() < 0.5:
            parts.append(_frame(2, bytes(random.choice((320, 2048, 2047))), 0x80))
        elif random.random() < 0.8:
            parts.append(_frame(1, random.choice(_MESSAGES), 0x80))
        else:
            opcode = random.choice((0, 1, 2, 3, 8, 9, 10))
            parts.append(
                _frame(opcode, random.randbytes(random.randrange(130)), random.choice((0x80, 0, 0xC0)))
            )
    return parts


def _frame(opcode: int, payload: bytes, first: int) -> bytes:
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([first | opcode]) + length + bytes(4) + payload


KINDS: Final[dict[str, tuple[int, Callable[[Random], list[bytes]]]]] = {
    "requests without the token": (30, _without),
    "requests with the token": (20, _with),
    "changes and tests of settings": (15, _change),
    "bodies that are packed": (3, _packed),
    "frames of WebSockets": (8, _frames),
    "scraps": (3, _scraps),
}
"""By name: how often, and what makes them."""


async def visit(port: int, random: Random, tally: Tally) -> None:
    """One connection, from its start to its end."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        tally.strangers[f"not connected ({type(error).__name__})"] += 1
        return
    heard = asyncio.Event()
    reading = asyncio.create_task(_read_all(reader, tally, heard))
    end = random.choice(_ENDS)
    kinds = random.choices(list(KINDS), [weight for weight, _ in KINDS.values()], k=2)
    try:
        async with asyncio.timeout(PATIENCE):
            for _ in range(random.choice((1, 5, 20))):
                kind = random.choice(kinds)
                for part in KINDS[kind][1](random):
                    writer.write(part)
                    tally.events[kind] += 1
                await writer.drain()
            await _wait_silent(heard, _ALONE_SECONDS if end == "left alone" else _SILENT_SECONDS)
    except TimeoutError:
        end = "neither read nor closed by the server"
    except OSError:
        end = "the server was first"
    writer.transport.abort()
    reading.cancel()
    await asyncio.wait([reading])
    tally.strangers[end] += 1


async def _read_all(reader: asyncio.StreamReader, tally: Tally, heard: asyncio.Event) -> None:
    with suppress(OSError):
        while received := await reader.read(262_144):
            heard.set()
            tally.answers.update(status.decode() for status in _STATUS.findall(received))


async def _wait_silent(heard: asyncio.Event, seconds: float) -> None:
    """Return once nothing has come for so long."""
    with suppress(TimeoutError):
        while True:
            heard.clear()
            async with asyncio.timeout(seconds):
                await heard.wait()


async def _wait_listening(port: int) -> None:
    """Return once somebody is at that port: the API begins after the Wyoming server."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.transport.abort()
                return
            await asyncio.sleep(0.01)


async def _come_and_go(server: Served, port: int, random: Random, tally: Tally, events: int) -> None:
    while tally.events.total() < events and server.process.is_running:
        await visit(port, random, tally)


async def fuzz(*, events: int, strangers: int, people: int, seed: int) -> Tally:
    """Let them come until so many events were sent."""
    tally = Tally()
    port = free_port()
    async with served(API_PORT=str(port), API_TOKEN=_TOKEN, **_FIXED) as server:
        await _wait_listening(port)
        busy = [
            asyncio.create_task(speak(server.process.uri, Random(f"{seed}-{number}"), tally))
            for number in range(people)
        ]
        busy.append(asyncio.create_task(watch(server, tally)))
        await asyncio.gather(
            *(
                _come_and_go(server, port, Random(f"{seed} {number}"), tally, events)
                for number in range(strangers)
            )
        )
        for task in busy:
            task.cancel()
        await asyncio.wait(busy)
        if _FORGED in await asyncio.to_thread(server.process.settings_file.read_text):
            tally.troubles.append("somebody without the token has changed the settings")
    tally.read_log(server)
    if tally.answers["500"]:
        tally.troubles.append(f"{tally.answers['500']} answers were 500")
    return tally


def main() -> None:
    """Let them come, then print the figures."""
    measure("fuzz_api", __doc__, fuzz, events=300_000, strangers=24, people=2)


if __name__ == "__main__":
    main()
