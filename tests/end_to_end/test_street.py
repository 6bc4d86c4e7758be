"""A real server process in a street full of strangers: who speaks is answered all the same.

Its local model knows the recordings by their bytes (bench/fuzz.py), so that right words mean that every byte
was heard, and that no time goes into recognition.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import struct
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient

from bench.fuzz import CLIPS, PATIENCE, Served, say, served
from tests.end_to_end.clips import MUTED, Clip
from tests.wyoming_server.serving import encoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

QUICK = 40.0
"""How much faster than people the speakers speak."""
CROWD = 2000
MOST = 256
"""Connections that the server holds at once, by its default."""
START = AudioStart(16_000, 2, 1).event()
STOP = AudioStop().event()


@pytest.fixture(autouse=True)
def _many_sockets() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Stranger:
    """A connection that does as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """All that comes until the server closes the connection, or breaks it off."""
        heard = b""
        with suppress(ConnectionError):
            while received := await self.reader.read(65_536):
                heard += received
        return heard

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class Street:
    """The server, and what it has open while nobody is there."""

    def __init__(self, server: Served, at_rest: int) -> None:
        self.server = server
        self.uri = server.process.uri
        self.port = server.process.port
        self._at_rest = at_rest

    async def until_at_most(self, connections: int) -> None:
        """Return once the server has no more sockets open than for so many clients."""
        await until(lambda: self.server.descriptors <= self._at_rest + connections)

    async def come(self, stack: AsyncExitStack) -> Stranger:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        stack.callback(writer.transport.abort)
        return Stranger(reader, writer)

    async def speaker(self, stack: AsyncExitStack) -> AsyncClient:
        return await stack.enter_async_context(AsyncClient.from_uri(self.uri))

    async def answers_everybody(self) -> None:
        """Eight at once, and one more."""
        assert await say(self.uri, MUTED, QUICK) == "right"
        answers = await asyncio.gather(*(say(self.uri, clip, QUICK) for clip in CLIPS * 2))
        assert answers == ["right"] * len(answers)


async def until(is_true: Callable[[], bool]) -> None:
    """Of another process, which can only be looked at now and then."""
    while not is_true():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.02)


@asynccontextmanager
async def street(**settings: str) -> AsyncIterator[Street]:
    """A server that has nothing left of anybody in the end, and has found nothing wrong with itself."""
    async with served(**settings) as server, asyncio.timeout(2 * PATIENCE):
        assert await say(server.process.uri, MUTED, QUICK) == "right"
        looks: list[int] = []

        def is_at_rest() -> bool:
            looks.append(server.descriptors)
            return looks[-10:] == looks[-1:] * 10

        await until(is_at_rest)
        tasks = await server.tasks()
        place = Street(server, looks[-1])
        yield place
        assert server.process.is_running
        await place.until_at_most(0)
        for _ in range(1000):
            if await server.tasks() <= tasks:
                break
        assert await server.tasks() <= tasks
    for word in ("ERROR", "Traceback", "never retrieved"):
        assert word not in server.process.log


async def drip(stranger: Stranger) -> None:
    """A byte now and then, for as long as the server takes them."""
    with suppress(ConnectionError):
        while True:
            await stranger.send(b" ")
            await asyncio.sleep(0.05)


async def test_slow_lorises_are_let_go_however_they_drip_and_nobody_waits_for_them() -> None:
    header = b'{"type": "ping", "data_length": 60000, "payload_length": 500000}\n'
    begun = [b"", header[:-1], header, header + b"{" + b" " * 59_998 + b"}"]
    async with street(IDLE_TIMEOUT="2") as place, AsyncExitStack() as stack:
        lorises = [await place.come(stack) for _ in range(80)]
        for number, loris in enumerate(lorises):
            await loris.send(begun[number % len(begun)])
        dripping = [asyncio.create_task(drip(loris)) for loris in lorises]
        await place.answers_everybody()
        for loris in lorises:  # while they still drip
            assert b"transcript" not in await loris.rest()
        for task in dripping:
            task.cancel()
        await asyncio.wait(dripping)


async def test_announced_bytes_are_not_kept_room_for_and_those_that_came_are_forgotten() -> None:
    header = b'{"type": "audio-chunk", "payload_length": 500000}\n'
    async with street() as place, AsyncExitStack() as stack:
        before = place.server.resident
        liars = [await place.come(stack) for _ in range(200)]
        for liar in liars:
            await liar.send(encoded(START) + header)
        assert await say(place.uri, MUTED, QUICK) == "right"
        assert place.server.resident - before < 20
        for liar in liars[:100]:
            await liar.send(bytes(499_999))
        await place.answers_everybody()


async def test_two_thousand_who_hang_on_cost_no_speaker_the_answer() -> None:
    async with street() as place, AsyncExitStack() as stack:
        speaker = await place.speaker(stack)
        await speaker.write_event(START)
        crowd: list[Stranger] = []
        for at in range(0, len(MUTED.pcm), 3200):
            await speaker.write_event(AudioChunk(16_000, 2, 1, MUTED.pcm[at : at + 3200]).event())
            while len(crowd) < CROWD * (at + 3200) / len(MUTED.pcm):
                crowd.append(await place.come(stack))
        assert len(crowd) >= CROWD
        await place.until_at_most(MOST)
        await place.answers_everybody()
        await speaker.write_event(STOP)
        assert await words(speaker) == MUTED.text


