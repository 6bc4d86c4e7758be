"""One utterance: who is asked when, and whose answer it is. Knows no socket; its clock is the loop's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from wyoming_server.attempt import Attempt
from wyoming_server.backends.base import Connected, Hypothesis
from wyoming_server.errors import AllFailedError, BackendError, DeadlineError, InternalError, NoWordsError
from wyoming_server.events import Answered, AttemptStarted, BackendConnected, BackendFailed
from wyoming_server.hedging import Strategy
from wyoming_server.trace import Outcome, Reason, Trace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from wyoming_server.attempt import Member
    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.events import Listener
    from wyoming_server.hedging import HedgeBudget, Patience
    from wyoming_server.recording import Recording

_CLEANUP_SECONDS: Final = 0.5
"""How long an answer's end may wait for cancelled backends to tidy up."""
_EARLY: Final = 0.001
"""Seconds; a timer may fire before its time by the resolution of the clock."""
_LOOK_AGAIN: Final = 0.25
"""Seconds; how soon at the earliest a backend is judged again that was not overdue when it was looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for every utterance."""

    strategy: Strategy
    deadline: float
    """Seconds after the person has stopped."""
    patience: Patience
    budget: HedgeBudget


@dataclass(frozen=True, slots=True)
class _Report:
    attempt: Attempt
    progress: Progress | BackendError


class _Ended:
    """The person has stopped."""


class _Overdue:
    """The deadline is here."""


