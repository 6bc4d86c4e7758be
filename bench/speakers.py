"""Many people who speak at once, each at the speed of speech; they are a process of their own."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import async_read_event
from yarl import URL

from bench.service import BYTES_PER_MS, FRAME_MS, KEY, TEXT, recording

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from wyoming.event import Event

_QUERY: Final = {
    "speech_model": "universal-3-6-pro",
    "sample_rate": "16000",
    "encoding": "pcm_s16le",
    "mode": "min_latency",
    "language_codes": '["en"]',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """So many speakers, all of one kind, each with so many utterances one after another."""

    speakers: int
    utterances: int
    """Those that count. One more each keeps the others company while they end."""
    chunk_ms: int
    service: str
    """The emulator's URL."""
    port: int | None
    """Where the server listens; None to ask the service directly."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a phase."""

    delays: list[float]
    """Seconds from the last sample to the transcript, by speaker and then in order."""
    cpu_share: float
    """Of one core, taken by the speakers."""


def speak(pipe: Connection) -> None:
    """Take phases and give back what was heard."""
    gc.disable()  # a pause of the stopwatch is no delay of the server
    while True:
        phase = pipe.recv()
        gc.collect()
        pipe.send(asyncio.run(_run(phase)))


async def _run(phase: Phase) -> Heard:
    pcm = recording()
    seconds = len(pcm) / BYTES_PER_MS / 1000
    cpu, began = time.process_time(), time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        direct = _Direct(session, phase.service, pcm)
        way: _Way = direct if phase.port is None else _ThroughServer(phase.port, pcm, phase.chunk_ms)

        async def person(number: int) -> list[float]:
            await asyncio.sleep(seconds * number / phase.speakers)
            return [await way.ask() for _ in range(phase.utterances + 1)][:-1]

        delays = await asyncio.gather(*(person(number) for number in range(phase.speakers)))
        await asyncio.gather(*direct.endings)
    share = (time.process_time() - cpu) / (time.perf_counter() - began)
    return Heard([delay for of_one in delays for delay in of_one], share)


class _Way(Protocol):
    async def ask(self) -> float:
        """Say the sentence once; the delay of its transcript."""


class _Direct:
    """Does on the wire what the server does, with nothing in between."""

    def __init__(self, session: aiohttp.ClientSession, url: str, pcm: bytes) -> None:
        self._session = session
        self._url = (URL(url) / "v3" / "ws").with_query(_QUERY)
        size = FRAME_MS * BYTES_PER_MS
        self._frames = [pcm[at : at + size] for at in range(0, len(pcm), size)]
        self.endings: list[asyncio.Task[None]] = []

    async def ask(self) -> float:
        """See _Way."""
        due = time.perf_counter()
        socket = await self._session.ws_connect(self._url, headers={"Authorization": KEY})
        receiving = asyncio.create_task(_final(socket))
        for frame in self._frames:
            due += FRAME_MS / 1000
            await asyncio.sleep(due - time.perf_counter())
            stopped = time.perf_counter()
            await socket.send_bytes(frame)
        await socket.send_str('{"type":"ForceEndpoint"}')
        text, answered = await receiving
        self.endings.append(asyncio.create_task(_terminate(socket)))
        _check(text)
        return answered - stopped


async def _final(socket: aiohttp.ClientWebSocketResponse) -> tuple[str, float]:
    async for message in socket:
        turn = json.loads(message.data)
        if turn.get("end_of_turn"):
            return turn["transcript"], time.perf_counter()
    return "", 0.0


async def _terminate(socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_str('{"type":"Terminate"}')
    async for _ in socket:
        pass
    await socket.close()


class _ThroughServer:
    """A Wyoming client that opens a connection for each utterance, as Home Assistant does."""

    def __init__(self, port: int, pcm: bytes, chunk_ms: int) -> None:
        self._port = port
        self._seconds = chunk_ms / 1000
        size = chunk_ms * BYTES_PER_MS
        # Prepared here, so that the speakers cost little while they speak.
        pieces = [AudioChunk(16_000, 2, 1, pcm[at : at + size]) for at in range(0, len(pcm), size)]
        self._chunks = [_encoded(piece.event()) for piece in pieces]
        self._start = _encoded(Transcribe(language="en").event(), AudioStart(16_000, 2, 1).event())
        self._stop = _encoded(AudioStop().event())

    async def ask(self) -> float:
        """See _Way."""
        due = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._start)
        for chunk in self._chunks:
            due += self._seconds
            await asyncio.sleep(due - time.perf_counter())
            stopped = time.perf_counter()
            writer.write(chunk)
        writer.write(self._stop)
        answer = await async_read_event(reader)
        answered = time.perf_counter()
        writer.close()
        _check(answer.data.get("text") if answer else None)
        return answered - stopped


def _encoded(*events: Event) -> bytes:
    """The events as they go over the wire."""
    parts = []
    for event in events:
        data, payload = json.dumps(event.data).encode(), event.payload or b""
        header = {"type": event.type, "data_length": len(data), "payload_length": len(payload)}
        parts += [json.dumps(header).encode(), b"\n", data, payload]
    return b"".join(parts)


def _check(text: object) -> None:
    if text != TEXT:
        raise RuntimeError(f"not the right answer: {text!r}")
