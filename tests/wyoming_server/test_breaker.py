from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from wyoming_server.breaker import Breaker, Cause, State
from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    InternalError,
    NotReadyError,
    OverdueError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
    UnreachableError,
)

NETWORK = UnreachableError("no connection")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock, chance=lambda: 0.5)  # the middle of the jitter


def test_a_new_breaker_is_closed(breaker: Breaker) -> None:
    assert (breaker.state, breaker.cause, breaker.probe_at) == (State.CLOSED, None, None)
    assert breaker.is_closed


@pytest.mark.parametrize(
    ("error", "cause", "pause"),
    [
        (UnreachableError("x"), Cause.NETWORK, 5.0),
        (DisconnectedError("x"), Cause.NETWORK, 5.0),
        (OverloadedError("x"), Cause.OVERLOAD, 5.0),
        (NotReadyError("x"), Cause.NOT_READY, 5.0),
        (InternalError("x"), Cause.OVERLOAD, 5.0),
        (RateLimitedError("x"), Cause.RATE_LIMIT, 30.0),
    ],
)
def test_a_failure_opens_it_at_once_and_names_the_cause(
    breaker: Breaker, error: BackendError, cause: Cause, pause: float
) -> None:
    breaker.fail(error)
    assert (breaker.state, breaker.cause) == (State.OPEN, cause)
    assert breaker.probe_at == pytest.approx(1000.0 + pause)
    assert not breaker.is_closed


def test_a_refused_sign_in_is_not_probed(breaker: Breaker) -> None:
    breaker.fail(SignInRefusedError("1008"))
    assert (breaker.state, breaker.cause, breaker.probe_at) == (State.OPEN, Cause.SIGN_IN, None)


def test_nothing_that_fails_later_makes_a_refused_sign_in_be_probed(breaker: Breaker) -> None:
    breaker.fail(SignInRefusedError("1008"))
    breaker.fail(NETWORK)
    assert (breaker.cause, breaker.probe_at) == (Cause.SIGN_IN, None)


def test_a_told_pause_is_kept_and_never_shortened(clock: Clock) -> None:
    for chance in (0.0, 0.5, 0.99):
        breaker = Breaker(clock=clock, chance=lambda chance=chance: chance)  # type: ignore[misc]  # bound early
        breaker.fail(RateLimitedError("429", 60.0))
        assert breaker.probe_at is not None
        assert 1060.0 <= breaker.probe_at <= 1072.0


def test_a_pause_told_as_negative_is_none(breaker: Breaker) -> None:
    breaker.fail(RateLimitedError("429", -5.0))
    assert breaker.probe_at == 1000.0


def test_each_failed_probe_doubles_the_pause_up_to_five_minutes(breaker: Breaker, clock: Clock) -> None:
    pauses = []
    for _ in range(9):
        breaker.fail(NETWORK)
        assert breaker.probe_at is not None
        pauses.append(breaker.probe_at - clock.now)
        clock.now = breaker.probe_at
        breaker.begin_probe()
        assert breaker.state is State.HALF_OPEN
        assert not breaker.is_closed
    assert pauses == pytest.approx([5, 10, 20, 40, 80, 160, 300, 300, 300])


def test_success_closes_it_and_forgets(breaker: Breaker, clock: Clock) -> None:
    for _ in range(4):
        breaker.fail(NETWORK)
    breaker.begin_probe()
    breaker.succeed()
    assert (breaker.state, breaker.cause, breaker.probe_at) == (State.CLOSED, None, None)
    breaker.fail(NETWORK)
    assert breaker.probe_at == pytest.approx(clock.now + 5)


def test_rejected_requests_open_it_only_in_a_row_since_one_may_be_that_clients_fault(
    breaker: Breaker,
) -> None:
    for _ in range(2):
        breaker.fail(RejectedError("bad words"))
        assert breaker.is_closed
    breaker.fail(RejectedError("bad words"))
    assert breaker.cause is Cause.OVERLOAD


@pytest.mark.parametrize(("told", "pause"), [(60.0, 66.0), (0.0, 5.0), (None, 5.0)])
def test_an_overloaded_service_may_ask_for_a_longer_pause_and_for_no_shorter_one(
    breaker: Breaker, told: float | None, pause: float
) -> None:
    breaker.fail(OverloadedError("503", told))
    assert (breaker.cause, breaker.probe_at) == (Cause.OVERLOAD, pytest.approx(1000.0 + pause))


@pytest.mark.parametrize("told", [3600.0, 1e9])
def test_a_told_pause_is_believed_for_an_hour_at_most(breaker: Breaker, told: float) -> None:
    breaker.fail(RateLimitedError("429", told))
    assert breaker.probe_at == pytest.approx(1000.0 + 3600.0 * 1.1)


def test_what_fails_meanwhile_does_not_shorten_a_told_pause(breaker: Breaker) -> None:
    breaker.fail(RateLimitedError("429", 300.0))
    breaker.fail(NETWORK)
    assert breaker.probe_at == pytest.approx(1330.0)


@pytest.mark.parametrize("is_error", [True, False])
def test_lateness_opens_it_when_it_comes_three_times_in_a_row(breaker: Breaker, *, is_error: bool) -> None:
    def be_late() -> None:
        if is_error:
            breaker.fail(OverdueError("no final"))
        else:
            breaker.be_late()

    be_late()
    be_late()
    assert breaker.is_closed
    breaker.succeed()
    be_late()
    be_late()
    assert breaker.is_closed
    be_late()
    assert (breaker.state, breaker.cause) == (State.OPEN, Cause.OVERLOAD)


@given(chances=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_a_pause_stays_within_a_fifth_of_its_middle_and_its_bounds(chances: list[float]) -> None:
    clock = Clock()
    feed = iter(chances)
    breaker = Breaker(clock=clock, chance=lambda: next(feed))
    for number in range(len(chances)):
        breaker.fail(NETWORK)
        assert breaker.probe_at is not None
        middle = min(5.0 * 2**number, 300.0)
        assert 0.8 * middle <= breaker.probe_at - clock.now <= 1.2 * middle
        breaker.begin_probe()


def test_many_utterances_that_fail_in_one_outage_count_as_one_failure(breaker: Breaker, clock: Clock) -> None:
    for _ in range(16):
        breaker.fail(NETWORK)
    assert breaker.probe_at == pytest.approx(clock.now + 5)
    breaker.begin_probe()
    breaker.fail(NETWORK)
    assert breaker.probe_at == pytest.approx(clock.now + 10)