async def test_two_thousand_who_begin_to_speak_are_kept_within_bounds_and_cost_no_speaker_the_answer() -> (
    None
):
    async with street() as place, AsyncExitStack() as stack:
        speaker = await place.speaker(stack)
        await speaker.write_event(START)
        await speaker.write_event(AudioChunk(16_000, 2, 1, MUTED.pcm).event())
        crowd = [await place.come(stack) for _ in range(CROWD)]
        for stranger in crowd:
            with suppress(ConnectionError):
                await stranger.send(encoded(START))
        await place.until_at_most(MOST)
        assert await place.server.tasks() < MOST * 10
        await speaker.write_event(STOP)
        assert await words(speaker) == MUTED.text
        # A person comes when all places are taken by those who have begun and say nothing.
        while (outcome := await say(place.uri, MUTED, QUICK)) != "right":
            assert outcome.startswith(("error (too-many-connections)", "unanswered (C"))


async def words(speaker: AsyncClient) -> str:
    """Of the next event, which is a transcript."""
    event = await speaker.read_event()
    assert event is not None
    assert Transcript.is_type(event.type)
    return Transcript.from_event(event).text


async def test_clients_without_manners_are_served_and_forgotten() -> None:
    """Who never reads, sends five minutes at once, breaks off, or closes half."""
    async with street() as place, AsyncExitStack() as stack:
        rude = [
            asyncio.create_task(work)
            for work in (
                never_reads(stack, place),
                speaks_for_minutes(stack, place),
                *(breaks_off(stack, place, MUTED) for _ in range(50)),
                *(closes_half(stack, place, MUTED) for _ in range(8)),
            )
        ]
        while not all(task.done() for task in rude):
            await place.answers_everybody()
        for task in rude:
            task.result()


async def test_thousands_who_come_and_go_push_out_nobody_who_has_just_come() -> None:
    async with street() as place, AsyncExitStack() as stack:
        passing = [asyncio.create_task(comes_and_goes(place, 500)) for _ in range(6)]
        while not all(task.done() for task in passing):
            await asyncio.gather(*(closes_half(stack, place, MUTED) for _ in range(4)))
            await place.answers_everybody()
        for task in passing:
            task.result()


async def never_reads(stack: AsyncExitStack, place: Street) -> None:
    stranger = await place.come(stack)
    asking = asyncio.create_task(asks_on(stranger))
    with pytest.raises(ConnectionError):
        await asking


async def asks_on(stranger: Stranger) -> None:
    while True:
        await stranger.send(b'{"type": "describe"}\n' * 1000)


async def speaks_for_minutes(stack: AsyncExitStack, place: Street) -> None:
    stranger = await place.come(stack)
    minute = encoded(AudioChunk(16_000, 2, 1, bytes(32_000)).event()) * 60
    await stranger.send(encoded(START))
    for _ in range(5):
        await stranger.send(minute)
    await stranger.send(encoded(STOP))
    stranger.writer.write_eof()
    heard = await stranger.rest()
    assert (heard.count(b'"transcript"'), heard.count(b'"error"')) == (1, 0)


async def breaks_off(stack: AsyncExitStack, place: Street, clip: Clip) -> None:
    stranger = await place.come(stack)
    await stranger.send(encoded(START) + encoded(AudioChunk(16_000, 2, 1, clip.pcm[:30_000]).event()))
    stranger.reset()


async def closes_half(stack: AsyncExitStack, place: Street, clip: Clip) -> None:
    stranger = await place.come(stack)
    chunk = AudioChunk(16_000, 2, 1, clip.pcm).event()
    await stranger.send(encoded(START) + encoded(chunk) + encoded(STOP))
    stranger.writer.write_eof()
    assert clip.text.encode() in await stranger.rest()


async def comes_and_goes(place: Street, times: int) -> None:
    for number in range(times):
        _, writer = await asyncio.open_connection("127.0.0.1", place.port)
        if number % 2:
            writer.write(b'{"type": "pi')
        writer.transport.abort()


# A process that was suspended


async def test_utterance_during_which_the_process_was_suspended_is_answered_with_all_its_words() -> None:
    async with street(IDLE_TIMEOUT="2") as place, AsyncExitStack() as stack:
        idle = await place.come(stack)
        await idle.send(b'{"type": "describe"}\n')
        await idle.reader.readline()
        speakers = [await place.speaker(stack) for _ in range(2)]
        half = len(MUTED.pcm) // 4 * 2
        for speaker in speakers:
            await speaker.write_event(START)
            await speaker.write_event(AudioChunk(16_000, 2, 1, MUTED.pcm[:half]).event())
        place.server.process.send(signal.SIGSTOP)
        for speaker in speakers:
            await speaker.write_event(AudioChunk(16_000, 2, 1, MUTED.pcm[half:]).event())
        await speakers[0].write_event(STOP)
        await asyncio.sleep(2.5)  # longer than anybody may be silent
        place.server.process.send(signal.SIGCONT)
        await speakers[1].write_event(STOP)
        for speaker in speakers:
            assert await words(speaker) == MUTED.text
        await idle.rest()  # who was silent for too long
        await place.answers_everybody()
