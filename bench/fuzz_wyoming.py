"""Strangers at the Wyoming port while people speak: does it crash, does it leak, is anybody forgotten?

Conversations that make sense, that nearly do, and that do not; cut off, put out of order, with lengths that
lie, values of the wrong type, formats that nobody has, junk; from clients that vanish, that say that nothing
follows, or that never read.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final

from bench.fuzz import PATIENCE, Served, Tally, measure, served, speak, watch

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECES: Final = (1, 2, 7, 100, 1000, 5000, 20_000, 70_000)
_ENDS: Final = ("close", "close", "half", "half", "half", "half", "reset", "deaf")
_ODD_NUMBERS: Final = (0, -1, 1, 2**31, 2**64, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"))
_ODD_TEXTS: Final = ("", "en", "zh-Hant", "\ud83d", "\0", "x" * 3000)
_ODD_LISTS: Final = ([], [[]], ["a", 5, None, "b" * 500], {}, {"a": {"b": []}})
_ODD_VALUES: Final = (None, True, False, *_ODD_NUMBERS, *_ODD_TEXTS, *_ODD_LISTS)
_RATES: Final = (16_000, 16_000, 8000, 44_100, 192_000, 1000, 999, 0, -1, 192_001, "16000", None, 1.6e4)
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_ANSWER: Final = re.compile(rb'{"type": "(\S+)", "version"')
_WIDTHS: Final = (2, 2, 1, 3, 4, 0, 5, 2**40, "2", None, True)
_CHANNELS: Final = (1, 1, 2, 8, 32, 33, 0, -1, 2**31, None)
_BOUNDS: Final = (65_535, 65_536, 65_537, 2**20, 2**20 + 1)
_LENGTHS: Final = (0, 1, 5, *_BOUNDS, 500_000, 2**31, 2**63, -1, 1.5, True, "7", [])


def line(**fields: Any) -> bytes:
    """The first line of an event."""
    return json.dumps(fields).encode() + b"\n"


def event(kind: str, data: dict[str, Any] | None = None, payload: bytes = b"") -> bytes:
    """An event as the `wyoming` package writes it."""
    encoded = json.dumps(data).encode() if data else b""
    head: dict[str, Any] = {"type": kind, "version": "1.10.0"}
    if encoded:
        head["data_length"] = len(encoded)
    if payload:
        head["payload_length"] = len(payload)
    return line(**head) + encoded + payload


def _samples(random: Random) -> bytes:
    size = random.choice(_PIECES) if random.random() < 0.3 else random.choice((320, 640, 2048, 2047))
    match random.randrange(4):
        case 0:
            return bytes(size)
        case 1:
            return bytes([random.randrange(256)]) * size
        case 2:
            return (random.randbytes(64) * (size // 64 + 1))[:size]
        case _:
            return (b"RIFF\x24\0\0\0WAVE" + random.choice(_WAV_CHUNKS) * (size // 8 + 1))[:size]


_WAV_CHUNKS: Final = (
    struct.pack("<4sI", b"LIST", 0),
    struct.pack("<4sI", b"LIST", 0xFFFFFFFF),
    struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 44_100, 176_400, 4, 16) + struct.pack("<4sI", b"data", 0),
    struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 9, 7, 0, 0, 99),
    b"fmt \x01\0\0\0",
)


def _utterance(random: Random) -> list[bytes]:
    """One that makes sense, or nearly."""
    audio = {"rate": 16_000, "width": 2, "channels": 1}
    start = dict(audio)
    if random.random() < 0.4:
        start = {
            "rate": random.choice(_RATES),
            "width": random.choice(_WIDTHS),
            "channels": random.choice(_CHANNELS),
        }
    parts = [event("audio-start", start)]
    if random.random() < 0.5:
        parts.insert(0, event("transcribe", {"language": random.choice(("en", "de", None, "xx", "zh-Hant"))}))
    parts += [event("audio-chunk", audio, _samples(random)) for _ in range(random.randrange(12))]
    if random.random() < 0.9:
        parts.append(event("audio-stop", {"timestamp": 5} if random.random() < 0.2 else None))
    for _ in range(random.choice((0, 0, 0, 0, 1, 3))):
        _spoil(parts, random)
    return parts


def _spoil(parts: list[bytes], random: Random) -> None:
    """Cut it off, put it out of order, say something twice, cut an event short, or change a byte."""
    if not parts:
        return
    at = random.randrange(len(parts))
    size = len(parts[at])
    match random.randrange(5):
        case 0:
            del parts[at:]
        case 1:
            parts.append(parts.pop(at))
        case 2:
            parts.insert(at, parts[at])
        case 3:
            parts[at] = parts[at][: random.randrange(size + 1)]
        case _:
            hit = random.randrange(size + 1)
            parts[at] = parts[at][:hit] + bytes([random.randrange(256)]) + parts[at][hit + 1 :]


def _small(random: Random) -> list[bytes]:
    kind = random.choice(("describe", "ping", "ping", "transcribe", "audio-stop", "run-pipeline", "", "🎤"))
    return [event(kind, {"text": random.choice(_ODD_VALUES)} if random.random() < 0.5 else None)]


def _wishes(random: Random) -> list[bytes]:
    names = ("language", "name", "context", "transcript_names", "transcript_terms", "streaming")
    return [event("transcribe", {name: random.choice(_ODD_VALUES) for name in names})]


def _odd_fields(random: Random) -> list[bytes]:
    names = ("type", "data", "data_length", "payload_length", "version")
    head = {name: random.choice(_ODD_VALUES) for name in names if random.random() < 0.4}
    if random.random() < 0.7:
        head["type"] = random.choice(("audio-chunk", "audio-start", "transcribe", "ping"))
    return [line(**head)]


def _lengths(random: Random) -> list[bytes]:
    """Lengths that lie: what follows is shorter, longer, or never comes."""
    name = random.choice(("data_length", "payload_length"))
    head = line(type=random.choice(("audio-chunk", "ping")), **{name: random.choice(_LENGTHS)})
    return [head + bytes(random.choice((0, 1, 5, 65_535)))]


def _junk(random: Random) -> list[bytes]:
    match random.randrange(6):
        case 0:
            return [random.randbytes(random.randrange(1, 200))]
        case 1:
            return [b"\n" * random.choice((1, 100, 70_000))]
        case 2:
            return [b"{" * random.choice((1, 1000, 70_000))]
        case 3:
            return [b'{"type": "ping", "data": ' + b"[" * 3000 + b"]" * 3000 + b"}\n"]
        case 4:
            return [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
        case _:
            return [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]


KINDS: Final[dict[str, Callable[[Random], list[bytes]]]] = {
    "utterances, whole or nearly": _utterance,
    "small events": _small,
    "wishes of any type": _wishes,
    "headers of any type": _odd_fields,
    "lengths that lie": _lengths,
    "junk": _junk,
}
_WEIGHTS: Final = (60, 45, 15, 1, 1, 1)
"""What cannot be cut into events ends a connection: most of them shall come further."""


def conversation(random: Random) -> list[tuple[str, bytes]]:
    """What one stranger sends: the kind of each event, and its bytes."""
    parts: list[tuple[str, bytes]] = []
    for _ in range(random.choice((1, 3, 10, 30))):
        (kind,) = random.choices(list(KINDS), _WEIGHTS)
        parts += [(kind, part) for part in KINDS[kind](random)]
    return parts


async def visit(port: int, random: Random, tally: Tally) -> None:
    """One stranger's connection, from its start to its end."""
    end = random.choice(_ENDS)
    outcome = end
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        tally.strangers[f"not connected ({type(error).__name__})"] += 1
        return
    reading = None if end == "deaf" else asyncio.create_task(_read_all(reader, tally))
    try:
        async with asyncio.timeout(PATIENCE):
            await _send(writer, random, tally)
            if end == "half" and reading:
                writer.write_eof()
                await reading
    except TimeoutError:
        outcome = "neither read nor closed by the server"
    except OSError:
        outcome = f"{end}, the server was first"
    if end == "reset":
        with suppress(OSError):  # the server was first
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()
    if reading:
        reading.cancel()
        await asyncio.wait([reading])
    tally.strangers[outcome] += 1


