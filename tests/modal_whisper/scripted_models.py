"""A GPU and a spare model that need as long as a test says; no threads, so a virtual clock drives them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modal_whisper.errors import TranscriptionError
from modal_whisper.model import Passage, Transcript

if TYPE_CHECKING:
    from modal_whisper.errors import ModelUnavailableError
    from modal_whisper.model import Priority

PASSAGE = Passage(pcm=bytes(32_000), language="en", names=("Anna",))
GPU, SPARE = "medium", "base"


class ScriptedRemote:
    """A Remote that boots for so long, once, and then works for so long on each passage.

    `errors` are what the first, second... call of either kind fails with, after the boot; None is none.
    """

    def __init__(
        self,
        *,
        boot: float = 0.0,
        work: float = 0.2,
        errors: tuple[Exception | None, ...] = (),
        text: str = "words of the GPU",
    ) -> None:
        self.boot = boot
        self.work = work
        self.text = text
        self.warmed = 0
        """How often warm() was called."""
        self.asked: list[tuple[Passage, Priority]] = []
        self.cancelled = 0
        """How many calls were."""
        self._errors = list(errors)
        self._booting: asyncio.Task[None] | None = None

    def sleep(self, boot: float) -> None:
        """From now on the next call needs a boot."""
        self.boot, self._booting = boot, None

    async def warm(self) -> None:
        self.warmed += 1
        await self._answer(0.0)

    async def transcribe(self, passage: Passage, priority: Priority) -> Transcript:
        self.asked.append((passage, priority))
        await self._answer(self.work)
        return Transcript(self.text, "en", GPU)

    async def _answer(self, seconds: float) -> None:
        error = self._errors.pop(0) if self._errors else None
        try:
            if self._booting is None:
                self._booting = asyncio.create_task(asyncio.sleep(self.boot))
            await asyncio.shield(self._booting)
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if error:
            raise error

    async def wait_booted(self) -> None:
        """So that no boot is left when the test ends."""
        if self._booting:
            await self._booting


@dataclass(eq=False)
class ScriptedJob:
    passage: Passage
    priority: Priority
    work: asyncio.Task[Transcript]
    is_cancelled: bool = False

    @property
    def is_done(self) -> bool:
        return self.work.done()

    async def result(self) -> Transcript:
        await asyncio.wait([self.work])
        if self.work.cancelled():
            raise TranscriptionError("the transcription was stopped")
        return self.work.result()

    def hurry(self, priority: Priority) -> None:
        self.priority = type(self.priority)(0)

    def cancel(self) -> None:
        self.is_cancelled = True
        self.work.cancel()


class ScriptedModel:
    """A Model that works for so long on each passage, or fails with an error then.

    `refusal` is what submit() raises; `unavailable` is why it cannot be loaded.
    """

    def __init__(
        self,
        *,
        work: float = 0.5,
        text: str = "words of the spare",
        error: TranscriptionError | None = None,
        refusal: TranscriptionError | None = None,
        unavailable: ModelUnavailableError | None = None,
    ) -> None:
        self.name = SPARE
        self.jobs: list[ScriptedJob] = []
        self.loads = 0
        self.is_closed = False
        self.ready = False
        self.error = unavailable
        self._work = work
        self._text = text
        self._error = error or unavailable
        self._refusal = refusal

    def start_loading(self) -> None:
        self.loads += 1
        self.ready = self.error is None

    async def wait_ready(self) -> None:
        if self.error:
            raise self.error

    def submit(self, passage: Passage, priority: Priority) -> ScriptedJob:
        if self._refusal:
            raise self._refusal
        job = ScriptedJob(passage, priority, asyncio.create_task(self._answer()))
        self.jobs.append(job)
        return job

    async def close(self) -> None:
        self.is_closed = True

    async def _answer(self) -> Transcript:
        await asyncio.sleep(self._work)
        if self._error:
            raise self._error
        return Transcript(self._text, "en", SPARE)
