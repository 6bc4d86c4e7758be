"""Both ends of the calls between the front and the machine with the GPU."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from modal_whisper.errors import TranscriptionError
from modal_whisper.model import Passage, Priority
from modal_whisper.speech import BYTES_PER_SECOND

if TYPE_CHECKING:
    from modal_whisper.model import Job, Model, Transcript

_REMEMBERED: Final = 64
_DROP_SECONDS: Final = 10.0
_log = logging.getLogger(__name__)


class Station:
    """The end beside the GPU: a model that others call.

    A passage comes with a ticket by which it can be dropped: of a call that is merely cancelled, Modal tells
    this end nothing.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._jobs: dict[str, Job] = {}
        self._dropped: deque[str] = deque(maxlen=_REMEMBERED)

    async def start(self) -> None:
        """Load the model and let it hear one second of silence: some libraries load at the first use only.

        Raises TranscriptionError.
        """
        silence = Passage(pcm=bytes(BYTES_PER_SECOND), language="en")
        await self._model.submit(silence, Priority.FINAL).result()

    async def transcribe(self, ticket: str, passage: Passage, priority: Priority) -> Transcript:
        """The words of a passage; raises TranscriptionError, also where it was dropped."""
        if ticket in self._dropped:
            raise TranscriptionError("the transcription was stopped")
        job = self._jobs[ticket] = self._model.submit(passage, priority)
        try:
            return await job.result()
        finally:
            del self._jobs[ticket]
            job.cancel()

    async def drop(self, ticket: str) -> None:
        """Nobody waits for this one any more, whether it has arrived yet or not."""
        if ticket in self._jobs:
            self._jobs[ticket].cancel()
        else:
            self._dropped.append(ticket)

    async def close(self) -> None:
        """Stop all work."""
        await self._model.close()


class Calls:
    """The end at the front: a Remote that calls a Station on Modal.

    Args:
        station: has `warm`, `transcribe` and `drop` as methods of Modal, to be called with `.remote.aio`.
    """

    def __init__(self, station: Any) -> None:
        self._station = station
        self._dropping: set[asyncio.Task[None]] = set()

    async def warm(self) -> None:
        """See Remote."""
        await self._station.warm.remote.aio()

    async def transcribe(self, passage: Passage, priority: Priority) -> Transcript:
        """See Remote."""
        ticket = uuid.uuid4().hex
        try:
            transcript: Transcript = await self._station.transcribe.remote.aio(ticket, passage, priority)
        except asyncio.CancelledError:
            task = asyncio.create_task(self._drop(ticket))
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)
            raise
        return transcript

    async def _drop(self, ticket: str) -> None:
        try:
            async with asyncio.timeout(_DROP_SECONDS):
                await self._station.drop.remote.aio(ticket)
        except Exception as error:  # noqa: BLE001 - then it is worked on for nobody
            _log.debug("a call could not be dropped: %s", error)
