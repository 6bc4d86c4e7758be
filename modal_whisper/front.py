"""A model on a GPU far away, and a small one here that answers where the GPU does not in time."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from modal_whisper.errors import (
    ModelUnavailableError,
    OverloadedError,
    SttError,
    TranscriptionError,
    first_line,
)
from modal_whisper.model import Priority, Transcript

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from modal_whisper.model import Job, Model, Passage

_T = TypeVar("_T")
_NEVER: Final = float("-inf")
_log = logging.getLogger(__name__)


class Remote(Protocol):
    """A model that sleeps, and costs money while it is awake; whatever it raises counts as a failure.

    A call that is cancelled is one that nobody waits for any more.
    """

    async def transcribe(self, passage: Passage, priority: Priority) -> Transcript:
        """The words; wakes it up and waits for that."""

    async def warm(self) -> None:
        """Wake it up, and return once it is awake."""


class GpuFirst:
    """A Model made of two: the GPU is asked, and the spare too if the GPU fails or is late.

    The first answer wins, and says whose it is.

    Args:
        remote: the model on the GPU.
        spare: the model on this machine.
        name: what the model on the GPU is called.
        idle_s: how long the GPU stays awake after a call.
        patience_s: how long a passage waits for the GPU alone, however long it is: on a long one the GPU is
            the quicker of the two even with the spare beside it.
        limit_s: what neither a call nor a boot outlasts.
        retry_s: how long a failure of the GPU is believed before it is woken again.
        max_waiting: passages that may be worked on at once.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        remote: Remote,
        spare: Model,
        *,
        name: str,
        idle_s: float,
        patience_s: float = 1.0,
        limit_s: float = 120.0,
        retry_s: float = 10.0,
        max_waiting: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._gpu = _Gpu(remote, idle_s=idle_s, limit_s=limit_s, retry_s=retry_s, clock=clock)
        self._spare = spare
        self._patience_s = patience_s
        self._max_waiting = max_waiting
        self._warming: asyncio.Task[None] | None = None
        self._jobs: set[_Hedge] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether one of the two would answer at once."""
        return self._gpu.is_awake or self._spare.ready

    @property
    def error(self) -> ModelUnavailableError | None:
        """Why neither of the two works; None while one of them may."""
        if self.ready or not self._gpu.failure or self._spare.error is None:
            return None
        return ModelUnavailableError(f"{self._gpu.failure}, and {self._spare.error}")

    @property
    def state(self) -> Mapping[str, str]:
        """`gpu` is cold, warming or ready, as far as this side knows; nothing is asked or woken."""
        return {"gpu": "ready" if self._gpu.is_awake else "warming" if self._is_warming else "cold"}

    def start_loading(self) -> None:
        """Load the spare and wake the GPU, each unless it is ready, on its way or has failed just now."""
        if self._closed:
            return
        self._spare.start_loading()
        if not (self._gpu.is_awake or self._gpu.has_just_failed or self._is_warming):
            self._warming = self._start(self._gpu.warm())

    async def wait_ready(self) -> None:
        """Return once the GPU is awake or, if it cannot be had, once the spare is ready."""
        self.start_loading()
        if self._warming is not None:
            await asyncio.wait([self._warming])
        if self._closed:
            raise ModelUnavailableError("the worker is being shut down")
        if not self._gpu.is_awake:
            try:
                await self._spare.wait_ready()
            except ModelUnavailableError as error:
                raise ModelUnavailableError(f"{self._gpu.failure}, and {error}") from None

    def submit(self, passage: Passage, priority: Priority) -> Job:
        """See Model."""
        if self._closed:
            raise ModelUnavailableError("the worker is being shut down")
        if len(self._jobs) >= self._max_waiting:
            last = max(self._jobs, key=lambda job: job.priority)
            if last.priority <= priority:
                raise OverloadedError(f"the worker is busy: it works on {len(self._jobs)} passages")
            last.cancel()  # whoever needs it all the same asks again
            self._jobs.discard(last)
        self.start_loading()
        job = _Hedge(passage, priority)
        self._jobs.add(job)
        job.task = self._start(self._race(job))
        job.task.add_done_callback(lambda _: self._jobs.discard(job))
        return job

    async def close(self) -> None:
        """See Model."""
        self._closed = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        await self._spare.close()

    @property
    def _is_warming(self) -> bool:
        return self._warming is not None and not self._warming.done()

    def _start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _race(self, job: _Hedge) -> Transcript | TranscriptionError:
        gpu = self._start(_outcome(self._gpu.transcribe(job.passage, job.priority)))
        asked = [gpu]
        try:
            await asyncio.wait(asked, timeout=self._patience_s)
            if gpu.done() and isinstance(gpu.result(), Transcript):
                return gpu.result()
            if not gpu.done():
                self._gpu.doubt()
                self.start_loading()  # so that the state becomes known even if the spare is quicker
            asked.append(self._start(_outcome(job.ask(self._spare))))
            while waiting := [task for task in asked if not task.done()]:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in asked:
                    if task.done() and isinstance(task.result(), Transcript):
                        return task.result()
            failure, error = (task.result() for task in asked)
            # The kind of the spare's error, because that is about this machine.
            return (type(error) if isinstance(error, SttError) else TranscriptionError)(
                f"{failure}, and {error}"
            )
        finally:
            for task in asked:
                task.cancel()


class _Hedge:
    """A Job whose work is done by whichever of two is first."""

    def __init__(self, passage: Passage, priority: Priority) -> None:
        self.passage = passage
        self.priority = priority
        self.task: asyncio.Task[Transcript | TranscriptionError]
        self._spare_job: Job | None = None

    @property
    def is_done(self) -> bool:
        return self.task.done()

    async def result(self) -> Transcript:
        await asyncio.wait([self.task])
        if self.task.cancelled():
            raise TranscriptionError("the transcription was stopped")
        outcome = self.task.result()
        if isinstance(outcome, TranscriptionError):
            # A new one: an error that is raised again keeps the frames, and the audio, of each time.
            raise type(outcome)(str(outcome))
        return outcome

    def hurry(self, priority: Priority) -> None:
        """See Job. On the GPU it changes nothing: a passage takes a fraction of a second there."""
        self.priority = min(self.priority, priority)
        if self._spare_job:
            self._spare_job.hurry(priority)

    def cancel(self) -> None:
        self.task.cancel()

    async def ask(self, spare: Model) -> Transcript:
        """The spare's answer; raises TranscriptionError."""
        job = self._spare_job = spare.submit(self.passage, self.priority)
        try:
            return await job.result()
        finally:
            job.cancel()


