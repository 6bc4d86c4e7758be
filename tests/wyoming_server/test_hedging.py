from __future__ import annotations

import pytest

from wyoming_server.hedging import HedgeBudget, Patience


@pytest.mark.parametrize(
    ("p95", "wait"), [(None, 0.6), (0.0, 0.3), (0.31, 0.31), (1.2, 1.2), (1.5, 1.5), (7.0, 1.5)]
)
def test_the_wait_after_the_stop_is_the_backends_own_p95_within_bounds(
    p95: float | None, wait: float
) -> None:
    assert Patience().after_stop(p95) == wait


def test_the_first_stalls_are_covered_then_one_hedge_in_twenty_utterances() -> None:
    budget = HedgeBudget(0.05)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    hedges = 0
    for _ in range(1000):
        budget.earn()
        hedges += budget.spend()
    assert hedges in (49, 50)


def test_what_is_saved_up_has_a_limit() -> None:
    budget = HedgeBudget(1.0)
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]


def test_a_share_of_nothing_allows_the_saved_ones_only() -> None:
    budget = HedgeBudget(0.0)
    for _ in range(1000):
        budget.earn()
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
