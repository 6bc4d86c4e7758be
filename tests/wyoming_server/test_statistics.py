from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from wyoming_server.events import Answered, Traced
from wyoming_server.statistics import Day, History, Hours, Statistics
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


class Wall:
    """The clock on the wall, in a country half an hour off."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 24, 12, 40, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    def __call__(self) -> datetime:
        return self.time


def test_the_hours_of_a_day_are_those_of_the_clock_on_the_wall() -> None:
    hours = Hours(wall := Wall())
    for item in (trace(ms=10), trace("b", "a", "b", ms=30), trace(ms=20), FAILED, SILENT, LEFT):
        hours(Traced(item))
    hours(Answered("a", 40.0, 2.0))
    wall.time += timedelta(minutes=20)
    hours(Traced(trace(ms=50)))
    latest = hours.latest
    assert len(latest) == 24
    assert [hour.utterances for hour in latest[:-2]] == [0] * 22
    before, now = latest[-2:]
    assert (now.start, now.utterances, now.backends) == (wall.time, 1, {"a": 1})
    assert before.start == wall.time - timedelta(hours=1)
    shown = json.loads(json.dumps(before.as_json()))
    assert shown == {
        "from": "2026-11-24T12:00:00+05:30",
        "utterances": 4,
        "answered": 3,
        "failovers": 1,
        "median_ms": 20.0,
        "backends": {"a": 2, "b": 1},
    }
    assert latest[0].as_json()["median_ms"] is None


def test_an_answer_that_is_nobodys_counts_as_an_answer_of_the_hour() -> None:
    hours = Hours(Wall())
    hours(Traced(trace("", "a")))  # somebody made a noise, and nobody had words for it
    assert (hours.latest[-1].answered, hours.latest[-1].failovers, hours.latest[-1].backends) == (1, 0, {})


def test_hours_older_than_a_day_are_forgotten() -> None:
    hours = Hours(wall := Wall())
    for _ in range(100):
        hours(Traced(trace()))
        wall.time += timedelta(hours=1)
    assert [hour.utterances for hour in hours.latest] == [1] * 23 + [0]
    assert len(hours._hours) <= 24
    wall.time += timedelta(days=3)
    assert not any(hour.utterances for hour in hours.latest)


def test_a_clock_that_is_put_back_leaves_no_hours_of_the_future() -> None:
    hours = Hours(wall := Wall())
    hours(Traced(trace()))
    wall.time -= timedelta(hours=2)
    hours(Traced(trace()))
    assert [hour.utterances for hour in hours.latest] == [0] * 23 + [1]
    assert len(hours._hours) == 1


def test_a_busy_hour_remembers_a_bounded_number_of_waits() -> None:
    hours = Hours(Wall())
    for _ in range(2_000):
        hours(Traced(trace()))
    assert hours.latest[-1].answered == 2_000
    assert len(next(iter(hours._hours.values())).times) == 500
