"""Whatever a client sends to /ws/stt is answered as docs/ws-stt.md says, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings, strategies as st

from modal_whisper import __version__
from modal_whisper.conversation import Limits
from modal_whisper.messages import (
    MAX_MESSAGE_BYTES,
    Failure,
    Final,
    Partial,
    Ready,
    Start,
    Stop,
    decode_worker,
    encode,
)
from modal_whisper.runner import ModelRunner
from modal_whisper.service import create_app
from modal_whisper.speech import BYTES_PER_SECOND
from tests.end_to_end.clips import MUTED, silence
from tests.fakes import PATIENCE, ScriptedTranscriber

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from modal_whisper.messages import WorkerMessage

MOST_SECONDS = 8
"""That an utterance may last."""
STOP = encode(Stop())
NO_TEXT = b"\xff\xfe"
"""A text message that is none, by its frame."""


class _Complaints(logging.Handler):
    """What was logged that somebody would have to look into."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))


class Worker:
    """A service on a port of its own, for all examples; its model understands the same in everything."""

    def __init__(self) -> None:
        self.complaints = _Complaints()
        self._loop = asyncio.Runner()
        self._site = web.AppRunner(
            create_app(ModelRunner(ScriptedTranscriber("Hi")), limits=Limits(max_utterance=MOST_SECONDS)),
            access_log=None,
        )

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self.complaints)
        self._loop.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._site.cleanup())
        self._loop.close()
        logging.getLogger().removeHandler(self.complaints)

    async def _start(self) -> None:
        await self._site.setup()
        await web.TCPSite(self._site, "127.0.0.1", 0).start()

    def serve(self, *visits: Coroutine[Any, Any, None]) -> None:
        """All of them at once, and no complaint in the end."""

        async def all_at_once() -> None:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                for visit in visits:
                    group.create_task(visit)

        self._loop.run(all_at_once())
        assert self.complaints.heard == []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._site.addresses[0][1]}/ws/stt"


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as started:
        yield started


@dataclass
class Client:
    """One open WebSocket, and what came on it."""

    ws: aiohttp.ClientWebSocketResponse
    heard: list[WorkerMessage] = field(default_factory=list)

    async def tell(self, message: str | bytes) -> None:
        if message == NO_TEXT:
            await self.ws._writer.send_frame(NO_TEXT, aiohttp.WSMsgType.TEXT)
        elif isinstance(message, str):
            await self.ws.send_str(message)
        else:
            await self.ws.send_bytes(message)

    async def settle(self) -> bool:
        """Return once the worker has read everything; says whether it has kept the connection."""
        await self.ws.ping()
        message = await self.ws.receive()
        while message.type is not aiohttp.WSMsgType.PONG:
            if message.type is not aiohttp.WSMsgType.TEXT:
                return False
            self.heard.append(decode_worker(message.data))
            message = await self.ws.receive()
        return True

    async def final(self) -> None:
        """Read to the end of the utterance."""
        while is_open(self.heard):
            self.heard.append(decode_worker(await self.ws.receive_str()))


def is_open(heard: Sequence[WorkerMessage]) -> bool:
    """Whether an answer is due; what came so far must be in the order that the protocol has."""
    is_due = False
    for message in heard:
        match message:
            case Ready():
                assert not is_due, "an utterance had no answer before the next one began"
                assert message == Ready("scripted", __version__)
                is_due = True
            case Final() | Partial():
                assert is_due, "an answer came that nobody had asked for"
                assert message.text in ("", "Hi")
                is_due = isinstance(message, Partial)
            case Failure():
                assert message.code in ("bad-message", "too-long"), message
                is_due = False
    return is_due


@dataclass
class Book:
    """What docs/ws-stt.md says of a message, for a client that waits for each answer."""

    is_open: bool = False
    has_begun: bool = False
    """An utterance, at some time."""
    has_failed: bool = False
    room: int = 0

    def answer(self, message: str | bytes) -> list[str]:
        """The kinds of what comes back, without partials."""
        if isinstance(message, bytes):
            return self._audio(len(message))
        if message == STOP:
            return self._stop()
        if self._is_good_start(message) and not self.is_open:
            self.is_open = self.has_begun = True
            self.room = MOST_SECONDS * BYTES_PER_SECOND
            return ["ready"]
        return self._failure()

    @staticmethod
    def _is_good_start(message: str) -> bool:
        return message in GOOD_STARTS

    def _audio(self, size: int) -> list[str]:
        if self.is_open:
            self.room -= size
            return self._failure("too-long") if self.room < 0 else []
        return [] if self.has_begun or self.has_failed else self._failure()

    def _stop(self) -> list[str]:
        if self.is_open:
            self.is_open = False
            return ["final"]
        return [] if self.has_begun or self.has_failed else self._failure()

    def _failure(self, code: str = "bad-message") -> list[str]:
        self.is_open = False
        self.has_failed = True
        return [code]


