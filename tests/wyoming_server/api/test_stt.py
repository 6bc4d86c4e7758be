"""/ws/stt of the server on a real socket, with a client of its own and with the backend that asks workers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from modal_whisper import __version__
from modal_whisper.messages import Failure, Final, Partial, Ready, Start, Stop, decode_worker, encode
from tests.engines import new_engine
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.fakes import PATIENCE
from tests.sounds import silence, speech
from tests.wyoming_server.backends.listening import listen, recording_of
from tests.wyoming_server.backends.servers import serving
from tests.wyoming_server.serving import HeldBackend
from wyoming_server.api.sockets import Sockets
from wyoming_server.api.stt import SttPage
from wyoming_server.backends.base import Request
from wyoming_server.backends.whisper import Whisper, WhisperOptions
from wyoming_server.errors import (
    DisconnectedError,
    InternalError,
    NotReadyError,
    OverdueError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
    UnreachableError,
)
from wyoming_server.recording import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from modal_whisper.messages import ClientMessage, WorkerMessage
    from tests.fake_backends import Step
    from wyoming_server.backends.base import Backend
    from wyoming_server.errors import BackendError

VOICE = speech(600) + silence(200)
READY = Ready("failover", __version__)


class Client:
    """One open WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def tell(self, *messages: ClientMessage) -> None:
        for message in messages:
            await self.socket.send_str(encode(message))

    async def say(self, pcm: bytes = VOICE, start: Start | None = None, *, piece: int = 3200) -> None:
        await self.tell(start or Start())
        for at in range(0, len(pcm), piece):
            await self.socket.send_bytes(pcm[at : at + piece])
        await self.tell(Stop())

    async def next(self) -> WorkerMessage:
        async with asyncio.timeout(PATIENCE):
            return decode_worker(await self.socket.receive_str())

    async def answers(self) -> list[WorkerMessage]:
        """Everything up to the next final or error."""
        messages = [await self.next()]
        while not isinstance(messages[-1], Final | Failure):
            messages.append(await self.next())
        return messages

    async def error(self) -> tuple[str, str]:
        *_, failure = await self.answers()
        assert isinstance(failure, Failure), failure
        return failure.code, failure.message


class Page:
    """The page on a port of its own."""

    def __init__(self, page: SttPage, port: int) -> None:
        self.page = page
        self.port = port


@asynccontextmanager
async def page_of(
    *backends: Backend, deadline: float = PATIENCE, pool: Pool | None = None, **settings: Any
) -> AsyncIterator[Page]:
    house = SimpleNamespace(
        pool=pool or Pool(),
        engine=new_engine(backends, deadline=deadline),
        settings=SimpleNamespace(
            **{"key_terms": (), "max_utterance": 60.0, "idle_timeout": PATIENCE, **settings}
        ),
    )
    page = SttPage(house, Sockets())
    app = web.Application()
    app.router.add_get("/ws/stt", page.get)
    async with serving(app) as port:
        yield Page(page, port)
    await house.engine.close()


@asynccontextmanager
async def client_of(page: Page) -> AsyncIterator[Client]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{page.port}/ws/stt") as socket,
    ):
        yield Client(socket)


async def test_an_utterance_gets_partials_and_a_final_that_names_the_backend() -> None:
    backend = ScriptedBackend("there", CONNECTED, partial("open"), Wait.AUDIO, final("open the door", "en"))
    async with page_of(backend) as page, client_of(page) as client:
        await client.say()
        assert await client.answers() == [
            READY,
            Partial("open"),
            Final("open the door", "en", audio_ms=800, work_ms=0, model="there"),
        ]
    assert backend.asked[0].received == VOICE


async def test_where_the_first_backend_fails_the_next_one_answers_from_the_first_sample() -> None:
    broken = ScriptedBackend("broken", CONNECTED, partial("o"), 0.01, UnreachableError("gone"))
    second = ScriptedBackend("second", Wait.AUDIO, final("open the door"))
    async with page_of(broken, second) as page, client_of(page) as client:
        await client.say()
        *_, answer = await client.answers()
    assert answer == Final("open the door", None, audio_ms=800, model="second")
    assert second.asked[0].received == VOICE


async def test_what_the_client_wishes_reaches_the_backend() -> None:
    backend = ScriptedBackend("there", Wait.AUDIO, final("开灯"))
    start = Start("zh-Hant", names=("Anna", " Ecobee ", " "), terms=("dimmer", ""))
    async with page_of(backend, key_terms=("Wohnzimmer",)) as page, client_of(page) as client:
        await client.say(start=start)
        *_, answer = await client.answers()
    assert backend.asked[0].request == Request(
        "zh", ("Anna", "Ecobee", "Wohnzimmer"), ("dimmer",), tag="zh-Hant"
    )
    assert answer == Final("开灯", "zh", audio_ms=800, model="there")


