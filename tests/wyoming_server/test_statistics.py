from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from wyoming_server.events import Answered, Traced
from wyoming_server.statistics import Day, History, Statistics
from wyoming_server.trace import AttemptTrace, Outcome, Reason, Trace

HOUR = 3600.0
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def attempt(backend: str) -> AttemptTrace:
    return AttemptTrace(
        backend=backend,
        reason=Reason.FIRST,
        outcome=Outcome.WON,
        error=None,
        started=0.0,
        connected=0.1,
        first_partial=None,
        final=2.0,
        bytes_read=64_000,
        dollars=0.0,
    )


def trace(backend: str = "a", *asked: str, ms: float = 40.0) -> Trace:
    return Trace(
        audio_seconds=2.0,
        last_speech=1.5,
        ended=2.0,
        answered=2.0 + ms / 1000,
        backend=backend,
        error=None,
        attempts=tuple(attempt(name) for name in asked or (backend,)),
    )


FAILED = replace(trace("", "a", "b"), answered=None, error="all-backends-failed")
SILENT = replace(trace("", "a"), last_speech=None)
LEFT = replace(trace("", "a"), answered=None, ended=None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counted(clock: Clock) -> Statistics:
    return Statistics(clock)


def test_before_the_first_utterance_nothing_is_known(counted: Statistics) -> None:
    assert counted.day == Day(utterances=0, answered=0, failovers=0, availability=None, median_ms=None)


def test_utterances_answers_and_failovers_are_counted(counted: Statistics) -> None:
    for item in (trace(ms=10), trace("b", "a", "b", ms=30), trace(ms=20), FAILED):
        counted(Traced(item))
    day = counted.day
    assert (day.utterances, day.answered, day.failovers, day.availability) == (4, 3, 1, 0.75)
    assert day.median_ms == pytest.approx(20)


def test_silence_and_clients_that_left_do_not_count_nor_do_other_events(counted: Statistics) -> None:
    for item in (SILENT, LEFT):
        counted(Traced(item))
    counted(Answered("a", 40.0, 2.0))
    assert counted.day.utterances == 0


def test_an_error_counts_even_before_anybody_was_heard(counted: Statistics) -> None:
    counted(Traced(replace(FAILED, last_speech=None)))
    assert (counted.day.utterances, counted.day.availability) == (1, 0.0)


def test_an_answer_before_the_end_took_no_time(counted: Statistics) -> None:
    counted(Traced(replace(trace(), answered=1.0)))
    assert counted.day.median_ms == 0.0


def test_what_is_older_than_a_day_is_forgotten(counted: Statistics, clock: Clock) -> None:
    counted(Traced(FAILED))
    clock.seconds += 12 * HOUR
    counted(Traced(trace(ms=10)))
    assert counted.day.availability == 0.5
    clock.seconds += 12 * HOUR + 301
    day = counted.day
    assert (day.utterances, day.availability) == (1, 1.0)
    clock.seconds += 12 * HOUR
    assert counted.day == Day(utterances=0, answered=0, failovers=0, availability=None, median_ms=None)


def test_a_busy_year_takes_no_more_room_than_a_busy_day(counted: Statistics, clock: Clock) -> None:
    for _ in range(20_000):
        counted(Traced(trace()))
        clock.seconds += 25
    assert len(counted._buckets) <= 289
    assert len(counted._times) <= 2000
    assert counted.day.utterances == pytest.approx(86_400 / 25, rel=0.01)


def test_the_latest_traces_are_dated_by_when_the_person_began(clock: Clock) -> None:
    began: list[float | None] = [990.0, None]
    history = History(clock=clock, now=lambda: NOON, began_at=lambda: began[0])
    history(Traced(trace()))
    history(Answered("a", 40.0, 2.0))
    began.pop(0)
    history(Traced(FAILED))
    assert [dated.at for dated in history.latest] == [NOON - timedelta(seconds=10), NOON]
    assert [dated.trace for dated in history.latest] == [trace(), FAILED]
    shown = json.loads(json.dumps(history.latest[0].as_json()))
    assert shown["at"] == "2026-11-24T11:59:50.000+00:00"
    assert shown["attempts"][0]["reason"] == "first"
    assert list(shown)[1:] == [
        "audio_seconds",
        "last_speech",
        "ended",
        "answered",
        "backend",
        "error",
        "attempts",
    ]


def test_no_more_than_fifty_traces_are_kept(clock: Clock) -> None:
    history = History(clock=clock, now=lambda: NOON, began_at=lambda: None)
    for number in range(60):
        history(Traced(trace(f"b{number}")))
    assert [dated.trace.backend for dated in history.latest] == [f"b{number}" for number in range(10, 60)]