async def _send(writer: asyncio.StreamWriter, random: Random, tally: Tally) -> None:
    parts = conversation(random)
    is_slow = random.random() < 0.05
    for kind, part in parts:
        cut = random.randrange(len(part) + 1) if random.random() < 0.1 else 0
        for piece in (part[:cut], part[cut:]):
            writer.write(piece)
            if cut or is_slow:
                await asyncio.sleep(0.001)
        tally.events[kind] += 1
        if random.random() < 0.2:
            await writer.drain()
    await writer.drain()


async def _read_all(reader: asyncio.StreamReader, tally: Tally) -> None:
    with suppress(OSError):
        while received := await reader.read(65_536):
            tally.answers.update(name.decode() for name in _ANSWER.findall(received))


async def _come_and_go(server: Served, random: Random, tally: Tally, events: int) -> None:
    while tally.events.total() < events and server.process.is_running:
        await visit(server.process.port, random, tally)


async def fuzz(*, events: int, strangers: int, people: int, seed: int, **settings: str) -> Tally:
    """Let them come until so many events were sent."""
    tally = Tally()
    async with served(**settings) as server:
        busy = [
            asyncio.create_task(speak(server.process.uri, Random(f"{seed}-{number}"), tally))
            for number in range(people)
        ]
        busy.append(asyncio.create_task(watch(server, tally)))
        await asyncio.gather(
            *(_come_and_go(server, Random(f"{seed} {number}"), tally, events) for number in range(strangers))
        )
        for task in busy:
            task.cancel()
        await asyncio.wait(busy)
    tally.read_log(server)
    return tally


def main() -> None:
    """Let them come, then print the figures."""
    measure("fuzz_wyoming", __doc__, fuzz, events=1_000_000, strangers=12, people=3)


if __name__ == "__main__":
    main()
