from __future__ import annotations

import pytest

from wyoming_server.api.attempts import Attempts


class Clock:
    def __init__(self) -> None:
        self.seconds = 5000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


def test_ten_wrong_tokens_within_a_minute_are_enough(attempts: Attempts, clock: Clock) -> None:
    for _ in range(9):
        attempts.fail("192.0.2.1")
        clock.seconds += 1
    assert attempts.wait("192.0.2.1") == 0
    attempts.fail("192.0.2.1")
    assert attempts.wait("192.0.2.1") == 51
    assert attempts.wait("192.0.2.2") == 0
    clock.seconds += 51
    assert attempts.wait("192.0.2.1") == 0
    attempts.fail("192.0.2.1")
    assert attempts.wait("192.0.2.1") == 1


def test_a_wrong_token_now_and_then_is_no_attack(attempts: Attempts, clock: Clock) -> None:
    for _ in range(100):
        attempts.fail("192.0.2.1")
        clock.seconds += 6.1
        assert attempts.wait("192.0.2.1") == 0


@pytest.mark.parametrize(
    ("one", "other", "are_the_same"),
    [
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
    ],
)
def test_who_has_a_whole_network_is_one(
    attempts: Attempts, one: str, other: str, *, are_the_same: bool
) -> None:
    for _ in range(10):
        attempts.fail(one)
    assert bool(attempts.wait(other)) == are_the_same


def test_many_addresses_take_no_more_room(attempts: Attempts) -> None:
    for number in range(5000):
        attempts.fail(f"10.0.{number // 256}.{number % 256}")
    assert len(attempts._failures) == 1024
    for _ in range(9):
        attempts.fail("10.0.19.135")
    assert attempts.wait("10.0.19.135") > 0


def test_who_goes_on_guessing_is_not_forgotten_for_those_who_guess_once(attempts: Attempts) -> None:
    for turn in range(10):
        attempts.fail("192.0.2.1")
        for number in range(200):
            attempts.fail(f"10.0.{turn}.{number}")
    assert attempts.wait("192.0.2.1") > 0
