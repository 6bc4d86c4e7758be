from __future__ import annotations

from datetime import date, timedelta

import pytest

from wyoming_server.costs import Costs
from wyoming_server.events import BudgetReached, Event
from wyoming_server.usage import Usage


class Calendar:
    def __init__(self) -> None:
        self.day = date(2026, 11, 24)

    def __call__(self) -> date:
        return self.day


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def events() -> list[Event]:
    return []


def costs(calendar: Calendar, events: list[Event], budget: float | None = 0.9) -> Costs:
    return Costs({"cloud": 0.45, "gpu": 1.1}, budget=budget, today=calendar, listener=events.append)


def test_seconds_are_counted_by_backend_and_priced_by_the_hour(
    calendar: Calendar, events: list[Event]
) -> None:
    counted = costs(calendar, events)
    counted.add("cloud", 3000)
    counted.add("cloud", 600)
    counted.add("gpu", 1800)
    counted.add("local", 99)
    assert (counted.seconds("cloud"), counted.seconds("gpu"), counted.seconds("local")) == (3600, 1800, 99)
    assert counted.dollars("cloud") == pytest.approx(0.45)
    assert counted.dollars("gpu") == pytest.approx(0.55)
    assert counted.dollars("local") == 0.0
    assert events == []


def test_a_backend_over_its_budget_is_told_of_once_a_day(calendar: Calendar, events: list[Event]) -> None:
    counted = costs(calendar, events)
    counted.add("cloud", 7199)
    assert not counted.is_over_budget("cloud")
    counted.add("cloud", 1)
    counted.add("cloud", 3600)
    assert counted.is_over_budget("cloud")
    assert not counted.is_over_budget("gpu")
    assert events == [BudgetReached("cloud", pytest.approx(0.9))]


def test_a_new_day_begins_with_nothing(calendar: Calendar, events: list[Event]) -> None:
    counted = costs(calendar, events)
    counted.add("cloud", 7200)
    calendar.day += timedelta(days=1)
    assert counted.seconds("cloud") == 0.0
    assert not counted.is_over_budget("cloud")
    counted.add("cloud", 7200)
    assert len(events) == 2


def test_a_free_backend_is_never_over_budget_even_of_nothing(calendar: Calendar, events: list[Event]) -> None:
    counted = costs(calendar, events, budget=0.0)
    counted.add("local", 1e6)
    assert not counted.is_over_budget("local")
    counted.add("cloud", 1)
    assert counted.is_over_budget("cloud")


def test_without_a_budget_nobody_is_over_it(calendar: Calendar, events: list[Event]) -> None:
    counted = costs(calendar, events, budget=None)
    counted.add("cloud", 1e9)
    assert not counted.is_over_budget("cloud")
    assert events == []


def test_a_month_goes_on_over_its_days_and_ends_with_them(calendar: Calendar, events: list[Event]) -> None:
    counted = costs(calendar, events)
    counted.add("cloud", 3600)
    calendar.day += timedelta(days=1)
    counted.add("cloud", 1800)
    assert (counted.seconds("cloud"), counted.month_seconds("cloud")) == (1800, 5400)
    assert counted.month_dollars("cloud") == pytest.approx(0.675)
    calendar.day = date(2026, 12, 1)
    assert (counted.seconds("cloud"), counted.month_seconds("cloud")) == (0.0, 0.0)
    counted.add("cloud", 60)
    calendar.day = date(2027, 12, 1)
    assert counted.month_seconds("cloud") == 0.0


def test_other_prices_and_another_budget_count_for_what_was_used_already(
    calendar: Calendar, events: list[Event]
) -> None:
    counted = costs(calendar, events, budget=None)
    counted.add("cloud", 3600)
    counted.set_prices({"cloud": 2.0}, 1.0)
    assert counted.dollars("cloud") == counted.month_dollars("cloud") == 2.0
    assert counted.is_over_budget("cloud")
    assert events == [BudgetReached("cloud", 2.0)]
    counted.set_prices({"cloud": 0.1}, 1.0)
    assert not counted.is_over_budget("cloud")


def restarted(counted: Costs, calendar: Calendar, events: list[Event], budget: float | None = 0.9) -> Costs:
    again = costs(calendar, events, budget)
    again.restore(Usage.from_text(counted.usage.as_text()))
    return again


def test_the_budget_of_a_day_holds_over_a_restart(calendar: Calendar, events: list[Event]) -> None:
    counted = costs(calendar, events)
    counted.add("cloud", 5400)
    counted = restarted(counted, calendar, events)
    assert not counted.is_over_budget("cloud")
    counted.add("cloud", 1800)
    assert events == [BudgetReached("cloud", pytest.approx(0.9))]
    counted = restarted(counted, calendar, events)
    assert counted.is_over_budget("cloud")
    assert (counted.seconds("cloud"), counted.month_seconds("cloud")) == (7200, 7200)
    calendar.day += timedelta(days=1)
    assert not counted.is_over_budget("cloud")
    assert (counted.seconds("cloud"), counted.month_seconds("cloud")) == (0, 7200)


def test_a_restarted_server_tells_once_who_is_over_budget(calendar: Calendar, events: list[Event]) -> None:
    counted = costs(calendar, events)
    counted.add("cloud", 7200)
    counted.add("gpu", 60)
    events.clear()
    counted = restarted(counted, calendar, events)
    assert events == [BudgetReached("cloud", pytest.approx(0.9))]
    counted.add("cloud", 60)
    assert len(events) == 1


def test_the_budget_holds_while_the_clock_is_not_set_yet(calendar: Calendar, events: list[Event]) -> None:
    counted = costs(calendar, events)
    counted.add("cloud", 7200)
    calendar.day = date(1970, 1, 1)
    counted = restarted(counted, calendar, events)
    assert counted.is_over_budget("cloud")
    calendar.day = date(2026, 11, 24)
    assert counted.is_over_budget("cloud")
    calendar.day = date(2026, 11, 25)
    assert not counted.is_over_budget("cloud")
    assert counted.month_dollars("cloud") == pytest.approx(0.9)