async def test_pieces_of_any_size_are_put_together() -> None:
    backend = ScriptedBackend("there", Wait.AUDIO, final("open"))
    async with page_of(backend) as page, client_of(page) as client:
        await client.say(VOICE, piece=333)
        await client.answers()
    assert backend.asked[0].received == VOICE


async def test_half_a_sample_at_the_end_is_dropped() -> None:
    backend = ScriptedBackend("there", Wait.AUDIO, final("open"))
    async with page_of(backend) as page, client_of(page) as client:
        await client.say(VOICE + b"\1")
        await client.answers()
    assert backend.asked[0].received == VOICE


async def test_silence_is_an_empty_final_of_nobody() -> None:
    async with page_of(ScriptedBackend("deaf", Wait.FOREVER)) as page, client_of(page) as client:
        await client.say(silence(500))
        assert await client.answers() == [READY, Final("", None, audio_ms=500)]


async def test_one_connection_serves_one_utterance_after_another_by_the_engine_of_the_moment() -> None:
    first = ScriptedBackend("first", Wait.AUDIO, final("one"))
    async with page_of(first) as page, client_of(page) as client:
        await client.say()
        await client.answers()
        page.page._house.engine = new_engine([ScriptedBackend("second", Wait.AUDIO, final("two"))])
        await client.say()
        *_, answer = await client.answers()
    assert answer == Final("two", None, audio_ms=800, model="second")


async def test_a_language_that_no_backend_understands_is_refused_instead_of_ready() -> None:
    backend = ScriptedBackend("there", Wait.AUDIO, final("open"), languages=frozenset({"en"}))
    async with page_of(backend) as page, client_of(page) as client:
        await client.tell(Start("de-AT"))
        assert await client.answers() == [
            Failure(
                "bad-message", "no backend understands the language 'de-AT': give a code such as en or null"
            )
        ]
        await client.say(start=Start("en-GB"))
        assert [type(message) for message in await client.answers()] == [Ready, Final]


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([RejectedError("no")], "bad-message"),
        ([NotReadyError("no"), SignInRefusedError("no")], "model-unavailable"),
        ([OverloadedError("no"), RateLimitedError("no"), OverdueError("no")], "overloaded"),
        ([UnreachableError("no"), DisconnectedError("no")], "internal"),
        ([InternalError("no")], "internal"),
        ([OverloadedError("no"), UnreachableError("no")], "internal"),
        ([RejectedError("no"), OverloadedError("no")], "internal"),
    ],
    ids=str,
)
async def test_a_failure_of_all_backends_has_the_code_that_tells_the_client_what_to_do(
    errors: list[BackendError], code: str
) -> None:
    backends = [ScriptedBackend(f"b{number}", error) for number, error in enumerate(errors)]
    async with page_of(*backends) as page, client_of(page) as client:
        await client.say()
        told, message = await client.error()
        assert told == code
        assert message.startswith("no backend could answer (b0: no")
        await client.say(silence(500))  # which needs no backend
        assert isinstance((await client.answers())[-1], Final)


async def test_the_deadline_means_to_ask_elsewhere() -> None:
    slow = ScriptedBackend("slow", Wait.FOREVER)
    async with page_of(slow, deadline=0.05) as page, client_of(page) as client:
        await client.say()
        code, message = await client.error()
    assert (code, message) == ("overloaded", "no answer within 0.05 s after the last sample")


async def test_more_audio_than_an_utterance_may_have_is_too_long() -> None:
    backend = HeldBackend()
    async with page_of(backend, max_utterance=0.5) as page, client_of(page) as client:
        await client.tell(Start())
        await backend.begun.wait()
        await client.socket.send_bytes(VOICE)
        assert await client.error() == ("too-long", "the utterance is longer than 0.5 s")
        assert backend.asked[0].is_over


async def test_a_client_that_leaves_stops_the_work_for_it() -> None:
    backend = HeldBackend()
    async with page_of(backend) as page:
        async with client_of(page) as client:
            await client.tell(Start())
            await backend.begun.wait()
        async with asyncio.timeout(PATIENCE):
            await backend.over.wait()
            await page.page.finish()
        assert not [task for task in asyncio.all_tasks() if "take in audio" in task.get_name()]


async def test_the_audio_of_an_utterance_is_its_share_of_the_pool_until_it_is_answered() -> None:
    backend, pool = HeldBackend(), Pool()
    async with page_of(backend, pool=pool) as page, client_of(page) as client:
        for _ in range(2):
            backend.let_go.clear()
            backend.begun.clear()
            await client.say()
            await backend.begun.wait()
            async with asyncio.timeout(PATIENCE):
                while pool._held < len(VOICE):  # noqa: ASYNC110 - it tells nobody what comes in
                    await asyncio.sleep(0)
            assert (pool._held, pool._recordings) == (len(VOICE), 1)
            backend.let_go.set()
            *_, answer = await client.answers()
            assert isinstance(answer, Final)
            await page.page.finish()
            assert (pool._held, pool._recordings) == (0, 0)


