"""Small stand-ins that more than one folder of tests needs."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modal_whisper.errors import OverloadedError, TranscriptionError
from modal_whisper.model import Priority, Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from modal_whisper.errors import ModelUnavailableError
    from modal_whisper.model import Passage

PATIENCE = 20.0
"""Seconds after which what a test waits for has failed; ends a thread that nobody lets go on, too."""

Step = str | Exception | threading.Event
"""Words that the model finds, an error it fails with, or an event it waits for, deaf to all else."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of ScriptedTranscriber.transcribe."""

    passage: Passage = field(repr=False)
    cancelled: threading.Event

    @property
    def pcm(self) -> bytes:
        return self.passage.pcm


class ScriptedTranscriber:
    """A Transcriber without a model: does the same for every utterance, and remembers what it was given.

    Args:
        script: what transcribe() does, one step after another; its words are joined.
        loading: what the first, second... load() does: waits, fails, or works (None, and past the last).
        language: what it detects where it is given none.
    """

    def __init__(
        self,
        *script: Step,
        loading: Sequence[Exception | threading.Event | None] = (),
        model: str = "scripted",
        language: str = "en",
    ) -> None:
        self.model = model
        self.script = script
        self.loads = 0
        """How often load() was called."""
        self.asked: list[Asked] = []
        self._loading = list(loading)
        self._language = language
        self._begun = threading.Condition()

    def fetch(self) -> None:
        """Its words are here already."""

    def load(self) -> None:
        with self._begun:
            self.loads += 1
            step = self._loading.pop(0) if self._loading else None
            self._begun.notify_all()
        _take(step)

    def transcribe(self, passage: Passage, cancelled: threading.Event) -> Transcript:
        with self._begun:
            self.asked.append(Asked(passage, cancelled))
            self._begun.notify_all()
        words = []
        for step in self.script:
            if cancelled.is_set():
                break
            if isinstance(step, str):
                words.append(step)
            else:
                _take(step)
        return Transcript("".join(words), passage.language or self._language, self.model)

    async def wait_loading(self, times: int = 1) -> None:
        """Return once load() has been called so often."""
        await self._wait(lambda: self.loads >= times)

    async def wait_asked(self, times: int = 1) -> Asked:
        """Return once transcribe() has been called so often, with what it was given then."""
        await self._wait(lambda: len(self.asked) >= times)
        return self.asked[times - 1]

    async def _wait(self, is_true: Callable[[], bool]) -> None:
        def wait() -> bool:
            with self._begun:
                return self._begun.wait_for(is_true, PATIENCE)

        assert await asyncio.to_thread(wait), "the transcriber was not called"


async def happened(event: threading.Event) -> None:
    """Return once another thread has set the event."""
    assert await asyncio.to_thread(event.wait, PATIENCE)


def _take(step: Exception | threading.Event | None) -> None:
    if isinstance(step, Exception):
        raise step
    if step is not None:
        step.wait(PATIENCE)


Answer = str | Transcript | TranscriptionError | None
"""Words that the model finds, a whole transcript, or an error it fails with; None: it never answers."""


@dataclass(eq=False)
class ScriptedJob:
    """A Job of ScriptedModel, and what became of it."""

    passage: Passage = field(repr=False)
    priority: Priority
    asked_at: float
    """By the clock of the event loop."""
    outcome: asyncio.Future[Transcript]
    hurried: list[Priority] = field(default_factory=list)
    """The priorities that it was raised to."""
    is_cancelled: bool = False
    """Before it had an answer."""

    @property
    def is_done(self) -> bool:
        return self.outcome.done()

    async def result(self) -> Transcript:
        await asyncio.wait([self.outcome])  # which, unlike to await it, does not cancel it
        return self.outcome.result()

    def hurry(self, priority: Priority) -> None:
        self.hurried.append(priority)

    def cancel(self) -> None:
        self.is_cancelled = self.is_cancelled or not self.is_done
        self.answer(TranscriptionError("the transcription was stopped"))

    def answer(self, answer: Transcript | TranscriptionError) -> None:
        if self.outcome.done():
            return
        if isinstance(answer, Transcript):
            self.outcome.set_result(answer)
        else:
            self.outcome.set_exception(answer)
            self.outcome.exception()  # nobody need ask for it


class ScriptedModel:
    """A Model without threads, for a virtual clock: works on all passages at once, each for so long.

    Args:
        answers: what becomes of the first, second... passage; past the last, and where there are none, a
            passage becomes its number.
        seconds: how long that takes.
        refused: the priorities for which there is no room.
        unavailable: why it cannot be loaded; every passage fails with it.
    """

    def __init__(
        self,
        *answers: Answer,
        seconds: float = 0.2,
        refused: Collection[Priority] = (),
        unavailable: ModelUnavailableError | None = None,
        name: str = "scripted",
    ) -> None:
        self.name = name
        self.error = unavailable
        self.jobs: list[ScriptedJob] = []
        self.loads = 0
        """How often start_loading() was called."""
        self._answers = answers
        self._seconds = seconds
        self._refused = refused

    @property
    def ready(self) -> bool:
        return self.error is None

    def start_loading(self) -> None:
        self.loads += 1

    async def wait_ready(self) -> None:
        if self.error:
            raise self.error

    def submit(self, passage: Passage, priority: Priority) -> ScriptedJob:
        if priority in self._refused:
            raise OverloadedError("the scripted model is busy")
        loop = asyncio.get_running_loop()
        number = len(self.jobs)
        job = ScriptedJob(passage, priority, loop.time(), loop.create_future())
        self.jobs.append(job)
        answer = self._answers[number] if number < len(self._answers) else str(number)
        if isinstance(answer, str):
            answer = Transcript(answer, passage.language or "en", self.name, round(self._seconds * 1000))
        outcome = self.error or answer
        if outcome is not None:
            loop.call_later(self._seconds, job.answer, outcome)
        return job

    async def close(self) -> None:
        for job in self.jobs:
            job.cancel()
