"""The worker's own service on a real socket, which remembers the audio that its model was given."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from modal_whisper.runner import ModelRunner
from modal_whisper.service import create_app

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncIterator

    from modal_whisper.model import Passage, Transcript
    from modal_whisper.transcriber import Transcriber

WORKER_KEY = "key-of-the-worker"


class Witness:
    """A Transcriber that another one works for; it remembers every utterance."""

    def __init__(self, transcriber: Transcriber, *, is_loaded: bool = False) -> None:
        self._transcriber = transcriber
        self._is_loaded = is_loaded
        self.heard: list[bytes] = []

    @property
    def model(self) -> str:
        return self._transcriber.model

    def fetch(self) -> None:
        pass  # load does it

    def load(self) -> None:
        if not self._is_loaded:
            self._transcriber.load()

    def transcribe(self, passage: Passage, cancelled: threading.Event) -> Transcript:
        self.heard.append(passage.pcm)
        return self._transcriber.transcribe(passage, cancelled)


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker."""

    url: str
    heard: list[bytes] = field(repr=False)
    """The audio of every utterance that its model was asked for."""


@asynccontextmanager
async def running_worker(witness: Witness) -> AsyncIterator[Worker]:
    """The worker behind WORKER_KEY, on any free port of this machine."""
    app = create_app(ModelRunner(witness), api_key=WORKER_KEY)
    runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Worker(f"ws://127.0.0.1:{runner.addresses[0][1]}", witness.heard)
    finally:
        await runner.cleanup()
