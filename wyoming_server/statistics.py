"""How the last 24 hours went: listeners of the engine that remember a bounded amount, and no words."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from wyoming_server.events import Traced

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from wyoming_server.events import Event
    from wyoming_server.trace import Trace

_DAY_SECONDS: Final = 86_400.0
_BUCKET_SECONDS: Final = 300.0
_HOURS: Final = 24
_TIMES: Final = 2_000
"""Answers whose times are remembered for the median of the day."""
_HOUR_TIMES: Final = 500
"""The same for the median of one hour."""
_TRACES: Final = 50


@dataclass(frozen=True, slots=True)
class Dated:
    """A trace, and when its utterance began."""

    at: datetime
    trace: Trace

    def as_json(self) -> dict[str, Any]:
        """What a client is shown."""
        return {"at": self.at.isoformat(timespec="milliseconds"), **asdict(self.trace)}


class History:
    """The latest traces, newest last.

    Args:
        clock: seconds, those that `began_at` counts in.
        now: the date and time, with its zone.
        began_at: when the utterance began whose trace is told now; None where nobody knows.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        began_at: Callable[[], float | None],
    ) -> None:
        self._clock = clock
        self._now = now
        self._began_at = began_at
        self._traces: deque[Dated] = deque(maxlen=_TRACES)

    @property
    def latest(self) -> tuple[Dated, ...]:
        """Up to 50 of them."""
        return tuple(self._traces)

    def __call__(self, event: Event) -> None:
        """Remember a trace."""
        if isinstance(event, Traced):
            began = self._began_at()
            ago = 0.0 if began is None else self._clock() - began
            self._traces.append(Dated(self._now() - timedelta(seconds=ago), event.trace))


@dataclass(slots=True)
class _Bucket:
    number: int
    utterances: int = 0
    answered: int = 0
    failovers: int = 0


@dataclass(frozen=True, slots=True)
class Day:
    """The utterances of 24 hours in which somebody spoke."""

    utterances: int
    answered: int
    failovers: int
    """Those that were answered by another backend than the one that was asked first."""
    availability: float | None
    """The share that was answered; None without any."""
    median_ms: float | None
    """Of the time to the transcript; None without any."""


class Statistics:
    """Counts the utterances of the last 24 hours, to five minutes; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: deque[_Bucket] = deque()
        self._times: deque[tuple[float, float]] = deque(maxlen=_TIMES)

    @property
    def day(self) -> Day:
        """The last 24 hours."""
        self._forget()
        utterances = sum(bucket.utterances for bucket in self._buckets)
        answered = sum(bucket.answered for bucket in self._buckets)
        return Day(
            utterances=utterances,
            answered=answered,
            failovers=sum(bucket.failovers for bucket in self._buckets),
            availability=answered / utterances if utterances else None,
            median_ms=statistics.median(ms for _, ms in self._times) if self._times else None,
        )

    def __call__(self, event: Event) -> None:
        """Count an utterance, unless its client left early, or nobody spoke and nothing failed."""
        if not isinstance(event, Traced) or not _counts(event.trace):
            return
        trace = event.trace
        self._forget()
        number = int(self._clock() // _BUCKET_SECONDS)
        if not self._buckets or self._buckets[-1].number != number:
            self._buckets.append(_Bucket(number))
        bucket = self._buckets[-1]
        bucket.utterances += 1
        if (ms := answer_ms(trace)) is not None:
            bucket.answered += 1
            bucket.failovers += is_failover(trace)
            self._times.append((self._clock(), ms))

    def _forget(self) -> None:
        since = self._clock() - _DAY_SECONDS
        while self._buckets and (self._buckets[0].number + 1) * _BUCKET_SECONDS <= since:
            self._buckets.popleft()
        while self._times and self._times[0][0] < since:
            self._times.popleft()


@dataclass(frozen=True, slots=True)
class Hour:
    """The utterances of one hour by the clock on the wall, counted as in Day."""

    start: datetime
    utterances: int
    answered: int
    failovers: int
    median_ms: float | None
    backends: dict[str, int]
    """How many were answered by whom."""

    def as_json(self) -> dict[str, Any]:
        """What a client is shown."""
        ms = self.median_ms
        return {
            "from": self.start.isoformat(timespec="seconds"),
            "utterances": self.utterances,
            "answered": self.answered,
            "failovers": self.failovers,
            "median_ms": None if ms is None else round(ms, 1),
            "backends": self.backends,
        }


@dataclass(slots=True)
class _Counted:
    utterances: int = 0
    answered: int = 0
    failovers: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=_HOUR_TIMES))
    backends: Counter[str] = field(default_factory=Counter)


class Hours:
    """Counts utterances by the hour; `now` gives the date and time with its zone."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._hours: dict[float, _Counted] = {}

    @property
    def latest(self) -> tuple[Hour, ...]:
        """The last 24 hours, oldest first; the last one is not over yet."""
        starts = self._starts()
        return tuple(_hour(start, self._hours.get(start.timestamp()) or _Counted()) for start in starts)

    def __call__(self, event: Event) -> None:
        """Count an utterance as Statistics does."""
        if not isinstance(event, Traced) or not _counts(event.trace):
            return
        trace, starts = event.trace, self._starts()
        shown = {start.timestamp() for start in starts}  # the clock may have been put back
        self._hours = {start: hour for start, hour in self._hours.items() if start in shown}
        hour = self._hours.setdefault(starts[-1].timestamp(), _Counted())
        hour.utterances += 1
        if (ms := answer_ms(trace)) is not None:
            hour.answered += 1
            hour.failovers += is_failover(trace)
            hour.times.append(ms)
            if trace.backend:
                hour.backends[trace.backend] += 1

    def _starts(self) -> list[datetime]:
        this = self._now().replace(minute=0, second=0, microsecond=0)
        return [this - timedelta(hours=ago) for ago in range(_HOURS - 1, -1, -1)]


def _hour(start: datetime, counted: _Counted) -> Hour:
    return Hour(
        start=start,
        utterances=counted.utterances,
        answered=counted.answered,
        failovers=counted.failovers,
        median_ms=statistics.median(counted.times) if counted.times else None,
        backends=dict(counted.backends),
    )


def _counts(trace: Trace) -> bool:
    """Whether somebody spoke, or was told of an error, and did not leave early."""
    is_over = trace.answered is not None or trace.error is not None
    return is_over and (trace.last_speech is not None or trace.error is not None)


def answer_ms(trace: Trace) -> float | None:
    """Milliseconds from the last sample to the answer; None where there was none."""
    if trace.answered is None or trace.error is not None:
        return None
    return max(trace.answered - (trace.ended or 0.0), 0.0) * 1000


def is_failover(trace: Trace) -> bool:
    """Whether another backend has answered than the one that was asked first."""
    return bool(trace.backend and trace.attempts) and trace.backend != trace.attempts[0].backend
