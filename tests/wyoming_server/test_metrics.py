from __future__ import annotations

from typing import Any

import pytest

from wyoming_server.events import Answered, Traced
from wyoming_server.metrics import BUCKETS, Durations, Tally
from wyoming_server.trace import AttemptTrace, Outcome, Reason, Trace


def attempt(backend: str = "assemblyai", **changes: Any) -> AttemptTrace:
    return AttemptTrace(
        **{
            "backend": backend,
            "reason": Reason.FIRST,
            "outcome": Outcome.WON,
            "error": None,
            "started": 0.0,
            "connected": 0.1,
            "first_partial": None,
            "final": 2.2,
            "bytes_read": 64_000,
            "dollars": 0.0,
            **changes,
        }
    )


def trace(**changes: Any) -> Trace:
    return Trace(
        **{
            "audio_seconds": 2.0,
            "last_speech": 1.5,
            "ended": 2.0,
            "answered": 2.2,
            "backend": "assemblyai",
            "error": None,
            "attempts": (attempt(),),
            **changes,
        }
    )


def tally_of(*traces: Trace) -> Tally:
    tally = Tally()
    for item in traces:
        tally(Traced(item))
    return tally


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, ("assemblyai", "answered")),
        ({"backend": ""}, ("", "silent")),
        ({"backend": "", "answered": None, "error": "deadline"}, ("", "failed")),
        ({"backend": "", "answered": None, "ended": None}, ("", "abandoned")),
    ],
    ids=lambda item: item[1] if isinstance(item, tuple) else "",
)
def test_an_utterance_counts_by_who_answered_and_what_became_of_it(
    changes: dict[str, Any], counted: tuple[str, str]
) -> None:
    assert tally_of(trace(**changes), trace(**changes)).utterances == {counted: 2}


def test_attempts_count_by_why_and_what_became_of_them_and_failures_by_their_code() -> None:
    lost = attempt("whisper", reason=Reason.HEDGE, outcome=Outcome.LOST)
    failed = attempt(outcome=Outcome.FAILED, error="unreachable")
    tally = tally_of(trace(attempts=(failed, lost)), trace(attempts=(failed,)))
    assert tally.attempts == {
        ("assemblyai", "first", "failed"): 2,
        ("whisper", "hedge", "lost"): 1,
    }
    assert tally.failures == {("assemblyai", "unreachable"): 2}


def test_an_answer_by_another_backend_than_the_first_is_a_failover() -> None:
    failed = attempt(outcome=Outcome.FAILED, error="unreachable")
    won = attempt("local", reason=Reason.FAILED)
    tally = tally_of(trace(backend="local", attempts=(failed, won)), trace(), trace(backend="", attempts=()))
    assert tally.failovers == {("assemblyai", "local"): 1}


def test_every_reason_has_a_short_name() -> None:
    tally = tally_of(trace(attempts=[attempt(reason=reason) for reason in Reason]))
    assert [reason for _, reason, _ in tally.attempts] == [
        "first",
        "race",
        "failed",
        "slow_connect",
        "no_progress",
        "hedge",
    ]


@pytest.mark.parametrize(
    ("ended", "answered", "seconds"), [(2.0, 2.25, 0.25), (2.0, 2.0, 0.0), (-60.0, 0.25, 0.25)]
)
def test_the_time_to_the_transcript_counts_from_the_last_sample_or_from_when_that_came(
    ended: float, answered: float, seconds: float
) -> None:
    (durations,) = tally_of(trace(ended=ended, answered=answered)).transcripts.values()
    assert durations.sum == seconds


def test_only_what_a_backend_answered_has_a_time() -> None:
    tally = tally_of(
        trace(backend=""), trace(backend="", answered=None, error="deadline"), trace(backend="local")
    )
    assert list(tally.transcripts) == ["local"]


def test_audio_adds_up() -> None:
    assert tally_of(trace(), trace(audio_seconds=0.5)).audio_seconds == 2.5


def test_other_events_count_nothing() -> None:
    tally = Tally()
    tally(Answered("assemblyai", 200.0, 2.0))
    assert tally.utterances == {}


def test_a_duration_lies_in_the_bucket_whose_bound_it_does_not_pass() -> None:
    durations = Durations()
    for seconds in (0.0, 0.01, 0.011, 8.0, 9.0):
        durations.add(seconds)
    assert durations.sum == pytest.approx(17.021)
    assert durations.cumulative == [2, *[3] * (len(BUCKETS) - 2), 4, 5]