class Race:
    """Starts the members in order, staggered; the first acceptable final wins."""

    def __init__(
        self,
        members: Sequence[Member],
        recording: Recording,
        request: Request,
        rules: Rules,
        listener: Listener,
    ) -> None:
        self._waiting = list(members)
        self._recording = recording
        self._request = request
        self._rules = rules
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._reports: asyncio.Queue[_Report | _Ended | _Overdue] = asyncio.Queue()
        self._is_hinted = False
        self._may_hedge = True
        self._began_at = self._loop.time()
        self._answered_at: float | None = None
        self._answered_by = ""
        self._error_code: str | None = None
        self.attempts: list[Attempt] = []
        """In the order in which they were started."""

    async def run(self) -> AsyncGenerator[Hypothesis, None]:
        """Yield the partials of whoever leads, then the winner's final; or raise a BackendError."""
        end = asyncio.create_task(self._watch_end())
        try:
            if not self._waiting:
                raise AllFailedError({})
            if not all(member.health.is_closed for member in self._waiting):
                self._hint()
            self._start_next(Reason.FIRST)
            while self._rules.strategy is Strategy.RACE and self._next_is_fit():
                self._start_next(Reason.RACE)
            while True:
                hypothesis = self._judge(await self._next_report())
                if hypothesis is None:
                    continue
                yield hypothesis
                if hypothesis.is_final:
                    return
        except BackendError as error:
            self._error_code = error.code
            raise
        finally:
            end.cancel()
            await asyncio.gather(*(attempt.cancel(_CLEANUP_SECONDS) for attempt in self.attempts))

    def trace(self, price: Callable[[str, float], float]) -> Trace:
        """What happened; `price` gives the US dollars for a backend's seconds."""
        speech_end_ms, ended_at = self._recording.speech.speech_end_ms, self._recording.ended_at
        return Trace(
            audio_seconds=self._recording.seconds,
            last_speech=None if speech_end_ms is None else speech_end_ms / 1000,
            ended=None if ended_at is None else ended_at - self._began_at,
            answered=None if self._answered_at is None else self._answered_at - self._began_at,
            backend=self._answered_by,
            error=self._error_code,
            attempts=tuple(attempt.trace(self._began_at, price) for attempt in self.attempts),
        )

    async def _watch_end(self) -> None:
        await self._recording.wait_ended()
        self._reports.put_nowait(_Ended())

    async def _next_report(self) -> _Report | _Ended | _Overdue:
        while True:
            try:
                async with asyncio.timeout_at(self._next_look()):
                    return await self._reports.get()
            except TimeoutError:
                self._look()

    def _judge(self, report: _Report | _Ended | _Overdue) -> Hypothesis | None:
        """What a report means for the utterance: words to pass on, the end, or nothing yet."""
        if isinstance(report, _Ended):
            has_words = any(attempt.has_words for attempt in self.attempts)
            return None if self._recording.speech.heard or has_words else self._conclude("", None)
        if isinstance(report, _Overdue):
            if answer := self._answer_of_the_deaf():
                return answer
            raise DeadlineError(f"no answer within {self._rules.deadline:g} s after the last sample")
        attempt, progress = report.attempt, report.progress
        if isinstance(progress, BackendError):
            return self._fail(attempt, progress)
        attempt.note(progress)
        if isinstance(progress, Connected):
            waited = self._loop.time() - attempt.started_at
            self._listener(BackendConnected(attempt.name, waited * 1000))
            return None
        if progress.is_final:
            return self._judge_final(progress, attempt)
        leader = next(
            item for item in self.attempts if item is attempt or (item.is_running and item.has_words)
        )
        return replace(progress, backend=progress.backend or attempt.name) if leader is attempt else None

    def _judge_final(self, final: Hypothesis, attempt: Attempt) -> Hypothesis | None:
        if self._recording.ended_at is None:  # with words or without: the rest would be lost
            return self._fail(attempt, InternalError("gave up listening before the person had stopped"))
        if not final.text and self._recording.speech.heard:
            return self._fail(attempt, NoWordsError("no words, though somebody spoke"))
        return self._conclude(final, attempt)

    def _conclude(self, final: Hypothesis | str, winner: Attempt | None) -> Hypothesis:
        now, stopped_at = self._loop.time(), self._stopped_at()
        after_stop = 0.0 if stopped_at is None else now - stopped_at
        name = winner.name if winner else ""
        self._answered_at, self._answered_by = now, name
        self._listener(Answered(name, after_stop * 1000, self._recording.seconds))
        if isinstance(final, str):
            return Hypothesis(final, is_final=True, backend=name)
        if winner:
            winner.outcome = Outcome.WON
            winner.member.health.answered(min(after_stop, now - winner.started_at))
        for attempt in self.attempts:
            if attempt.is_running and attempt.is_late:
                attempt.member.health.overtaken(min(after_stop, now - attempt.started_at))
        return replace(final, backend=final.backend or name)

    def _fail(self, attempt: Attempt, error: BackendError) -> Hypothesis | None:
        was_known = not attempt.member.health.is_closed
        attempt.fail(error)
        running = [item for item in self.attempts if item.is_running]
        starts_next = bool(self._waiting) and (
            not running or (attempt is self.attempts[-1] and self._next_is_fit())
        )
        successor = self._waiting[0].name if starts_next else running[-1].name if running else None
        self._listener(BackendFailed(attempt.name, error, successor, self._recording.seconds, was_known))
        if not isinstance(error, NoWordsError):  # perhaps there were none
            attempt.member.health.failed(error)
        if starts_next:
            self._start_next(Reason.FAILED)
        if successor is not None:
            return None
        if answer := self._answer_of_the_deaf():
            return answer
        raise AllFailedError({item.name: item.error for item in self.attempts if item.error})

    def _answer_of_the_deaf(self) -> Hypothesis | None:
        """An empty answer by somebody who listened beats no answer at all: it was noise, not an outage."""
        deaf = next((item for item in self.attempts if isinstance(item.error, NoWordsError)), None)
        return self._conclude("", deaf) if deaf else None

    def _next_is_fit(self) -> bool:
        """Whether somebody waits whom it costs the user nothing to ask; who is known bad is a last resort."""
        return bool(self._waiting) and self._waiting[0].health.is_closed

    def _start_next(self, reason: Reason) -> None:
        self._may_hedge = True
        if reason not in (Reason.FIRST, Reason.RACE):
            self._hint()
        attempt = Attempt(self._waiting.pop(0), reason, self._recording, self._request)
        self.attempts.append(attempt)
        self._listener(AttemptStarted(attempt.name, reason, self._recording.seconds))
        attempt.start(lambda who, what: self._reports.put_nowait(_Report(who, what)))

    def _hint(self) -> None:
        """There may be trouble: whoever would be next gets ready while the person still speaks."""
        if not self._is_hinted:
            self._is_hinted = True
            for member in self._waiting:
                member.backend.warm()

    # When to look, and what is seen then.

    def _next_look(self) -> float | None:
        looks = [self._deadline_at(), self._hint_at()]
        overdue = self._overdue()
        if overdue:
            looks.append(overdue[0])
        return min((at for at in looks if at is not None), default=None)

    def _look(self) -> None:
        now = self._loop.time() + _EARLY
        deadline, hint, overdue = self._deadline_at(), self._hint_at(), self._overdue()
        if deadline is not None and now >= deadline:
            self._reports.put_nowait(_Overdue())
            return
        if hint is not None and now >= hint:
            self._hint()
        if overdue is not None and now >= overdue[0] and overdue[1] is not None:
            self._go_on_without(self.attempts[-1], overdue[1])

    def _go_on_without(self, attempt: Attempt, reason: Reason) -> None:
        health = attempt.member.health
        is_well = reason is Reason.HEDGE and health.is_closed and health.is_punctual
        if is_well and self._may_hedge and not self._rules.budget.spend():
            self._may_hedge = False  # so early; by Patience.most it must be
            return
        attempt.is_late = True
        self._start_next(reason)

    def _deadline_at(self) -> float | None:
        stopped_at = self._stopped_at()
        return None if stopped_at is None else stopped_at + self._rules.deadline

    def _hint_at(self) -> float | None:
        first = self.attempts[0]
        if self._is_hinted or not self._waiting or first.connected_at is not None:
            return None
        return max(first.started_at, self._spoken_since()) + self._rules.patience.hint

    def _overdue(self) -> tuple[float, Reason | None] | None:
        """When the newest attempt has to be looked at, and as what it is overdue if nothing changes.

        None where nobody is there to be started beside it; a reason of None only means to look again.
        """
        if self._rules.strategy is Strategy.FAILOVER or not self._waiting:
            return None
        newest, patience, stopped_at = self.attempts[-1], self._rules.patience, self._stopped_at()
        if not self._next_is_fit():  # the last resort, while there is time for an answer
            return None if stopped_at is None else (stopped_at + self._rules.deadline / 2, Reason.HEDGE)
        if stopped_at is not None:
            wait = patience.after_stop(newest.member.health.p95) if self._may_hedge else patience.most
            at = min(max(stopped_at, newest.started_at) + wait, stopped_at + patience.most)
            return at, Reason.HEDGE
        spoken_since = self._spoken_since()
        if newest.connected_at is None:
            return max(newest.started_at, spoken_since) + patience.connect, Reason.SLOW_CONNECT
        if not newest.member.backend.hears_while_spoken:
            return None
        shown_at = max(spoken_since, newest.connected_at, newest.progress_at or 0.0)
        now = self._loop.time()
        missing = patience.progress - (now - self._recording.speech.silence_ms / 1000 - shown_at)
        return (now, Reason.NO_PROGRESS) if missing <= 0 else (now + max(missing, _LOOK_AGAIN), None)

    def _stopped_at(self) -> float | None:
        """When the person had stopped; for a recording of the past, when it came."""
        ended_at = self._recording.ended_at
        return None if ended_at is None else max(ended_at, self._began_at)

    def _spoken_since(self) -> float:
        """When the person began to speak; now, where nobody has spoken yet."""
        speech, now = self._recording.speech, self._loop.time()
        start_ms = speech.speech_start_ms
        return now if start_ms is None else now - (speech.audio_ms - start_ms) / 1000
