"""How the last 24 hours went: listeners of the engine that remember a bounded amount, and no words."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import asdict, dataclass
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
_TIMES: Final = 2_000
"""Answers whose times are remembered for the median."""
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
        if not isinstance(event, Traced):
            return
        trace = event.trace
        if trace.last_speech is None and trace.error is None:
            return
        if trace.answered is None and trace.error is None:
            return
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


def answer_ms(trace: Trace) -> float | None:
    """Milliseconds from the last sample to the answer; None where there was none."""
    if trace.answered is None or trace.error is not None:
        return None
    return max(trace.answered - (trace.ended or 0.0), 0.0) * 1000


def is_failover(trace: Trace) -> bool:
    """Whether another backend has answered than the one that was asked first."""
    return bool(trace.backend and trace.attempts) and trace.backend != trace.attempts[0].backend
