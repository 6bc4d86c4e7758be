"""One backend at work on one utterance."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wyoming_server.backends.base import Connected, Hypothesis
from wyoming_server.errors import BackendError, InternalError
from wyoming_server.recording import Reader
from wyoming_server.trace import AttemptTrace, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from wyoming_server.backends.base import Backend, Progress, Request
    from wyoming_server.health import Health
    from wyoming_server.recording import Recording
    from wyoming_server.trace import Reason

_LOGGER = logging.getLogger(__name__)

_LOOKS: Final = 5


@dataclass(frozen=True, slots=True)
class Member:
    """A backend and how it is doing."""

    backend: Backend
    health: Health

    @property
    def name(self) -> str:
        """The backend's."""
        return self.backend.name


class Attempt:
    """Runs a backend as a task of its own and notes what it shows; all times are the loop's."""

    def __init__(self, member: Member, reason: Reason, recording: Recording, request: Request) -> None:
        self.member = member
        self.reason = reason
        self.started_at = asyncio.get_running_loop().time()
        self.connected_at: float | None = None
        self.progress_at: float | None = None
        """When the latest hypothesis came."""
        self.final_at: float | None = None
        self.has_words = False
        self.is_late = False
        """Whether the next backend was started because this one was slow."""
        self.outcome = Outcome.LOST
        self.error: BackendError | None = None
        self._first_partial_at: float | None = None
        self._over_at: float | None = None
        self._reader = Reader(recording)
        self._request = request
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The backend's."""
        return self.member.name

    @property
    def is_running(self) -> bool:
        """Whether a final may still come of it."""
        return self.error is None and self.final_at is None

    def start(self, report: Callable[[Attempt, Progress | BackendError], None]) -> None:
        """Begin; whatever the backend yields, or the error that ends it, goes to `report`."""
        self._task = asyncio.create_task(self._run(report), name=f"{self.name} transcribes")

    async def cancel(self, within: float) -> None:
        """Give it up; waits so many seconds for it to tidy up, a sound backend needs no time for it."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        stuck = {task}
        for _ in range(_LOOKS):  # a busy process may take longer for one of them than for all
            if stuck:
                _, stuck = await asyncio.wait(stuck, timeout=within / _LOOKS)
        if stuck:
            _LOGGER.error("%s has a defect: it goes on though it was told to give up", self.name)

    def note(self, progress: Progress) -> None:
        """Remember when it showed what."""
        now = asyncio.get_running_loop().time()
        if self.connected_at is None:
            self.connected_at = now
        if isinstance(progress, Connected):
            return
        self.progress_at = now
        self.has_words = self.has_words or bool(progress.text)
        if progress.is_final:
            self.final_at = self._over_at = now
        elif self._first_partial_at is None:
            self._first_partial_at = now

    def fail(self, error: BackendError) -> None:
        """It is out of the running."""
        self.error = error
        self.outcome = Outcome.FAILED
        self._over_at = asyncio.get_running_loop().time()

    def trace(self, began_at: float, price: Callable[[str, float], float]) -> AttemptTrace:
        """What happened, in seconds after `began_at`; `price` gives dollars for a backend's seconds."""

        def since(at: float | None) -> float | None:
            return None if at is None else at - began_at

        now = asyncio.get_running_loop().time()
        billed = 0.0 if self.connected_at is None else (self.final_at or now) - self.connected_at
        return AttemptTrace(
            backend=self.name,
            reason=self.reason,
            outcome=self.outcome,
            error=None if self.error is None else self.error.code,
            started=self.started_at - began_at,
            connected=since(self.connected_at),
            first_partial=since(self._first_partial_at),
            final=since(self.final_at),
            bytes_read=self._reader.bytes_read,
            dollars=price(self.name, billed),
            over=since(self._over_at or now),
        )

    async def _run(self, report: Callable[[Attempt, Progress | BackendError], None]) -> None:
        try:
            async with aclosing(self.member.backend.transcribe(self._reader, self._request)) as progress:
                async for item in progress:
                    report(self, item)
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
            _LOGGER.exception("%s has a defect", self.name)
            error = InternalError(f"unexpected {type(failure).__name__}")
        # The traceback would hold this frame, and that the error: a circle around the recording.
        report(self, error.with_traceback(None))


def _is_cancelled() -> bool:
    # Apart from its caller, whose frame must not hold the task: the task's own error holds that frame.
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
