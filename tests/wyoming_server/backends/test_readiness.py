"""What every backend can do besides transcribing: get warm, be probed, and say what it cost."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from modal_whisper.errors import ModelUnavailableError
from modal_whisper.runner import ModelRunner
from modal_whisper.service import create_app
from tests.emulators.assemblyai import (
    AssemblyAIEmulator,
    Close,
    ErrorFrame,
    Fault,
    HttpStatus,
    Script,
    SlowBegin,
    Stall,
    Word,
)
from tests.fakes import ScriptedTranscriber
from tests.sounds import silence, speech
from tests.wyoming_server.backends.assemblyai_clients import KEY, options
from tests.wyoming_server.backends.listening import PATIENCE, leaving_nothing, listen, recording_of
from tests.wyoming_server.backends.servers import serving
from wyoming_server.backends.assemblyai import AssemblyAI
from wyoming_server.backends.local import Local
from wyoming_server.backends.whisper import Whisper, WhisperOptions
from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    NotReadyError,
    OverloadedError,
    SignInRefusedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UTTERANCE = speech(900) + silence(500)
SCRIPT = Script((Word("Turn", 100, 400), Word("on.", 400, 800, sentence_end=True)))
WORKER_KEY = "worker-key"
NO_MODEL = ModelUnavailableError("no model here")


# AssemblyAI


@asynccontextmanager
async def assemblyai(url: str, **changes: Any) -> AsyncIterator[tuple[AssemblyAI, list[float]]]:
    spent: list[float] = []
    async with leaving_nothing() as session:
        backend = AssemblyAI(options(url, **changes), session, spent.append)
        yield backend, spent
        await backend.close()


async def test_a_probe_of_assemblyai_begins_a_session_and_ends_it() -> None:
    async with AssemblyAIEmulator() as emulator:
        async with assemblyai(emulator.url) as (backend, spent):
            await backend.probe()
        (record,) = emulator.sessions
        assert (record.terminated, record.audio_bytes) == (True, 0)
        assert len(spent) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("connect", HttpStatus(503)), OverloadedError),
        (Fault("connect", ErrorFrame(1008, "Unauthorized Connection: Invalid API key")), SignInRefusedError),
        (Fault("connect", Close(1011)), OverloadedError),
        (Fault("connect", Close(4242)), DisconnectedError),
        (Fault("connect", Stall()), UnreachableError),
        (Fault("connect", SlowBegin(PATIENCE)), UnreachableError),
    ],
)
async def test_a_probe_of_assemblyai_fails_as_an_utterance_would(
    fault: Fault, error: type[BackendError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wyoming_server.backends.assemblyai._SESSION_END_TIMEOUT", 0.1)
    async with AssemblyAIEmulator(faults=[fault]) as emulator:
        async with assemblyai(emulator.url, connect_timeout=0.3) as (backend, _):
            with pytest.raises(error) as caught:
                await backend.probe()
        assert KEY not in str(caught.value)


async def test_a_session_costs_from_open_to_closed_and_no_session_costs_nothing() -> None:
    async with AssemblyAIEmulator(script=SCRIPT) as emulator:
        async with assemblyai(emulator.url) as (backend, spent):
            assert (await listen(backend, recording_of(UTTERANCE))).final.text == "Turn on."
        (record,) = emulator.sessions
        assert spent == [pytest.approx(record.billed_seconds, abs=0.2)]
        assert spent[0] > 0
    async with assemblyai(emulator.url) as (backend, spent):
        with pytest.raises(UnreachableError):
            await listen(backend, recording_of(UTTERANCE))
    assert spent == []


# The worker


@asynccontextmanager
async def worker(transcriber: ScriptedTranscriber) -> AsyncIterator[int]:
    app = create_app(ModelRunner(transcriber), api_key=WORKER_KEY)
    runner = web.AppRunner(app, shutdown_timeout=0.5, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@asynccontextmanager
async def whisper(port: int, key: str = WORKER_KEY) -> AsyncIterator[tuple[Whisper, list[float]]]:
    spent: list[float] = []
    asked = WhisperOptions(
        url=f"ws://127.0.0.1:{port}",
        api_key=key,
        proxy_key="",
        proxy_secret="",
        model="",
        connect_timeout=PATIENCE,
        timeout=PATIENCE,
    )
    async with leaving_nothing() as session:
        backend = Whisper(asked, session, spent.append)
        yield backend, spent
        await backend.close()


async def warmed(backend: Whisper) -> None:
    """Return when the call that warms the worker is over."""
    assert backend._warming is not None
    async with asyncio.timeout(PATIENCE):
        await backend._warming


async def test_warming_the_worker_loads_its_model_once_at_a_time() -> None:
    loaded = threading.Event()
    transcriber = ScriptedTranscriber("Turn on.", loading=[NO_MODEL, loaded])
    async with worker(transcriber) as port, whisper(port) as (backend, _):
        await transcriber.wait_loading()
        backend.warm()
        first = backend._warming
        backend.warm()
        assert backend._warming is first
        loaded.set()
        await warmed(backend)


async def test_pages_of_the_worker_are_asked_for_with_the_key() -> None:
    asked: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append((request.path, request.headers.get("Authorization", "")))
        return web.Response()

    async with serving(answer) as port, whisper(port) as (backend, _):
        backend.warm()
        await warmed(backend)
        await backend.probe()
    assert asked == [("/warm", f"Bearer {WORKER_KEY}"), ("/health", f"Bearer {WORKER_KEY}")]


@pytest.mark.parametrize("key", ["wrong", WORKER_KEY])
async def test_a_worker_that_cannot_be_warmed_harms_nobody(key: str) -> None:
    async with worker(ScriptedTranscriber(loading=[NO_MODEL])) as port, whisper(port, key) as (backend, _):
        backend.warm()
        await warmed(backend)


async def test_a_worker_that_is_gone_harms_nobody_who_warms_it() -> None:
    async with worker(ScriptedTranscriber()) as port:
        pass
    async with whisper(port) as (backend, _):
        backend.warm()
        await warmed(backend)
        with pytest.raises(UnreachableError):
            await backend.probe()


async def test_closing_ends_a_warm_up_under_way() -> None:
    let_go = threading.Event()
    async with worker(ScriptedTranscriber(loading=[let_go])) as port:
        async with whisper(port) as (backend, _):
            backend.warm()
            await asyncio.sleep(0)
        let_go.set()


async def test_a_probe_of_the_worker_asks_how_it_is() -> None:
    async with worker(ScriptedTranscriber()) as port, whisper(port) as (backend, _):
        await backend.probe()
    transcriber = ScriptedTranscriber(loading=[NO_MODEL])
    async with worker(transcriber) as port, whisper(port) as (backend, _):
        await transcriber.wait_loading()
        async with asyncio.timeout(PATIENCE):
            while True:  # until the failure to load is known
                try:
                    await backend.probe()
                except OverloadedError:
                    break


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("ws://worker:10301", "http://worker:10301/health"),
        ("https://worker.example", "https://worker.example/health"),
        ("wss://worker.example/a/ws/stt", "https://worker.example/a/health"),
    ],
)
def test_the_pages_of_the_worker_are_beside_its_socket(url: str, page: str) -> None:
    asked = WhisperOptions(
        url=url, api_key="", proxy_key="", proxy_secret="", model="", connect_timeout=1, timeout=1
    )
    assert str(asked.page_url("health")) == page


async def test_the_worker_costs_for_as_long_as_its_socket_is_open() -> None:
    async with worker(ScriptedTranscriber("Turn on.")) as port, whisper(port) as (backend, spent):
        await listen(backend, recording_of(UTTERANCE))
        assert len(spent) == 1
        assert 0 < spent[0] < PATIENCE


# The local model


async def test_a_probe_of_the_local_model_waits_for_it_and_warming_tries_again() -> None:
    transcriber = ScriptedTranscriber(loading=[NO_MODEL])
    async with leaving_nothing():
        backend = Local(ModelRunner(transcriber, retry_s=0.0))
        with pytest.raises(NotReadyError, match="no model here"):
            await backend.probe()
        backend.warm()
        await transcriber.wait_loading(2)
        await backend.probe()
        await backend.close()
