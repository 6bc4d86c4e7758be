"""The engine: a backend made of backends that gives exactly one answer, by a deadline."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from wyoming_server.backends.base import Connected, Hypothesis
from wyoming_server.errors import (
    AllFailedError,
    BackendError,
    DeadlineError,
    InternalError,
    NoWordsError,
)
from wyoming_server.events import Answered, BackendConnected, BackendFailed, Unanswered

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from wyoming_server.backends.base import Backend, Progress, Request
    from wyoming_server.events import Listener
    from wyoming_server.recording import Recording

_LOGGER = logging.getLogger(__name__)

_CLEANUP_SECONDS: Final = 0.5
"""How long an answer may wait for cancelled backends to tidy up; a sound one needs no time for it."""


class Engine:
    """Asks its backends in order, each from the first sample, until one gives the words.

    `deadline` is in seconds after the person stopped. Every fact is told to `listener`.
    """

    name = "engine"

    def __init__(self, backends: Sequence[Backend], *, deadline: float, listener: Listener) -> None:
        self._backends = tuple(backends)
        self._deadline = deadline
        self._listener = listener

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends, in the order in which they are asked."""
        return self._backends

    @property
    def languages(self) -> frozenset[str]:
        """Every language that at least one backend understands."""
        return frozenset().union(*(backend.languages for backend in self._backends))

    def start(self) -> None:
        """Let every backend prepare itself in the background."""
        for backend in self._backends:
            backend.start()

    async def wait_ready(self) -> None:
        """Return once every backend is ready; raises the error of one that cannot be."""
        await asyncio.gather(*(backend.wait_ready() for backend in self._backends))

    async def close(self) -> None:
        """End what the backends still have open."""
        await asyncio.gather(*(backend.close() for backend in self._backends))

    async def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Hypothesis, None]:
        """Yield partials and exactly one final, or raise AllFailedError or DeadlineError."""
        candidates = [
            backend
            for backend in self._backends
            if request.backend in (None, backend.name)
            and (request.language is None or request.language in backend.languages)
        ]
        race = _Race(candidates, recording, request, self._deadline, self._listener)
        async with aclosing(race.run()) as hypotheses:
            async for hypothesis in hypotheses:
                yield hypothesis


@dataclass(frozen=True, slots=True)
class _Report:
    backend: Backend
    progress: Progress | BackendError


class _Ended:
    """The person has stopped."""


class _Overdue:
    """The deadline is here."""


class _Race:
    """One utterance: its attempts, what they report, and who wins."""

    def __init__(
        self,
        candidates: Sequence[Backend],
        recording: Recording,
        request: Request,
        deadline: float,
        listener: Listener,
    ) -> None:
        self._waiting = list(candidates)
        self._recording = recording
        self._request = request
        self._deadline = deadline
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._reports: asyncio.Queue[_Report | _Ended | _Overdue] = asyncio.Queue()
        self._attempts: dict[str, asyncio.Task[None]] = {}
        self._started_at: dict[str, float] = {}
        self._failures: dict[str, BackendError] = {}
        self._has_words = False

    async def run(self) -> AsyncGenerator[Hypothesis, None]:
        """Yield the partials of whoever leads, then the winner's final."""
        clock = asyncio.create_task(self._watch_clock())
        try:
            self._start_next()
            while True:
                hypothesis = self._judge(await self._reports.get())
                if hypothesis is None:
                    continue
                if hypothesis.is_final:
                    self._tell_answered(hypothesis)
                yield hypothesis
                if hypothesis.is_final:
                    return
        except BackendError as error:
            self._listener(Unanswered(error, self._recording.seconds))
            raise
        finally:
            tasks = [clock, *self._attempts.values()]
            for task in tasks:
                task.cancel()
            _, stuck = await asyncio.wait(tasks, timeout=_CLEANUP_SECONDS)
            for task in stuck:
                _LOGGER.error("%s has a defect: it goes on though it was told to give up", task.get_name())
            self._attempts.clear()  # they hold us in turn: the recording would wait for the garbage collector

    def _judge(self, report: _Report | _Ended | _Overdue) -> Hypothesis | None:
        """What a report means for the utterance: words to pass on, the end, or nothing yet."""
        if isinstance(report, _Ended):
            is_silence = not self._recording.speech.heard and not self._has_words
            return Hypothesis("", is_final=True) if is_silence else None
        if isinstance(report, _Overdue):
            raise DeadlineError(f"no answer within {self._deadline:g} s after the last sample")
        backend, progress = report.backend, report.progress
        if isinstance(progress, Connected):
            waited = self._loop.time() - self._started_at[backend.name]
            self._listener(BackendConnected(backend.name, waited * 1000))
            return None
        if isinstance(progress, BackendError):
            return self._fail(backend, progress)
        if progress.is_final and not progress.text and self._recording.ended_at is None:
            return self._fail(backend, InternalError("gave up listening before the person had stopped"))
        if progress.is_final and not progress.text and self._recording.speech.heard:
            return self._fail(backend, NoWordsError("no words, though somebody spoke"))
        self._has_words = self._has_words or bool(progress.text)
        return replace(progress, backend=progress.backend or backend.name)

    def _fail(self, backend: Backend, error: BackendError) -> Hypothesis | None:
        self._failures[backend.name] = error
        successor = self._waiting[0].name if self._waiting else None
        self._listener(BackendFailed(backend.name, error, successor, self._recording.seconds))
        if successor is not None:
            self._start_next()
            return None
        # An empty answer by somebody who listened beats no answer at all: it was noise, not an outage.
        silent = next((name for name, why in self._failures.items() if isinstance(why, NoWordsError)), None)
        if silent is not None:
            return Hypothesis("", is_final=True, backend=silent)
        raise AllFailedError(self._failures)

    def _start_next(self) -> None:
        if not self._waiting:
            raise AllFailedError(self._failures)
        backend = self._waiting.pop(0)
        self._started_at[backend.name] = self._loop.time()
        self._attempts[backend.name] = asyncio.create_task(self._attempt(backend), name=backend.name)

    async def _attempt(self, backend: Backend) -> None:
        try:
            async with aclosing(backend.transcribe(self._recording, self._request)) as progress:
                async for item in progress:
                    self._reports.put_nowait(_Report(backend, item))
                    if isinstance(item, Hypothesis) and item.is_final:
                        return
            error: BackendError = InternalError("ended without a final")
        except BackendError as failure:
            error = failure
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            error = InternalError("unexpected CancelledError")  # of something within the backend, not of ours
        except Exception as failure:  # a defect in one backend must not cost the user the answer of the next
            _LOGGER.exception("%s has a defect", backend.name)
            error = InternalError(f"unexpected {type(failure).__name__}")
        # The traceback would hold this frame, and that the error: another circle around the recording.
        self._reports.put_nowait(_Report(backend, error.with_traceback(None)))

    async def _watch_clock(self) -> None:
        await self._recording.wait_ended()
        self._reports.put_nowait(_Ended())
        await asyncio.sleep(self._deadline)
        self._reports.put_nowait(_Overdue())

    def _tell_answered(self, final: Hypothesis) -> None:
        ended_at = self._recording.ended_at
        after = 0.0 if ended_at is None else self._loop.time() - ended_at
        self._listener(Answered(final.backend, after * 1000, self._recording.seconds))


def _is_cancelled() -> bool:
    # Apart from its caller, whose frame must not hold the task: the task's own error holds that frame.
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
