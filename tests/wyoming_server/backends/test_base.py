from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from tests.virtual_clock import virtual_clock
from wyoming_server.backends.base import Connected, Hypothesis, Request, relay
from wyoming_server.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wyoming_server.backends.base import Progress

FINAL = Hypothesis("Turn on.", is_final=True)


def test_key_terms_are_the_names_then_the_terms_each_once() -> None:
    request = Request(names=("Zoe", "Amir"), terms=("lamp", "Zoe", "lamp", "fan"))
    assert request.key_terms == ("Zoe", "Amir", "lamp", "fan")


@virtual_clock
async def test_reports_are_passed_on_as_they_come_and_the_result_last() -> None:
    async def run(report: Callable[[Progress], None]) -> Hypothesis:
        report(Connected())
        await asyncio.sleep(1)
        report(Hypothesis("Turn"))
        report(Hypothesis("Turn on"))
        await asyncio.sleep(1)
        return FINAL

    loop = asyncio.get_running_loop()
    assert [(item, loop.time()) async for item in relay(run)] == [
        (Connected(), 0.0),
        (Hypothesis("Turn"), 1.0),
        (Hypothesis("Turn on"), 1.0),
        (FINAL, 2.0),
    ]


@virtual_clock
async def test_an_error_comes_after_the_reports_before_it() -> None:
    async def run(report: Callable[[Progress], None]) -> Hypothesis:
        report(Hypothesis("Turn"))
        raise OverloadedError("busy")

    seen: list[Progress] = []

    async def read() -> None:
        async for item in relay(run):
            seen.append(item)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(OverloadedError, match="busy"):
        await read()
    assert seen == [Hypothesis("Turn")]


@virtual_clock
async def test_nothing_is_started_before_it_is_asked_for() -> None:
    async def run(_: Callable[[Progress], None]) -> Hypothesis:
        raise AssertionError

    await relay(run).aclose()


@virtual_clock
async def test_leaving_early_cancels_the_work_and_waits_until_it_has_tidied_up() -> None:
    tidied: list[float] = []

    async def run(report: Callable[[Progress], None]) -> Hypothesis:
        report(Connected())
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(1)
            tidied.append(asyncio.get_running_loop().time())
        return FINAL

    async with aclosing(relay(run)) as progress:
        assert await anext(progress) == Connected()
    assert tidied == [1.0]


@virtual_clock
async def test_whoever_is_cancelled_while_waiting_cancels_the_work() -> None:
    cancelled: list[bool] = []

    async def run(_: Callable[[Progress], None]) -> Hypothesis:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return FINAL

    async def read() -> None:
        async for _ in relay(run):
            raise AssertionError

    reading = asyncio.create_task(read())
    await asyncio.sleep(1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert cancelled == [True]


@virtual_clock
async def test_a_time_out_within_the_work_never_strikes_the_reader() -> None:
    async def run(report: Callable[[Progress], None]) -> Hypothesis:
        report(Connected())
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(10)
        except TimeoutError:
            return FINAL
        raise AssertionError

    seen = []
    async for item in relay(run):
        await asyncio.sleep(5)
        seen.append(item)
    assert seen == [Connected(), FINAL]
