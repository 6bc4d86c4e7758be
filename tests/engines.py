"""Engines for tests, with everything that a test does not care about."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wyoming_server.costs import Costs
from wyoming_server.engine import Engine
from wyoming_server.hedging import HedgeBudget, Patience, Strategy
from wyoming_server.race import Rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wyoming_server.backends.base import Backend
    from wyoming_server.events import Event, Listener


def ignore(_: Event) -> None:
    pass


def new_engine(
    backends: Sequence[Backend],
    *,
    deadline: float = 8.0,
    listener: Listener = ignore,
    strategy: Strategy = Strategy.FAILOVER,
    budget: HedgeBudget | None = None,
    costs: Costs | None = None,
) -> Engine:
    """On the running loop's clock, without chance."""
    rules = Rules(
        strategy=strategy, deadline=deadline, patience=Patience(), budget=budget or HedgeBudget(0.05)
    )
    clock = asyncio.get_running_loop().time
    return Engine(
        backends, rules, costs=costs or new_costs({}), listener=listener, clock=clock, chance=lambda: 0.5
    )


def new_costs(
    prices: Mapping[str, float], *, budget: float | None = None, listener: Listener = ignore
) -> Costs:
    """By the calendar of the running loop's clock, which begins in 1970."""
    clock = asyncio.get_running_loop().time
    return Costs(
        prices,
        budget=budget,
        today=lambda: datetime.fromtimestamp(clock(), UTC).date(),
        listener=listener,
    )
