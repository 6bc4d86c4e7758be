"""One utterance through a whole server whose primary, and perhaps whose worker, has a fault."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import aiohttp
from aiohttp import web

from modal_whisper.errors import ModelUnavailableError
from modal_whisper.model import Transcript
from modal_whisper.runner import ModelRunner
from modal_whisper.service import create_app
from tests.end_to_end.clips import MUTED, words
from tests.end_to_end.speaker import Speaker
from wyoming_server.build import build_engine, build_server
from wyoming_server.settings import validate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.fault_kinds import Cell, WorkerFault
    from modal_whisper.model import Passage
    from tests.emulators.assemblyai import AssemblyAIEmulator
    from tests.end_to_end.clips import Clip
    from tests.end_to_end.speaker import Answer

KEY: Final = "any-key"
WORKER_SECONDS: Final = 0.25
LOCAL_SECONDS: Final = 0.7
_FOR_EVER: Final = 60.0


class TimedTranscriber:
    """A Transcriber that finds the same words after a fixed time, and remembers the audio.

    Args:
        text: the words; empty for a model that hears nothing.
        seconds: how long it works, deaf to nothing but its cancellation.
        load_seconds: how long it loads, unless `let_go` is called.
        load_error: why it cannot be loaded.
        error: what it fails with instead of finding words.
    """

    model = "timed"

    def __init__(
        self,
        text: str,
        seconds: float,
        *,
        load_seconds: float = 0.0,
        load_error: Exception | None = None,
        error: Exception | None = None,
    ) -> None:
        self.heard: list[bytes] = []
        self._text = text
        self._seconds = seconds
        self._load_seconds = load_seconds
        self._load_error = load_error
        self._error = error
        self._is_over = threading.Event()

    def fetch(self) -> None:
        """See WhisperTranscriber."""

    def load(self) -> None:
        """See Transcriber."""
        self._is_over.wait(self._load_seconds)
        if self._load_error:
            raise self._load_error

    def transcribe(self, passage: Passage, cancelled: threading.Event) -> Transcript:
        """See Transcriber."""
        self.heard.append(passage.pcm)
        if self._error:
            raise self._error
        cancelled.wait(self._seconds)
        return Transcript(self._text, passage.language or "en", self.model)

    def let_go(self) -> None:
        """Load no longer."""
        self._is_over.set()


@dataclass(frozen=True, slots=True)
class Result:
    """What one utterance came to."""

    answer: Answer
    are_words_right: bool
    is_complete: bool
    """Whether whoever answered was given every byte once."""


async def play(cell: Cell, gate: asyncio.Semaphore | None = None) -> Result:
    """Say the cell's clip to a server of its own; `gate` bounds how many speak at once."""
    async with AsyncExitStack() as stack:
        resolver = cell.primary.resolver() if cell.primary else None
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver))
        )
        settings: dict[str, Any] = {
            "URI": "tcp://127.0.0.1:0",
            "BACKENDS": cell.backends,
            "ASSEMBLYAI_API_KEY": KEY,
        }
        emulator: AssemblyAIEmulator | None = None
        if cell.primary:
            settings["ASSEMBLYAI_STREAMING_URL"], emulator = await stack.enter_async_context(
                cell.primary.running(cell.clip)
            )
        worker = _worker_model(cell.worker)
        settings["WHISPER_SERVICE_URL"] = await stack.enter_async_context(running_worker(worker, cell.worker))
        settings["WHISPER_API_KEY"] = "wrong" if cell.worker == "wrong key" else KEY
        local = TimedTranscriber(MUTED.text, LOCAL_SECONDS)
        with patch("wyoming_server.build.WhisperTranscriber", lambda *_, **__: local):
            checked = validate(settings)
            engine = build_engine(checked, session, lambda _: None)
        server = build_server(checked, engine)
        await server.start()
        engine.start()
        stack.push_async_callback(engine.close)
        stack.push_async_callback(server.stop)
        async with gate or asyncio.Semaphore(), Speaker(server.uri) as speaker:
            await speaker.say(cell.clip)
            await server.stop()
            answer = await speaker.only_answer()
        return _result(cell.clip, answer, {"whisper": worker.heard, "local": local.heard}, emulator)


def _result(
    clip: Clip, answer: Answer, heard: dict[str, list[bytes]], emulator: AssemblyAIEmulator | None
) -> Result:
    if answer.backend == "assemblyai" and emulator:
        is_complete = bytes(emulator.sessions[0].audio).rstrip(b"\0") == clip.pcm.rstrip(b"\0")
    else:
        passages = heard.get(answer.backend or "", [])
        is_complete = bool(passages) and clip.is_all_in(passages[-1])
    are_right = answer.error is None and words(answer.text) == words(MUTED.text)
    return Result(answer, are_right, is_complete)


def _worker_model(fault: WorkerFault) -> TimedTranscriber:
    match fault:
        case "cold for 20 s":
            return TimedTranscriber(MUTED.text, WORKER_SECONDS, load_seconds=20.0)
        case "model unavailable":
            error = ModelUnavailableError("the model does not fit")
            return TimedTranscriber("", 0.0, load_error=error)
        case "out of memory":
            return TimedTranscriber("", 0.1, error=MemoryError("out of memory"))
        case "stalls":
            return TimedTranscriber(MUTED.text, _FOR_EVER)
        case "answers empty":
            return TimedTranscriber("", WORKER_SECONDS)
        case _:
            return TimedTranscriber(MUTED.text, WORKER_SECONDS)


@asynccontextmanager
async def running_worker(model: TimedTranscriber, fault: WorkerFault) -> AsyncIterator[str]:
    """The worker's own service, with its fault; yields its address."""
    if fault == "black hole":
        async with silent_port() as port:
            yield f"ws://127.0.0.1:{port}"
        return
    runner = ModelRunner(model, max_waiting=-1 if fault == "overloaded" else 16)
    service = web.AppRunner(create_app(runner, api_key=KEY), shutdown_timeout=0.2, access_log=None)
    await service.setup()
    try:
        await web.TCPSite(service, "127.0.0.1", 0).start()
        port = service.addresses[0][1]
        if fault == "refused":
            await service.cleanup()
        yield f"ws://127.0.0.1:{port}"
    finally:
        model.let_go()
        await service.cleanup()


@asynccontextmanager
async def silent_port() -> AsyncIterator[int]:
    """A port where every connection is accepted, and nothing is ever said."""
    async with AsyncExitStack() as stack:

        def swallow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stack.callback(writer.close)

        listener = await asyncio.start_server(swallow, "127.0.0.1", 0)
        stack.callback(listener.close)
        yield listener.sockets[0].getsockname()[1]