class _Gpu:
    """A Remote, and what is known of it."""

    def __init__(
        self,
        remote: Remote,
        *,
        idle_s: float,
        limit_s: float,
        retry_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._remote = remote
        self._idle_s = idle_s
        self._limit_s = limit_s
        self._retry_s = retry_s
        self._clock = clock
        self._awake_until = _NEVER
        self._retry_at = _NEVER
        self.failure = ""
        """Why the latest call failed; empty where it did not."""

    @property
    def is_awake(self) -> bool:
        return self._clock() < self._awake_until

    @property
    def has_just_failed(self) -> bool:
        return self._clock() < self._retry_at

    def doubt(self) -> None:
        """It may be asleep after all: it was let go early, or taken away."""
        self._awake_until = _NEVER

    async def warm(self) -> None:
        """Wake it; a failure is in `failure` then."""
        try:
            await self._call(self._remote.warm())
        except TranscriptionError as error:
            _log.warning("%s", error)

    async def transcribe(self, passage: Passage, priority: Priority) -> Transcript:
        """Its answer; raises TranscriptionError."""
        return await self._call(self._remote.transcribe(passage, priority))

    async def _call(self, call: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(self._limit_s) as limit:
                result = await _answered(call)
        except Exception as error:  # noqa: BLE001 - whatever it is, the spare must be asked
            if isinstance(error, SttError) and not isinstance(error, ModelUnavailableError):
                self._has_answered()  # with words of its own
                raise TranscriptionError(f"the GPU failed ({error})") from None
            reason = f"no answer within {self._limit_s:g} s" if limit.expired() else first_line(error)
            self.failure = f"the GPU cannot be had ({reason})"
            self._awake_until = _NEVER
            self._retry_at = self._clock() + self._retry_s
            raise TranscriptionError(self.failure) from None
        self._has_answered()
        return result

    def _has_answered(self) -> None:
        self.failure = ""
        self._retry_at = _NEVER
        self._awake_until = self._clock() + self._idle_s


async def _answered(call: Awaitable[_T]) -> _T:
    """Its result; that the other side cancelled the call is a failure like any other."""
    try:
        return await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise TranscriptionError("the call was cancelled there") from None


async def _outcome(answer: Awaitable[Transcript]) -> Transcript | TranscriptionError:
    """As a value, so that a failure that nobody waits for any more is no event of its own."""
    try:
        return await answer
    except TranscriptionError as error:
        return error