GOOD_STARTS = [
    encode(Start()),
    encode(Start("de-DE", ("Anna",), ("Licht",), ("en", "de"))),
    encode(Start("zh-Hant")),
    encode(Start("en", ("\ud83d", "<|endoftext|>", "\0"))),
    '{"type": "start", "names": [], "from the future": {"a": [1]}}',
    '{"type":"start","language":null}' + " " * 1000,
]
BAD_STARTS = [
    encode(Start("xx")),
    encode(Start("")),
    '{"type": "start", "language": 7}',
    '{"type": "start", "names": "Anna"}',
    '{"type": "start", "terms": [null]}',
    '{"type": "start", "languages": {"en": 1}}',
]
BAD_TEXTS = [
    "",
    "start",
    "null",
    "[]",
    "{}",
    '{"type": 1}',
    '{"type": ["start"]}',
    '{"type": "Start"}',
    encode(Final("Hi")),
    '{"type": "start"',
    "[" * 10_000,
    "🙂",
    "1" * 5000,
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
bad_texts = st.one_of(st.sampled_from(BAD_STARTS + BAD_TEXTS), st.text(max_size=20), JSON.map(json.dumps))
audio = st.one_of(
    st.sampled_from(
        [
            MUTED.pcm,
            MUTED.pcm + silence(0.5),
            silence(0.3),
            b"",
            b"\1",
            MUTED.pcm[:12_001],
            silence(MOST_SECONDS),
        ]
    ),
    st.binary(max_size=3000).filter(lambda pcm: pcm != NO_TEXT),
    st.just(bytes(MAX_MESSAGE_BYTES)),
)
messages = st.one_of(
    st.sampled_from(GOOD_STARTS),
    st.sampled_from(GOOD_STARTS),
    st.just(STOP),
    st.just(STOP),
    audio,
    audio,
    bad_texts,
)
ends = st.sampled_from([NO_TEXT, bytes(MAX_MESSAGE_BYTES + 1), "x" * (MAX_MESSAGE_BYTES + 1)])
"""Of the connection."""


def kind(message: WorkerMessage) -> str:
    return message.code if isinstance(message, Failure) else message.type


async def bystander(worker: Worker) -> None:
    """Somebody else, who is answered all the while."""
    async with aiohttp.ClientSession() as http, http.ws_connect(worker.address) as ws:
        await utterance(ws, MUTED.pcm, "Hi")


async def utterance(ws: aiohttp.ClientWebSocketResponse, pcm: bytes, text: str) -> None:
    await ws.send_str(encode(Start("en")))
    await ws.send_bytes(pcm)
    await ws.send_str(STOP)
    answers = [decode_worker(await ws.receive_str()) for _ in range(2)]
    assert [kind(answer) for answer in answers] == ["ready", "final"]
    assert isinstance(answers[1], Final)
    assert (answers[1].text, answers[1].audio_ms) == (text, len(pcm) // 32)


async def one_at_a_time(worker: Worker, told: Sequence[str | bytes]) -> None:
    """Who waits for what each message brings is answered by the book."""
    book = Book()
    async with aiohttp.ClientSession() as http, http.ws_connect(worker.address, autoping=False) as ws:
        client = Client(ws)
        for message in told:
            before = len(client.heard)
            await client.tell(message)
            assert await client.settle()
            if message == STOP:
                await client.final()
            expected = book.answer(message)
            assert [kind(item) for item in client.heard[before:] if not isinstance(item, Partial)] == expected
            assert is_open(client.heard) == book.is_open
        await finish(client)


async def all_at_once(worker: Worker, told: Sequence[str | bytes], end: str | bytes | None) -> None:
    """Who waits for nothing still gets one answer for each utterance that was begun."""
    async with aiohttp.ClientSession() as http, http.ws_connect(worker.address, autoping=False) as ws:
        client = Client(ws)
        for message in told:
            await client.tell(message)
        if end is None:
            assert await client.settle()
            failures = [message for message in client.heard if isinstance(message, Failure)]
            assert len(failures) <= len(told)
            await finish(client)
        else:
            await client.tell(end)
            assert not await client.settle()
            is_open(client.heard)


async def finish(client: Client) -> None:
    """What is due comes, nothing comes after it, and the connection is as good as new."""
    if is_open(client.heard):
        await client.tell(STOP)
        await client.final()
    heard = len(client.heard)
    assert await client.settle()
    assert len(client.heard) == heard
    await utterance(client.ws, silence(0.5), "")


# Each example has the same worker, which is what the fixture is for.
fuzzed = settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(told=st.lists(messages, max_size=12))
@example(told=[GOOD_STARTS[0], silence(MOST_SECONDS), b"", STOP])
@example(told=[GOOD_STARTS[0], silence(MOST_SECONDS), b"\1", STOP])
@example(told=[GOOD_STARTS[0], MUTED.pcm, STOP, silence(MOST_SECONDS), silence(MOST_SECONDS), GOOD_STARTS[0]])
@fuzzed
def test_each_message_is_answered_by_the_book(worker: Worker, told: list[str | bytes]) -> None:
    worker.serve(one_at_a_time(worker, told), bystander(worker))


@given(told=st.lists(messages, max_size=20), end=st.none() | ends)
@example(told=[GOOD_STARTS[0]] * 50, end=None)
@example(told=[GOOD_STARTS[0], MUTED.pcm, STOP] * 20, end=None)
@fuzzed
def test_whoever_waits_for_nothing_gets_one_answer_for_each_utterance(
    worker: Worker, told: list[str | bytes], end: str | bytes | None
) -> None:
    worker.serve(all_at_once(worker, told, end), bystander(worker))


@given(told=st.lists(messages, max_size=5), garbage=st.binary(max_size=100))
@fuzzed
def test_bytes_that_are_no_messages_harm_nobody_else(
    worker: Worker, told: list[str | bytes], garbage: bytes
) -> None:
    async def visit() -> None:
        async with aiohttp.ClientSession() as http:
            ws = await http.ws_connect(worker.address)
            for message in told:
                await Client(ws).tell(message)
            transport = ws._writer.transport
            transport.write(garbage)
            transport.close()

    worker.serve(visit(), bystander(worker))
