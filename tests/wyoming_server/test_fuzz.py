"""Strangers who send anything: bench/fuzz_wyoming.py has the vocabulary, and runs longer."""

from __future__ import annotations

import asyncio
import io
import logging
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import example, given, settings, strategies as st
from wyoming.event import read_event

from bench.fuzz_wyoming import KINDS
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final
from tests.fakes import PATIENCE
from tests.sounds import speech
from tests.virtual_clock import virtual_clock
from tests.wyoming_server.serving import connected, serving
from wyoming_server.errors import FramingError
from wyoming_server.wire import MAX_DATA_BYTES, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, EventReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wyoming_server.server import WyomingServer

VOICE = speech(600)
ENDS = ("half", "close", "reset")


class Defects(logging.Handler):
    """The errors that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


def _said(kind: str, seed: int) -> bytes:
    return b"".join(KINDS[kind](Random(seed)))


# What cannot be cut into events ends a connection: most shall come further.
kinds = st.sampled_from([*KINDS, *list(KINDS)[:3] * 3])
talk = st.lists(st.builds(_said, kinds, st.integers(0, 2**32)), max_size=12)
cuts = st.lists(st.integers(1, 70_000) | st.integers(1, 40), min_size=1, max_size=6)


def pieces(sent: list[bytes], sizes: list[int]) -> list[bytes]:
    whole = b"".join(sent)
    found, at = [], 0
    while at < len(whole):
        size = sizes[len(found) % len(sizes)] if len(found) < 300 else 100_000
        found.append(whole[at : at + size])
        at += size
    return found


@settings(max_examples=200)
@given(sent=talk, sizes=cuts)
@virtual_clock
async def test_whatever_is_sent_is_cut_into_events_or_refused_and_never_more_is_kept_than_one_event(
    sent: list[bytes], sizes: list[int]
) -> None:
    stream = asyncio.StreamReader()
    reader = EventReader(stream)
    most = MAX_HEADER_BYTES + MAX_DATA_BYTES + MAX_PAYLOAD_BYTES + 64 * 1024

    async def read() -> None:
        with suppress(FramingError):
            while event := await reader.read():
                assert isinstance(event.type, str)
                assert isinstance(event.data, dict)

    reading = asyncio.create_task(read())
    for piece in pieces(sent, sizes):
        stream.feed_data(piece)
        await asyncio.sleep(1)
        assert len(reader._buffer) <= most
    stream.feed_eof()
    await reading


@settings(max_examples=80)
@given(talks=st.lists(st.tuples(talk, cuts, st.sampled_from(ENDS)), min_size=1, max_size=3))
@example(talks=[([b'{"type": "audio-chunk", "payload_length": 500000}\n'], [1], "reset")])
def test_whatever_strangers_send_a_person_is_answered_and_nothing_is_left_of_them(
    talks: list[tuple[list[bytes], list[int], str]],
) -> None:
    complaints: list[Mapping[str, Any]] = []
    defects = Defects()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        backend = ScriptedBackend("listener", CONNECTED, Wait.AUDIO, final("open the door"))
        async with serving(backend) as server, asyncio.timeout(PATIENCE):
            async with connected(server) as person:
                await asyncio.gather(*(visit(server, pieces(sent, sizes), end) for sent, sizes, end in talks))
                await person.say(VOICE)
                assert await person.text() == "open the door"
                assert VOICE in [asked.received for asked in backend.asked]
            await asyncio.gather(*server._connections, return_exceptions=True)
            await asyncio.sleep(0)
            assert all(asked.is_over for asked in backend.asked)
            assert server._pool._held == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    logging.getLogger().addHandler(defects)
    try:
        asyncio.run(main())
    finally:
        logging.getLogger().removeHandler(defects)
    assert (complaints, defects.found) == ([], [])


async def visit(server: WyomingServer, sent: list[bytes], end: str) -> None:
    """Send it all, and leave in some way; whatever the server says meanwhile is an event."""
    async with connected(server) as stranger:
        reader = stranger._client._reader
        assert reader is not None
        hearing = asyncio.create_task(reader.read())
        with suppress(ConnectionError):
            for piece in sent:
                await stranger.send_bytes(piece)
            if end == "half":
                stranger.half_close()
                heard = io.BytesIO(await hearing)
                while event := read_event(heard):
                    assert event.type in {"info", "pong", "transcript", "error"}
        if end == "reset":
            stranger.crash()
        hearing.cancel()
        await asyncio.wait([hearing])
