"""Backends without sockets for the virtual clock, as quick and as reliable as the weather lets them be."""

from __future__ import annotations

import asyncio
import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modal_whisper.languages import LANGUAGES
from wyoming_server.backends.base import Connected, Hypothesis
from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    OverdueError,
    OverloadedError,
    RateLimitedError,
    SignInRefusedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from random import Random

    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.recording import Audio

WORDS = "turn on the kitchen light"
TROUBLES = ("refused", "black hole", "deaf", "drop", "error", "stall", "slow", "busy", "key")
"""What an outage is like, one kind for each."""
_SLOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Outage:
    """From `start` to `end`, seconds of the year."""

    start: float
    end: float
    trouble: str


def outages(random: Random, *, share: float, seconds: float) -> list[Outage]:
    """Outages that take `share` of a time, in runs of two minutes to eight hours, mostly short ones."""
    found: list[Outage] = []
    now = 0.0
    while True:
        lasts = min(max(random.lognormvariate(6.9, 1.2), 120.0), 28_800.0)
        now += random.expovariate(share / (1 - share) / 2000.0) * 1.0
        if now + lasts > seconds:
            return found
        found.append(Outage(now, now + lasts, random.choice(TROUBLES)))
        now += lasts


class Weather:
    """When a service is out, and how."""

    def __init__(self, known: Sequence[Outage]) -> None:
        self._known = known
        self._starts = [outage.start for outage in known]

    def trouble(self, now: float) -> str | None:
        """What is wrong at that second; None where nothing is."""
        at = bisect.bisect_right(self._starts, now) - 1
        return self._known[at].trouble if at >= 0 and now < self._known[at].end else None


@dataclass(frozen=True, slots=True)
class Pace:
    """Median and spread (sigma of a log-normal) of the seconds that a service takes."""

    median: float
    sigma: float

    def draw(self, random: Random) -> float:
        """One sample."""
        return self.median * random.lognormvariate(0.0, self.sigma)


class SimulatedBackend:
    """A service that connects and answers at its pace, or fails in the way of the outage that it has.

    With `boots` it sleeps after 180 idle seconds, and the first utterance or warm-up afterwards wakes it.
    """

    languages = LANGUAGES

    def __init__(
        self,
        name: str,
        random: Random,
        weather: Weather,
        *,
        connect: Pace,
        answer: Pace,
        timeout: float,
        streams: bool = False,
        boots: Pace | None = None,
    ) -> None:
        self.name = name
        self.hears_while_spoken = streams
        self._random = random
        self._weather = weather
        self._connect = connect
        self._answer = answer
        self._timeout = timeout
        self._boots = boots
        self._ready_at = 0.0
        self._asleep_at = 0.0

    def start(self) -> None:
        """Nothing to prepare."""

    async def wait_ready(self) -> None:
        """Nothing to wait for."""

    async def close(self) -> None:
        """Nothing is open."""

    def warm(self) -> None:
        """Wake up, where it sleeps."""
        now = asyncio.get_running_loop().time()
        if self._boots and now >= self._asleep_at:
            self._ready_at = now + self._boots.draw(self._random)
        self._asleep_at = max(now, self._ready_at) + 180.0

    async def probe(self) -> None:
        """Connect only: what fails later than that is not seen."""
        error = await self._open()
        if error:
            raise error

    async def transcribe(self, recording: Audio, request: Request) -> AsyncGenerator[Progress, None]:
        """See Backend.transcribe."""
        del request
        error = await self._open()
        if error:
            raise error
        self.warm()
        yield Connected()
        trouble = self._weather.trouble(asyncio.get_running_loop().time())
        await asyncio.sleep(max(self._ready_at - asyncio.get_running_loop().time(), 0.0))
        if trouble in ("drop", "error"):
            await asyncio.sleep(0.7)
            raise DisconnectedError("dropped") if trouble == "drop" else OverloadedError("3005")
        if self.hears_while_spoken and trouble != "deaf":
            await asyncio.sleep(1.0)
            yield Hypothesis("turn on")
        await recording.wait_ended()
        if trouble in ("deaf", "stall"):
            await asyncio.sleep(self._timeout)
            raise OverdueError("no final")
        await asyncio.sleep(self._answer.draw(self._random) + (_SLOW_SECONDS if trouble == "slow" else 0.0))
        yield Hypothesis(WORDS, is_final=True)

    async def _open(self) -> BackendError | None:
        trouble = self._weather.trouble(asyncio.get_running_loop().time())
        if trouble == "black hole":
            await asyncio.sleep(3.0)
            return UnreachableError("no connection")
        await asyncio.sleep(self._connect.draw(self._random))
        match trouble:
            case "refused":
                return UnreachableError("refused")
            case "busy":
                return RateLimitedError("429", 60.0)
            case "key":
                return SignInRefusedError("1008")
            case _:
                return None
