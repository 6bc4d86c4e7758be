"""One model for many utterances: loaded in the background, asked for one after another on one thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from modal_whisper.errors import ModelUnavailableError, OverloadedError, TranscriptionError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from concurrent.futures import Future

    from modal_whisper.transcriber import Segment, Transcriber

_log = logging.getLogger(__name__)


class Job:
    """One transcription that the model has been asked for; made by ModelRunner.submit."""

    def __init__(
        self, pcm: bytes, *, language: str | None, names: Sequence[str], terms: Sequence[str]
    ) -> None:
        self._pcm = pcm
        self._language = language
        self._names = names
        self._terms = terms
        self.work_ms = 0
        """How long the model has computed for it."""
        self._cancelled = threading.Event()
        self._results: asyncio.Queue[Segment | TranscriptionError | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def cancel(self) -> None:
        """Nobody waits for it any more: not begun if it was queued, else stopped after the next segment."""
        self._cancelled.set()

    async def segments(self) -> AsyncGenerator[Segment, None]:
        """The segments as they are finished; to be read once. Raises TranscriptionError."""
        while (result := await self._results.get()) is not None:
            if isinstance(result, TranscriptionError):
                raise result
            yield result

    def work(self, transcriber: Transcriber, clock: Callable[[], float]) -> None:
        """Run it, blocking; only the runner's thread calls this, once."""
        started = clock()
        if not self._cancelled.is_set():
            for segment in transcriber.segments(
                self._pcm,
                language=self._language,
                names=self._names,
                terms=self._terms,
                cancelled=self._cancelled,
            ):
                self._report(segment)
                if self._cancelled.is_set():
                    break
        self.work_ms = round((clock() - started) * 1000)

    def finish(self, outcome: Future[None]) -> None:
        """Tell whoever waits that the work has ended, in whatever way."""
        error = outcome.exception()
        if error is None and self._cancelled.is_set():
            self._report(TranscriptionError("the transcription was stopped"))
        elif error is None or isinstance(error, TranscriptionError):
            self._report(error)
        else:
            _log.error("the Whisper model failed", exc_info=error)
            self._report(TranscriptionError(f"the Whisper model failed: {error}"))

    def _report(self, result: Segment | TranscriptionError | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed, and with it whoever waited
            self._loop.call_soon_threadsafe(self._results.put_nowait, result)


class ModelRunner:
    """Owns a Transcriber and the one thread that it runs on; belongs to one event loop.

    Args:
        transcriber: not yet loaded.
        retry_s: how long a failure to load is believed before loading is tried again.
        max_waiting: jobs that may wait for the model; those past it would be answered too late for anybody.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        *,
        retry_s: float = 60.0,
        max_waiting: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transcriber = transcriber
        self._retry_s = retry_s
        self._max_waiting = max_waiting
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="whisper")
        self._jobs: set[Job] = set()
        self._loading: asyncio.Task[None] | None = None
        self._loaded: Future[Exception | None] | None = None
        self._closed = False
        self._ready = False
        self._error: ModelUnavailableError | None = None
        self._failed_at = 0.0

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._transcriber.model

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._ready

    @property
    def error(self) -> ModelUnavailableError | None:
        """Why the latest try to load the model failed; None where none has, and once it is loaded."""
        return self._error

    @property
    def busy(self) -> bool:
        """Whether the thread is at work. A process cannot end as usual before it has finished."""
        return bool(self._jobs) or (self._loaded is not None and not self._loaded.done())

    def start_loading(self) -> None:
        """Load the model in the background, unless it is loaded, loading, or has failed just now."""
        if self._ready or self._closed or (self._loading is not None and not self._loading.done()):
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
            # A new one: an error that is raised again keeps the frames, and the audio, of each time.
            raise ModelUnavailableError(str(self._error or "the Whisper model is being shut down"))

    async def _load(self) -> None:
        self._loaded = self._thread.submit(self._try_to_load)
        error = await asyncio.wrap_future(self._loaded)
        if error is None:
            self._error = None
            self._ready = True
            return
        expected = isinstance(error, ModelUnavailableError)
        _log.error("%s", error, exc_info=None if expected else error)
        self._error = (
            error
            if isinstance(error, ModelUnavailableError)
            else ModelUnavailableError(f"the Whisper model {self.model} could not be loaded: {error}")
        )
        self._failed_at = self._clock()

    def _try_to_load(self) -> Exception | None:
        try:
            self._transcriber.load()
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no model
            return error
        return None

    async def submit(
        self,
        pcm: bytes,
        *,
        language: str | None = None,
        names: Sequence[str] = (),
        terms: Sequence[str] = (),
    ) -> Job:
        """Ask for the transcript of 16 kHz mono s16le audio; waits for the model if it is still loading.

        The arguments are those of Transcriber.segments. Whoever asks must cancel the job in the end. Raises
        ModelUnavailableError and OverloadedError.
        """
        if len(self._jobs) > self._max_waiting:
            raise OverloadedError(f"the worker is busy: {len(self._jobs)} utterances wait for the model")
        job = Job(pcm, language=language, names=names, terms=terms)

        self._jobs.add(job)
        try:
            await self.wait_ready()
            work = self._thread.submit(job.work, self._transcriber, self._clock)
        except BaseException:
            self._jobs.discard(job)
            raise
        work.add_done_callback(job.finish)
        work.add_done_callback(lambda _: self._jobs.discard(job))
        return job

    async def close(self) -> None:
        """Stop all work; what waits for it fails. A model call that is running ends by itself, see `busy`."""
        self._closed = True
        self._ready = False
        for job in list(self._jobs):
            job.cancel()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        self._thread.shutdown(wait=False)
