from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, strategies as st

from tests.virtual_clock import BlockedForeverError, LeftBehindError, run_virtual, virtual_clock

YEAR = 365 * 24 * 3600.0


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual_clock
async def test_waiting_for_years_takes_no_time_and_moves_the_clock_exactly() -> None:
    started = time.monotonic()
    assert now() == 0.0
    await asyncio.sleep(10 * YEAR)
    assert now() == 10 * YEAR
    assert time.monotonic() - started < YEAR


@virtual_clock
async def test_the_clock_stands_still_while_there_is_work() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)
    assert now() == 0.0


@virtual_clock
async def test_sums_of_short_waits_are_round() -> None:
    for _ in range(30):
        await asyncio.sleep(0.1)
    assert now() == 3.0


@virtual_clock
async def test_timers_come_in_the_order_of_their_times() -> None:
    seen: list[tuple[float, str]] = []

    async def note(name: str, after: float) -> None:
        await asyncio.sleep(after)
        seen.append((now(), name))

    await asyncio.gather(note("late", 2.5), note("early", 0.5), note("next", 0.5001), note("between", 1.0))
    assert seen == [(0.5, "early"), (0.5001, "next"), (1.0, "between"), (2.5, "late")]


@virtual_clock
async def test_a_timeout_strikes_at_its_time() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(8):
            await asyncio.Event().wait()
    assert now() == 8.0


def test_a_wait_for_nothing_is_a_failure_that_names_who_waits() -> None:
    async def wait_for_godot() -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        await asyncio.sleep(5)
        await asyncio.create_task(wait_for_godot(), name="Vladimir")

    with pytest.raises(BlockedForeverError, match=r"(?s)at 5 s.*Vladimir"):
        run_virtual(test())


def test_a_task_that_is_left_is_a_failure() -> None:
    async def test() -> None:
        task = asyncio.create_task(asyncio.sleep(1), name="forgotten")
        await asyncio.sleep(0)
        assert not task.done()

    with pytest.raises(LeftBehindError, match="forgotten"):
        run_virtual(test())


def test_a_task_whose_error_nobody_sees_is_a_failure() -> None:
    async def fail() -> None:
        raise OSError("unseen")

    async def test() -> None:
        asyncio.create_task(fail())  # noqa: RUF006 - to be forgotten is what it is for
        await asyncio.sleep(1)

    with pytest.raises(LeftBehindError, match="unseen"):
        run_virtual(test())


def test_what_the_test_raises_comes_out_as_it_is() -> None:
    async def test() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_virtual(test())


@pytest.mark.parametrize("seconds", [1.0, 2.0])
@virtual_clock
async def test_the_decorator_hands_parameters_and_fixtures_on(
    seconds: float, request: pytest.FixtureRequest
) -> None:
    await asyncio.sleep(seconds)
    assert now() == request.node.callspec.params["seconds"]


@given(waits=st.lists(st.integers(0, 10**6), max_size=5))
@virtual_clock
async def test_every_example_of_hypothesis_has_a_clock_of_its_own(waits: list[int]) -> None:
    assert now() == 0.0
    for wait in waits:
        await asyncio.sleep(wait)
    assert now() == sum(waits)


async def test_an_ordinary_async_test_beside_it_lives_on_real_time() -> None:
    assert now() > 0.0
