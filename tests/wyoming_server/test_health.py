from __future__ import annotations

import pytest

from wyoming_server.breaker import Cause, State
from wyoming_server.errors import SignInRefusedError, UnreachableError
from wyoming_server.events import BreakerChanged, Event
from wyoming_server.health import Health


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def health(events: list[Event]) -> Health:
    return Health("cloud", clock=lambda: 100.0, chance=lambda: 0.5, listener=events.append)


def test_each_change_of_state_is_told_once(health: Health, events: list[Event]) -> None:
    health.failed(UnreachableError("refused"))
    health.failed(UnreachableError("refused"))
    health.begin_probe()
    health.failed(UnreachableError("refused"))
    health.begin_probe()
    health.recovered()
    health.recovered()
    assert events == [
        BreakerChanged("cloud", State.OPEN, Cause.NETWORK, 5.0),
        BreakerChanged("cloud", State.HALF_OPEN, Cause.NETWORK, None),
        BreakerChanged("cloud", State.OPEN, Cause.NETWORK, 10.0),
        BreakerChanged("cloud", State.HALF_OPEN, Cause.NETWORK, None),
        BreakerChanged("cloud", State.CLOSED, None, None),
    ]


def test_a_refused_sign_in_has_no_next_try(health: Health, events: list[Event]) -> None:
    health.failed(SignInRefusedError("1008"))
    assert events == [BreakerChanged("cloud", State.OPEN, Cause.SIGN_IN, None)]
    assert health.probe_at is None


def test_it_is_punctual_until_it_fails_or_is_overtaken(health: Health) -> None:
    assert health.is_punctual
    health.overtaken(0.7)
    assert not health.is_punctual
    health.answered(0.3)
    assert health.is_punctual
    health.failed(UnreachableError("refused"))
    assert not health.is_punctual
    health.recovered()
    assert health.is_punctual


def test_the_time_that_an_overtaken_one_had_counts_as_its_latency(health: Health) -> None:
    for _ in range(9):
        health.answered(0.3)
    assert health.p95 is None
    health.overtaken(1.4)
    assert health.p95 == 1.4
    assert health.is_closed
