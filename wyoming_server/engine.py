"""The engine: a backend made of backends that gives exactly one answer, by a deadline."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from wyoming_server.attempt import Member
from wyoming_server.errors import AllFailedError, BackendError
from wyoming_server.events import BreakerChanged, Traced, Unanswered
from wyoming_server.health import Health
from wyoming_server.race import Race
from wyoming_server.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from wyoming_server.backends.base import Backend, Hypothesis, Request
    from wyoming_server.costs import Costs
    from wyoming_server.events import Event, Listener
    from wyoming_server.race import Rules
    from wyoming_server.recording import Recording


class Engine:
    """Asks its backends, each from the first sample, until one gives the words.

    Args:
        backends: in the order of preference.
        rules: see Rules.
        costs: who is over budget is asked last.
        listener: is told every fact.
        clock: seconds that never go backwards, those of the event loop.
        chance: a number from 0 to below 1.
    """

    name = "engine"
    hears_while_spoken = True

    def __init__(
        self,
        backends: Sequence[Backend],
        rules: Rules,
        *,
        costs: Costs,
        listener: Listener,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._costs = costs
        self._listener = listener
        self._members = [
            Member(backend, Health(backend.name, clock=clock, chance=chance, listener=self._hear))
            for backend in backends
        ]
        self._recoveries = {member.name: Recovery(member.backend, member.health) for member in self._members}

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends, in the order of preference."""
        return tuple(member.backend for member in self._members)

    @property
    def languages(self) -> frozenset[str]:
        """Every language that at least one backend understands."""
        return frozenset().union(*(backend.languages for backend in self.backends))

    def start(self) -> None:
        """Let every backend prepare itself in the background."""
        for backend in self.backends:
            backend.start()

    def warm(self) -> None:
        """Let every backend get ready for an utterance that may come."""
        for backend in self.backends:
            backend.warm()

    async def probe(self) -> None:
        """Return if any backend works, else raise AllFailedError."""
        errors: dict[str, BackendError] = {}
        for backend in self.backends:
            try:
                await backend.probe()
            except BackendError as error:
                errors[backend.name] = error
            else:
                return
        raise AllFailedError(errors)

    def close_breakers(self) -> None:
        """Ask every backend again, as after a change that may have helped."""
        for member in self._members:
            member.health.recovered()

    async def wait_ready(self) -> None:
        """Return once every backend is ready; raises the error of one that cannot be."""
        await asyncio.gather(*(backend.wait_ready() for backend in self.backends))

    async def close(self) -> None:
        """End what the backends still have open."""
        await asyncio.gather(*(recovery.close() for recovery in self._recoveries.values()))
        await asyncio.gather(*(backend.close() for backend in self.backends))

    async def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Hypothesis, None]:
        """Yield partials and exactly one final, or raise AllFailedError or DeadlineError."""
        self._rules.budget.earn()
        race = Race(self._order(request), recording, request, self._rules, self._listener)
        try:
            async with aclosing(race.run()) as hypotheses:
                async for hypothesis in hypotheses:
                    yield hypothesis
        except BackendError as error:
            self._listener(Unanswered(error, recording.seconds))
            raise
        finally:
            self._listener(Traced(race.trace(self._costs.price)))

    def _order(self, request: Request) -> list[Member]:
        """Who may be asked, best first: as preferred, then who is over budget, then who is known bad."""
        candidates = [
            member
            for member in self._members
            if request.backend in (None, member.name)
            and (request.language is None or request.language in member.backend.languages)
        ]
        return sorted(
            candidates,
            key=lambda member: (not member.health.is_closed, self._costs.is_over_budget(member.name)),
        )

    def _hear(self, event: Event) -> None:
        self._listener(event)
        if isinstance(event, BreakerChanged):
            self._recoveries[event.backend].watch()
