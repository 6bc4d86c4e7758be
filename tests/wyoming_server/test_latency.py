from __future__ import annotations

import math

from hypothesis import given, strategies as st

from wyoming_server.latency import Latency


def filled(values: list[float]) -> Latency:
    latency = Latency()
    for value in values:
        latency.add(value)
    return latency


def test_a_few_samples_say_nothing() -> None:
    assert filled([0.3] * 9).quantile(0.95) is None
    assert filled([0.3] * 10).quantile(0.95) == 0.3


def test_only_the_latest_hundred_count() -> None:
    assert filled([9.0] * 50 + [0.2] * 100).quantile(0.95) == 0.2


@given(
    values=st.lists(st.floats(0, 60), min_size=10, max_size=100),
    share=st.sampled_from([0.05, 0.5, 0.95, 1.0]),
)
def test_a_quantile_is_the_least_sample_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    quantile = filled(values).quantile(share)
    assert quantile in values
    needed = math.ceil(share * len(values))
    assert sum(value <= quantile for value in values) >= needed
    assert sum(value < quantile for value in values) < needed
