"""What has happened since the start, counted; a listener of the engine's events. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final

from wyoming_server.events import Traced
from wyoming_server.statistics import is_failover

if TYPE_CHECKING:
    from wyoming_server.events import Event
    from wyoming_server.trace import Trace

BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
"""Seconds: from an answer that was there already to the deadline; 0.3 and 1.5 are when hedges begin."""


class Durations:
    """How many durations lie in which bucket, and their sum."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0
        """In seconds."""

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    @property
    def cumulative(self) -> list[int]:
        """How many are at most as long as each of BUCKETS; and last, how many there are."""
        total = 0
        return [total := total + count for count in self._counts]


class Tally:
    """What Prometheus is to know of the utterances."""

    def __init__(self) -> None:
        self.utterances: Counter[tuple[str, str]] = Counter()
        """By backend, empty where none answered, and outcome.

        An utterance is answered, silent (nobody spoke), failed or abandoned (the client left).
        """
        self.attempts: Counter[tuple[str, str, str]] = Counter()
        """By backend, reason and outcome."""
        self.failovers: Counter[tuple[str, str]] = Counter()
        """Answers of another backend than the one asked first: by the latter and the former."""
        self.failures: Counter[tuple[str, str]] = Counter()
        """By backend and code of the error."""
        self.transcripts: dict[str, Durations] = {}
        """From the last sample to the transcript, by backend."""
        self.audio_seconds = 0.0

    def __call__(self, event: Event) -> None:
        """Count what an utterance has brought."""
        if isinstance(event, Traced):
            self._count(event.trace)

    def _count(self, trace: Trace) -> None:
        self.utterances[trace.backend, outcome(trace)] += 1
        self.audio_seconds += trace.audio_seconds
        if trace.backend and trace.answered is not None:
            waited = trace.answered - max(trace.ended or 0.0, 0.0)  # a recording of the past ended before
            self.transcripts.setdefault(trace.backend, Durations()).add(max(waited, 0.0))
        if is_failover(trace):
            self.failovers[trace.attempts[0].backend, trace.backend] += 1
        for attempt in trace.attempts:
            self.attempts[attempt.backend, attempt.reason.name.lower(), attempt.outcome.value] += 1
            if attempt.error is not None:
                self.failures[attempt.backend, attempt.error] += 1


def outcome(trace: Trace) -> str:
    """What became of an utterance, see Tally.utterances."""
    if trace.error is not None:
        return "failed"
    if trace.answered is None:
        return "abandoned"
    return "answered" if trace.backend else "silent"
