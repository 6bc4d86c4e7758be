"""One model for many sessions, loaded in the background: one passage after another on one thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from modal_whisper.errors import ModelUnavailableError, OverloadedError, TranscriptionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from modal_whisper.model import Passage, Priority, Transcript
    from modal_whisper.transcriber import Transcriber

_log = logging.getLogger(__name__)

_CALL_SECONDS: Final = 60.0
"""No passage takes a model so long, unless its machine stands still."""


class _Job:
    """See Job; its order among others is by `rank`, the least first."""

    def __init__(self, passage: Passage, priority: Priority, number: int) -> None:
        self.passage = passage
        self.priority = priority
        self.cancelled = threading.Event()
        self._number = number
        self._outcome: asyncio.Future[Transcript] = asyncio.get_running_loop().create_future()
        self._outcome.add_done_callback(lambda outcome: outcome.exception())  # nobody need ask for it

    @property
    def rank(self) -> tuple[int, int]:
        return self.priority, self._number

    @property
    def is_done(self) -> bool:
        return self._outcome.done()

    async def result(self) -> Transcript:
        await asyncio.wait([self._outcome])  # which, unlike to await it, does not cancel it
        return self._outcome.result()

    def hurry(self, priority: Priority) -> None:
        self.priority = min(self.priority, priority)

    def cancel(self) -> None:
        self.cancelled.set()
        self.fail(TranscriptionError("the transcription was stopped"))

    def succeed(self, transcript: Transcript) -> None:
        if not self.is_done:
            self._outcome.set_result(transcript)

    def fail(self, error: TranscriptionError) -> None:
        if not self.is_done:
            self._outcome.set_exception(error)


class ModelRunner:
    """A Model that owns a Transcriber and the one thread that it runs on.

    Args:
        transcriber: not yet loaded.
        retry_s: how long a failure to load is believed before loading is tried again.
        max_waiting: passages that may wait behind another one; those past it would be answered too late.
        clock: seconds that never go backwards.
        fetch: what can be done before loading without much memory, however long it takes.
        turn: held while the model is loaded, for those whose models must not be loaded at once; a runner that
            was closed before its turn came loads nothing.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        *,
        retry_s: float = 60.0,
        max_waiting: int = 16,
        clock: Callable[[], float] = time.monotonic,
        fetch: Callable[[], None] | None = None,
        turn: threading.Lock | None = None,
    ) -> None:
        self._transcriber: Transcriber | None = transcriber
        self._fetch = fetch
        self._turn = turn or threading.Lock()
        self._name = transcriber.model
        self._retry_s = retry_s
        self._max_waiting = max_waiting
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="whisper")
        self._waiting: list[_Job] = []
        self._number = 0
        self._current: _Job | None = None
        self._working: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._closed = False
        self._ready = False
        self._is_stuck = False
        self._error: ModelUnavailableError | None = None
        self._failed_at = 0.0

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._name

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._ready

    @property
    def error(self) -> ModelUnavailableError | None:
        """Why the model could not be loaded, or does not answer; None where it is well."""
        return self._error

    def start_loading(self) -> None:
        """Load the model in the background, unless it is loaded, loading, or has failed just now."""
        if self._ready or self._closed or self._is_stuck:
            return
        if self._loading is not None and not self._loading.done():
            return
        if self._error is not None and self._clock() - self._failed_at < self._retry_s:
            return
        self._loading = asyncio.create_task(self._load(), name="load the Whisper model")

    async def wait_ready(self) -> None:
        """Return once the model is loaded; raises ModelUnavailableError if it cannot be."""
        self.start_loading()
        if self._loading is not None and not self._loading.done():
            await asyncio.wait([self._loading])
        if not self._ready:
            raise self._unavailable()

    def _unavailable(self) -> ModelUnavailableError:
        # A new one: an error that is raised again keeps the frames, and the audio, of each time.
        return ModelUnavailableError(str(self._error or "the Whisper model is being shut down"))

    async def _load(self) -> None:
        error = await asyncio.wrap_future(self._thread.submit(self._try_to_load))
        if error is None:
            self._error = None
            self._ready = True
            return
        expected = isinstance(error, ModelUnavailableError)
        _log.error("%s", error, exc_info=None if expected else error)
        self._error = (
            error
            if isinstance(error, ModelUnavailableError)
            else ModelUnavailableError(f"the Whisper model {self.name} could not be loaded: {error}")
        )
        self._failed_at = self._clock()

    def _try_to_load(self) -> Exception | None:
        try:
            if fetch := self._fetch:
                fetch()
            with self._turn:
                transcriber = self._transcriber
                if transcriber is None:
                    return self._unavailable()
                transcriber.load()
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no model
            return error
        return None

    def submit(self, passage: Passage, priority: Priority) -> _Job:
        """See Model.submit. Where there is no room, the last one who is less urgent gives way."""
        self._waiting = self._open_jobs
        asked = len(self._waiting) + (self._current is not None)
        if asked > self._max_waiting:
            last = max(self._waiting, key=lambda job: job.rank, default=None)
            busy = OverloadedError(f"the worker is busy: {asked} passages wait for the model")
            if last is None or last.priority <= priority:
                raise busy
            last.fail(busy)
        self._number += 1
        job = _Job(passage, priority, self._number)
        if self._is_stuck:
            job.fail(self._unavailable())
            return job
        self._waiting.append(job)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name="ask the Whisper model")
        return job

    @property
    def _open_jobs(self) -> list[_Job]:
        return [job for job in self._waiting if not job.is_done]

    async def _work(self) -> None:
        while self._open_jobs:
            try:
                await self.wait_ready()
            except ModelUnavailableError as error:
                for job in self._waiting:
                    job.fail(ModelUnavailableError(str(error)))
                continue
            # Only now: while it loaded, somebody more urgent may have come, and others may have left.
            if self._open_jobs:
                self._current = min(self._open_jobs, key=lambda job: job.rank)
                self._waiting.remove(self._current)
                await self._transcribe(self._current)
                self._current = None
        self._waiting.clear()

    async def _transcribe(self, job: _Job) -> None:
        if self._transcriber is None:
            job.fail(self._unavailable())
            return
        started = self._clock()
        call: Future[Transcript] = self._thread.submit(
            self._transcriber.transcribe, job.passage, job.cancelled
        )
        answer = asyncio.wrap_future(call)
        answer.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # nobody may be left to ask
        done, _ = await asyncio.wait([answer], timeout=_CALL_SECONDS)
        if not done:
            await self._outlast(answer)
            return
        error = answer.exception()
        if error is None:
            work_ms = round((self._clock() - started) * 1000)
            job.succeed(replace(answer.result(), work_ms=work_ms))
        elif isinstance(error, TranscriptionError):
            job.fail(error)
        else:
            _log.error("the Whisper model failed", exc_info=error)
            job.fail(TranscriptionError(f"the Whisper model failed: {error}"))

    async def _outlast(self, answer: asyncio.Future[Transcript]) -> None:
        """Nobody gets an answer while the model stands still, and everybody is told."""
        self._ready = False
        self._is_stuck = True
        self._error = ModelUnavailableError(f"the Whisper model has not answered for {_CALL_SECONDS:g} s")
        _log.error("%s", self._error)
        self._fail_all(self._unavailable())
        await asyncio.wait([answer])
        self._is_stuck = False
        self._error = None
        self._ready = not self._closed

    def _fail_all(self, error: TranscriptionError) -> None:
        for job in [*self._waiting, *([self._current] if self._current else [])]:
            job.cancelled.set()
            job.fail(error)
        self._waiting.clear()

    async def close(self) -> None:
        """Stop all work; what waits for it fails. A model call that is running ends by itself."""
        self._closed = True
        self._ready = False
        self._fail_all(TranscriptionError("the transcription was stopped"))
        tasks = [task for task in (self._loading, self._working) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._thread.shutdown(wait=False)
        self._transcriber = self._fetch = None  # whoever still knows the runner must not keep the model
