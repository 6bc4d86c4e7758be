from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modal_whisper.transcriber import WhisperTranscriber
from tests.processes import MODEL_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def whisper() -> WhisperTranscriber:
    """The real model, loaded once."""
    transcriber = WhisperTranscriber(directory=Path(MODEL_DIR))
    transcriber.load()
    return transcriber


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of 127.0.0.1 that nobody listens on, and that nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
