"""What happens, as it happens; on a virtual clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.virtual_clock import virtual_clock
from tests.wyoming_server.test_statistics import FAILED, LEFT, SILENT, attempt, trace
from wyoming_server.api.feed import Feed, SlowReaderError, Subscription
from wyoming_server.breaker import Cause, State
from wyoming_server.events import Answered, BreakerChanged, BudgetReached, Traced
from wyoming_server.statistics import History

ANSWERED = Answered("a", 40.0, 2.0)


class Scene:
    """A feed whose status is what a test says."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time
        self.status: dict[str, Any] = {"uptime": 0.0, "number": 0, "backends": [{"retry_in": 1.0}]}
        self.history = History(
            clock=self.now, now=lambda: datetime(2026, 11, 24, tzinfo=UTC), began_at=lambda: None
        )
        self.feed = Feed(lambda: {**self.status, "uptime": self.now()}, self.history)

    def tell(self, event: Any) -> None:
        self.history(event)
        self.feed(event)

    def change(self) -> None:
        self.status = {**self.status, "number": self.status["number"] + 1}
        self.tell(ANSWERED)


async def all_within(seconds: float, subscription: Subscription) -> list[tuple[float, dict[str, Any]]]:
    """The messages of so many seconds, and when they came."""
    loop = asyncio.get_running_loop()
    found = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await subscription.next()
                found.append((loop.time(), message))
    except TimeoutError:
        return found


@virtual_clock
async def test_the_first_message_is_how_everything_is_even_if_something_happens_meanwhile() -> None:
    scene = Scene()
    with scene.feed.subscription() as subscription:
        scene.tell(Traced(trace()))
        first, second = await subscription.next(), await subscription.next()
    assert first == {"type": "status", "status": {**scene.status, "uptime": 0.0}}
    assert second["type"] == "utterance"


@virtual_clock
async def test_the_status_is_told_when_it_changes_and_at_most_twice_a_second() -> None:
    scene = Scene()

    async def change_often() -> None:
        for _ in range(300):
            scene.change()
            await asyncio.sleep(0.01)

    with scene.feed.subscription() as subscription:
        changing = asyncio.create_task(change_often())
        told = await all_within(10, subscription)
        await changing
    times = [at for at, _ in told]
    assert times == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert told[-1][1]["status"]["number"] == 300


@virtual_clock
async def test_a_change_after_a_quiet_time_is_told_at_once() -> None:
    scene = Scene()
    with scene.feed.subscription() as subscription:
        await all_within(100, subscription)
        scene.change()
        ((at, message),) = await all_within(10, subscription)
    assert (at, message["status"]["number"]) == (100, 1)


@virtual_clock
async def test_what_moves_by_itself_is_no_change() -> None:
    scene = Scene()
    with scene.feed.subscription() as subscription:
        await subscription.next()
        scene.status = {**scene.status, "backends": [{"retry_in": 0.5}]}
        scene.tell(ANSWERED)
        scene.feed.poke()
        assert await all_within(30, subscription) == []


@virtual_clock
async def test_what_nobody_tells_of_is_seen_within_a_second() -> None:
    scene = Scene()
    with scene.feed.subscription() as subscription:
        await all_within(10, subscription)
        scene.status = {**scene.status, "number": 1}
        ((at, _),) = await all_within(10, subscription)
    assert at <= 11


@virtual_clock
async def test_every_utterance_is_told_with_its_trace_and_its_failover() -> None:
    scene = Scene()
    slow = trace("b", "a", "b", ms=50)
    broken = replace(slow, attempts=(replace(attempt("a"), error="unreachable"), attempt("b")))
    with scene.feed.subscription() as subscription:
        await subscription.next()
        for item in (trace(), slow, broken, FAILED, SILENT, LEFT):
            scene.tell(Traced(item))
        messages = [message for _, message in await all_within(5, subscription)]
    assert [message["type"] for message in messages] == [
        "utterance",
        "utterance",
        "failover",
        "utterance",
        "failover",
        "utterance",
        "failover",
        "utterance",
        "utterance",
    ]
    assert messages[0]["trace"] == scene.history.latest[0].as_json()
    failovers = [message for message in messages if message["type"] == "failover"]
    assert failovers == [
        {"type": "failover", "from": "a", "to": "b", "code": "late", "ms": pytest.approx(50)},
        {"type": "failover", "from": "a", "to": "b", "code": "unreachable", "ms": pytest.approx(50)},
        {"type": "failover", "from": "a", "to": None, "code": "late", "ms": None},
    ]


@virtual_clock
async def test_recoveries_and_budgets_are_told_and_outages_show_in_the_status() -> None:
    scene = Scene()
    with scene.feed.subscription() as subscription:
        await subscription.next()
        scene.tell(BreakerChanged("a", State.OPEN, Cause.NETWORK, 5.0))
        scene.tell(BreakerChanged("a", State.CLOSED, None, None))
        scene.tell(BudgetReached("a", 1.23456))
        messages = [message for _, message in await all_within(5, subscription)]
    assert messages == [
        {"type": "recovery", "backend": "a"},
        {"type": "budget", "backend": "a", "dollars": 1.2346},
    ]


@virtual_clock
async def test_who_does_not_read_is_dropped_and_keeps_nothing() -> None:
    scene = Scene()
    with scene.feed.subscription() as slow, scene.feed.subscription() as quick:
        await slow.next()
        for _ in range(200):
            scene.tell(Traced(trace()))
            await all_within(0.1, quick)
        with pytest.raises(SlowReaderError):
            await slow.next()
        assert len(slow._waiting) == 0
        scene.change()
        assert await all_within(1, quick)


@virtual_clock
async def test_who_has_left_is_told_nothing() -> None:
    scene = Scene()
    with scene.feed.subscription() as subscription:
        pass
    scene.tell(Traced(trace()))
    assert not subscription._waiting
    assert not scene.feed._subscriptions