async def test_a_client_that_leaves_gives_its_share_of_the_pool_back() -> None:
    backend, pool = HeldBackend(), Pool()
    async with page_of(backend, pool=pool) as page:
        async with client_of(page) as client:
            await client.tell(Start())
            await client.socket.send_bytes(VOICE)
            await backend.begun.wait()
        async with asyncio.timeout(PATIENCE):
            await backend.over.wait()
            await page.page.finish()
        assert (pool._held, pool._recordings) == (0, 0)


async def test_an_utterance_for_which_the_pool_has_no_room_is_answered_as_far_as_it_was_heard() -> None:
    backend = ScriptedBackend("there", CONNECTED, Wait.AUDIO, final("open"))
    async with page_of(backend, pool=Pool(len(VOICE) // 2)) as page, client_of(page) as client:
        for _ in range(2):
            await client.say()
            assert await client.answers() == [READY, Final("open", None, audio_ms=400, model="there")]
            assert backend.asked[-1].received == VOICE[: len(VOICE) // 2]


async def test_a_client_that_falls_silent_is_closed() -> None:
    async with page_of(idle_timeout=0.05) as page, client_of(page) as client:
        async with asyncio.timeout(PATIENCE):
            await client.socket.receive()
        assert client.socket.close_code == 1008


async def test_a_message_that_is_too_large_closes_the_connection() -> None:
    async with page_of() as page, client_of(page) as client:
        await client.socket.send_bytes(bytes(1024 * 1024 + 1))
        async with asyncio.timeout(PATIENCE):
            await client.socket.receive()
        assert client.socket.close_code == 1009


async def test_the_largest_message_is_taken() -> None:
    backend = ScriptedBackend("there", Wait.AUDIO, final("open"))
    async with page_of(backend) as page, client_of(page) as client:
        await client.say(bytes(1024 * 1024), piece=1024 * 1024)
        *_, answer = await client.answers()
    assert answer == Final("open", None, audio_ms=32_768, model="there")


async def test_the_page_is_finished_when_every_utterance_is_answered() -> None:
    backend = HeldBackend()
    async with page_of(backend) as page:
        await page.page.finish()
        async with client_of(page) as client:
            await client.say()
            await backend.begun.wait()
            finishing = asyncio.create_task(page.page.finish())
            done, _ = await asyncio.wait([finishing], timeout=0.05)
            assert not done
            backend.let_go.set()
            *_, answer = await client.answers()
            assert isinstance(answer, Final)
            async with asyncio.timeout(PATIENCE):
                await finishing


# A worker is a worker


@asynccontextmanager
async def asking(page: Page) -> AsyncIterator[Whisper]:
    """The backend `whisper` of another server, with this one for its worker."""
    options = WhisperOptions(
        url=f"http://127.0.0.1:{page.port}",
        api_key="",
        proxy_key="",
        proxy_secret="",
        model="failover",
        connect_timeout=PATIENCE,
        timeout=PATIENCE,
    )
    async with aiohttp.ClientSession() as session:
        backend = Whisper(options, session)
        yield backend
        await backend.close()


async def test_another_server_may_have_this_one_for_its_worker() -> None:
    backend = ScriptedBackend("there", CONNECTED, partial("open"), Wait.AUDIO, final("open the door", "en"))
    async with page_of(backend) as page, asking(page) as whisper:
        heard = await listen(whisper, recording_of(VOICE), Request("en", ("Anna",), ("dimmer",)))
    assert heard.connected.is_set()
    assert heard.texts == ["open", "open the door"]
    assert heard.final.language == "en"
    assert backend.asked[0].request == Request("en", ("Anna",), ("dimmer",), tag="en")
    assert backend.asked[0].received == VOICE


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (RejectedError("no"), RejectedError),
        (SignInRefusedError("no"), NotReadyError),
        (RateLimitedError("no"), OverloadedError),
        (UnreachableError("no"), InternalError),
    ],
    ids=lambda item: getattr(item, "code", None),
)
async def test_another_server_understands_why_this_one_has_no_words(
    step: Step, kind: type[BackendError]
) -> None:
    async with page_of(ScriptedBackend("there", step)) as page, asking(page) as whisper:
        with pytest.raises(kind, match="the worker says: no backend could answer"):
            await listen(whisper, recording_of(VOICE))


async def test_another_server_that_gives_up_stops_the_work() -> None:
    backend = HeldBackend()
    async with page_of(backend) as page, asking(page) as whisper:
        async with aclosing(whisper.transcribe(recording_of(VOICE), Request())) as progress:
            await anext(progress)
            await backend.begun.wait()
        async with asyncio.timeout(PATIENCE):
            await backend.over.wait()
