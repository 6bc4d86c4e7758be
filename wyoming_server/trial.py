"""Backends tried out, each alone, on a bundled recording."""

from __future__ import annotations

import asyncio
import logging
import wave
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from modal_whisper.samples import PASSWORD
from modal_whisper.speech import BYTES_PER_SECOND
from wyoming_server.backends.base import Hypothesis, Request
from wyoming_server.errors import BackendError, InternalError, NoWordsError, OverdueError
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wyoming_server.backends.base import Backend

_LOGGER = logging.getLogger(__name__)

MISSING: Final = "missing"
"""The code of a backend that lacks a setting."""
_MAX_SECONDS: Final = 60.0
_STEP_MS: Final = 50
_BYTES_PER_MS: Final = BYTES_PER_SECOND // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one backend."""

    backend: str
    ok: bool
    text: str | None = None
    """What it understood."""
    ms: float | None = None
    """From the last sample to the words."""
    code: str | None = None
    message: str | None = None
    """Why not, in one line."""


async def try_out(backends: Sequence[Backend], within: float) -> list[Verdict]:
    """Let each of them hear the recording, all at once; who takes longer than `within` s has failed.

    It is spoken at the speed of speech: what comes faster, AssemblyAI takes longer to answer.
    """
    recording = Recording(max_seconds=_MAX_SECONDS, clock=asyncio.get_running_loop().time)
    speaking = asyncio.create_task(_speak(recording))
    tasks = [asyncio.create_task(_try(backend, recording)) for backend in backends]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=within)
    finally:
        for task in (speaking, *tasks):
            task.cancel()
        await asyncio.gather(speaking, *tasks, return_exceptions=True)
    overdue = OverdueError(f"no words within {within:g} s")
    return [
        failure(backend.name, overdue) if task.cancelled() else task.result()
        for backend, task in zip(backends, tasks, strict=True)
    ]


def failure(backend: str, error: BackendError) -> Verdict:
    """The verdict that an error comes to."""
    return Verdict(backend=backend, ok=False, code=error.code, message=str(error))


async def _try(backend: Backend, recording: Recording) -> Verdict:
    try:
        async with aclosing(backend.transcribe(recording, Request(language=PASSWORD.language))) as progress:
            async for item in progress:
                if isinstance(item, Hypothesis) and item.is_final:
                    ended_at = recording.ended_at
                    if ended_at is None:
                        return failure(backend.name, InternalError("a final before the end of the recording"))
                    ms = (asyncio.get_running_loop().time() - ended_at) * 1000
                    return _judge(item, backend.name, ms)
        error: BackendError = InternalError("ended without a final")
    except BackendError as known:
        error = known
    except Exception as defect:  # the others are still to be tried
        _LOGGER.exception("%s has a defect", backend.name)
        error = InternalError(f"unexpected {type(defect).__name__}")
    return failure(backend.name, error)


def _judge(final: Hypothesis, backend: str, ms: float) -> Verdict:
    if not final.text:
        return failure(backend, NoWordsError("no words, though somebody spoke"))
    return Verdict(backend=backend, ok=True, text=final.text, ms=ms)


async def _speak(recording: Recording) -> None:
    with wave.open(str(PASSWORD.path), "rb") as file:
        pcm = file.readframes(file.getnframes())
    loop = asyncio.get_running_loop()
    due = loop.time()
    for at in range(0, len(pcm), _STEP_MS * _BYTES_PER_MS):
        recording.write(pcm[at : at + _STEP_MS * _BYTES_PER_MS])
        due += _STEP_MS / 1000
        await asyncio.sleep(due - loop.time())
    recording.end()
