"""A year of a household, in which the primary service is out for 5 % of the time, on the virtual clock.

Prints the share of the utterances that are answered, and that are within 3 s of the last sample, with all
backends and without each of them.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

from bench.common import p95, print_machine, print_table
from bench.simulated import Outage, Pace, SimulatedBackend, Weather, outages
from tests.sounds import silence, speech
from tests.virtual_clock import run_virtual
from wyoming_server.backends.base import Request
from wyoming_server.costs import Costs
from wyoming_server.engine import Engine
from wyoming_server.errors import BackendError
from wyoming_server.hedging import HedgeBudget, Patience, Strategy
from wyoming_server.race import Rules
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Iterable

_DAY = 86_400.0
_NAMES = ("assemblyai", "assemblyai_sync", "whisper", "local")
_IN_TIME = 3.0


@dataclass(slots=True)
class Tally:
    """What became of the utterances."""

    delays: list[float]
    unanswered: int = 0

    @property
    def total(self) -> int:
        """How many there were."""
        return len(self.delays) + self.unanswered

    def row(self, title: str) -> list[str]:
        """A line of the table."""
        in_time = sum(delay <= _IN_TIME for delay in self.delays)
        return [
            title,
            f"{len(self.delays) / self.total:.3%}",
            f"{in_time / self.total:.3%}",
            f"{sorted(self.delays)[len(self.delays) // 2]:.2f} s" if self.delays else "",
            f"{p95(self.delays):.2f} s" if self.delays else "",
            f"{max(self.delays):.2f} s" if self.delays else "",
        ]


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(prog="script/bench availability", description=__doc__)
    parser.add_argument("--days", type=int, default=365, help="(default: %(default)s)")
    parser.add_argument("--utterances", type=int, default=40, help="a day (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print_machine()
    rows = []
    for left_out in (None, *_NAMES):
        names = [name for name in _NAMES if name != left_out]
        tally = run_virtual(_live(names, options.days, options.utterances, options.seed))
        rows.append(tally.row(f"without {left_out}" if left_out else "all four"))
    rows.append(
        run_virtual(_live(["assemblyai"], options.days, options.utterances, options.seed)).row(
            "assemblyai alone"
        )
    )
    print_table(["backends", "answered", "within 3 s", "median", "p95", "slowest"], rows)


def _backends(names: Iterable[str], days: int, seed: int) -> list[SimulatedBackend]:
    random = Random(seed)
    seconds = days * _DAY
    primary = outages(random, share=0.05, seconds=seconds)
    # Half of the vendor's outages hit its other endpoint as well, in the same way.
    shared = [outage for outage in primary if random.random() < 0.5]
    worker = outages(random, share=0.01, seconds=seconds)
    never: list[Outage] = []
    every = [
        SimulatedBackend(
            "assemblyai",
            random,
            Weather(primary),
            connect=Pace(0.2, 0.3),
            answer=Pace(0.3, 0.2),
            timeout=1.5,
            streams=True,
        ),
        SimulatedBackend(
            "assemblyai_sync",
            random,
            Weather(shared),
            connect=Pace(0.15, 0.3),
            answer=Pace(0.35, 0.3),
            timeout=1.5,
        ),
        SimulatedBackend(
            "whisper",
            random,
            Weather(worker),
            connect=Pace(0.2, 0.3),
            answer=Pace(0.4, 0.3),
            timeout=3.0,
            boots=Pace(8.0, 0.4),
        ),
        SimulatedBackend(
            "local", random, Weather(never), connect=Pace(0.001, 0.1), answer=Pace(0.7, 0.2), timeout=8.0
        ),
    ]
    return [backend for backend in every if backend.name in names]


async def _live(names: list[str], days: int, utterances: int, seed: int) -> Tally:
    loop = asyncio.get_running_loop()
    random = Random(seed)
    rules = Rules(strategy=Strategy.HEDGE, deadline=8.0, patience=Patience(), budget=HedgeBudget(0.05))
    costs = Costs(
        {}, budget=None, today=lambda: datetime.fromtimestamp(loop.time(), UTC).date(), listener=_ignore
    )
    engine = Engine(
        _backends(names, days, seed),
        rules,
        costs=costs,
        listener=_ignore,
        clock=loop.time,
        chance=random.random,
    )
    tally = Tally([])
    repairs = asyncio.create_task(_repair(engine, days, seed))
    for _ in range(days * utterances):
        await asyncio.sleep(random.expovariate(utterances / _DAY))
        await _say(engine, random, tally)
    repairs.cancel()
    await asyncio.wait([repairs])
    await engine.close()
    return tally


async def _repair(engine: Engine, days: int, seed: int) -> None:
    """Somebody enters a new key at the end of every outage that an old key was the cause of."""
    loop = asyncio.get_running_loop()
    for outage in outages(Random(seed), share=0.05, seconds=days * _DAY):
        if outage.trouble == "key":
            await asyncio.sleep(outage.end - loop.time())
            engine.close_breakers()


async def _say(engine: Engine, random: Random, tally: Tally) -> None:
    loop = asyncio.get_running_loop()
    recording = Recording(max_seconds=60, clock=loop.time)
    speaking = asyncio.create_task(_speak(recording, random.uniform(1.0, 3.0)))
    try:
        async with aclosing(engine.transcribe(recording, Request(language="en"))) as hypotheses:
            async for hypothesis in hypotheses:
                if hypothesis.is_final:
                    tally.delays.append(loop.time() - (recording.ended_at or loop.time()))
    except BackendError:
        tally.unanswered += 1
    await speaking


async def _speak(recording: Recording, seconds: float) -> None:
    """Speak for so long, then be silent for the 0.7 s after which Home Assistant ends an utterance."""
    piece = speech(300)
    for _ in range(round(seconds / 0.3)):
        recording.write(piece)
        await asyncio.sleep(0.3)
    recording.write(silence(700))
    await asyncio.sleep(0.7)
    recording.end()


def _ignore(_: object) -> None:
    """Nobody listens."""


if __name__ == "__main__":
    main()
