from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modal_whisper.model import Passage
from modal_whisper.transcriber import WhisperTranscriber
from tests.end_to_end.stage import Stage
from tests.end_to_end.worker import Witness, running_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.end_to_end.clips import Clip
    from tests.end_to_end.worker import Worker


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """Where the project's scripts keep the model; whoever runs pytest alone gets it there, too."""
    return Path(os.environ.get("MODEL_DIR") or Path(__file__).parents[2] / ".cache" / "models")


@pytest.fixture(scope="session")
def whisper(model_dir: Path) -> WhisperTranscriber:
    """The real model, loaded once."""
    transcriber = WhisperTranscriber(directory=model_dir)
    transcriber.load()
    return transcriber


@pytest.fixture(scope="session")
def directly(whisper: WhisperTranscriber) -> Callable[[Clip], str]:
    """What the model makes of a recording where nothing stands between them."""
    known: dict[Clip, str] = {}

    def ask(clip: Clip) -> str:
        if clip not in known:
            passage = Passage(pcm=clip.pcm, language=clip.language)
            known[clip] = whisper.transcribe(passage, threading.Event()).text
        return known[clip]

    return ask


@pytest.fixture
async def worker(whisper: WhisperTranscriber) -> AsyncIterator[Worker]:
    async with running_worker(Witness(whisper, is_loaded=True)) as running:
        yield running


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
async def black_hole() -> AsyncIterator[int]:
    """A port where every connection is accepted, and nothing is ever said."""
    async with AsyncExitStack() as stack:

        def swallow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stack.callback(writer.close)

        listener = await asyncio.start_server(swallow, "127.0.0.1", 0)
        stack.callback(listener.close)
        yield listener.sockets[0].getsockname()[1]


@pytest.fixture
def soon_gives_up_on_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the seconds that a mute service has for agreeing to the end of a session."""
    monkeypatch.setattr("wyoming_server.backends.assemblyai._SESSION_END_TIMEOUT", 0.3)


@pytest.fixture
def stage(caplog: pytest.LogCaptureFixture, directly: Callable[[Clip], str]) -> Stage:
    """Plays one utterance to a whole server and looks at everything that must hold each time."""
    for name in ("stt_failover", "wyoming_server", "modal_whisper"):
        caplog.set_level(logging.INFO, logger=name)
    return Stage(caplog, directly)
