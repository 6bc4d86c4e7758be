"""One utterance through an engine of scripted backends, on a virtual clock."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.engines import new_costs, new_engine
from tests.sounds import silence, speech
from wyoming_server.backends.base import Request
from wyoming_server.errors import BackendError
from wyoming_server.events import AttemptStarted, Traced
from wyoming_server.hedging import Strategy
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wyoming_server.backends.base import Backend, Hypothesis
    from wyoming_server.events import Event
    from wyoming_server.hedging import HedgeBudget
    from wyoming_server.trace import Reason, Trace

PIECE_MS = 60
ANYTHING = Request()


@dataclass
class Result:
    """What came out of an utterance, and when: seconds since it began."""

    hypotheses: list[Hypothesis] = field(default_factory=list)
    error: BackendError | None = None
    at: float = 0.0
    events: list[Event] = field(default_factory=list)

    @property
    def final(self) -> Hypothesis:
        assert self.error is None
        assert [item.is_final for item in self.hypotheses].count(True) == 1
        assert self.hypotheses[-1].is_final
        return self.hypotheses[-1]

    @property
    def partials(self) -> list[str]:
        return [item.text for item in self.hypotheses if not item.is_final]

    @property
    def started(self) -> dict[str, Reason]:
        return {event.backend: event.reason for event in self.events if isinstance(event, AttemptStarted)}

    @property
    def trace(self) -> Trace:
        (trace,) = (event.trace for event in self.events if isinstance(event, Traced))
        return trace


class House:
    """An engine that lives through several utterances."""

    def __init__(
        self,
        *backends: Backend,
        strategy: Strategy = Strategy.HEDGE,
        budget: HedgeBudget | None = None,
        prices: Mapping[str, float] | None = None,
        daily: float | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.costs = new_costs(prices or {}, budget=daily, listener=self.events.append)
        self.engine = new_engine(
            backends, listener=self.events.append, strategy=strategy, budget=budget, costs=self.costs
        )

    async def hear(
        self, stop: float = 2.0, *, pcm: Sequence[bytes] | None = None, request: Request = ANYTHING
    ) -> Result:
        """Let a person speak until `stop`, in pieces of PIECE_MS that come when they are spoken."""
        loop = asyncio.get_running_loop()
        began, before = loop.time(), len(self.events)
        recording = Recording(max_seconds=60, clock=loop.time)
        speaking = asyncio.create_task(_speak(recording, pcm or talk(stop), began + stop))
        result = Result()
        try:
            async with aclosing(self.engine.transcribe(recording, request)) as hypotheses:
                async for hypothesis in hypotheses:
                    result.hypotheses.append(hypothesis)
                    result.at = loop.time() - began
        except BackendError as error:
            result.error = error
            result.at = loop.time() - began
        finally:
            speaking.cancel()
            await asyncio.wait([speaking])
        result.events = self.events[before:]
        return result

    async def hear_last(self, stop: float = 2.0) -> Result:
        """As `hear`, and then close."""
        result = await self.hear(stop)
        await self.engine.close()
        return result


def talk(seconds: float, quiet: float = 0.0) -> list[bytes]:
    """Pieces of somebody talking without a pause, after so many quiet seconds."""
    number = round(seconds * 1000 / PIECE_MS)
    before = round(quiet * 1000 / PIECE_MS)
    voice = speech(600)
    size = PIECE_MS * 32
    pieces = [voice[at : at + size] for at in range(0, len(voice), size)]
    return [silence(PIECE_MS)] * before + [pieces[at % len(pieces)] for at in range(number - before)]


async def _speak(recording: Recording, pieces: Sequence[bytes], until: float) -> None:
    loop = asyncio.get_running_loop()
    for piece in pieces:
        recording.write(piece)
        await asyncio.sleep(PIECE_MS / 1000 - 1e-5)
    await asyncio.sleep(until - loop.time())
    recording.end()
