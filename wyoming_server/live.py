"""The engine that takes other settings while it works, without hurting the utterances in flight."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wyoming_server.attempt import Member
from wyoming_server.backends.sockets import BackgroundTasks
from wyoming_server.breaker import State
from wyoming_server.engine import Engine
from wyoming_server.events import BreakerChanged
from wyoming_server.health import Health
from wyoming_server.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from wyoming_server.backends.base import Backend, Hypothesis, Request
    from wyoming_server.costs import Costs
    from wyoming_server.events import Event, Listener
    from wyoming_server.race import Rules
    from wyoming_server.recording import Recording

_BEGAN: Final[ContextVar[float]] = ContextVar("began")


@dataclass(frozen=True, slots=True)
class _Place:
    member: Member
    health: Health
    recovery: Recovery


class LiveEngine(Engine):
    """An Engine whose backends and rules can be exchanged; for the rest see Engine.

    An utterance keeps the backends that it began with. Those that are not among the new ones are closed when
    the last utterance that may ask them is over.
    """

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
        super().__init__((), rules, costs=costs, listener=listener, clock=clock, chance=chance)
        self._clock = clock
        self._chance = chance
        self._places: dict[str, _Place] = {}
        self._uses: Counter[object] = Counter()
        self._leaving: dict[object, Backend] = {}
        self._closing = BackgroundTasks()
        self._seat(backends)

    @property
    def healths(self) -> dict[str, Health]:
        """How the present backends are doing, by name, in the order of preference."""
        return {member.name: self._places[member.name].health for member in self._members}

    def swap(self, backends: Sequence[Backend], rules: Rules) -> None:
        """From the next utterance on, ask these by those rules.

        A backend that is there already keeps its breaker and its latency; a new one is started.
        """
        before = self._places
        self._rules = rules
        self._seat(backends)
        for name, place in before.items():
            now = self._places.get(name)
            if now is place:
                continue
            self._closing.add(place.recovery.close())
            self._leaving[footing(place.member.backend)] = place.member.backend
            if now and not place.health.is_closed:
                self._listener(BreakerChanged(name, State.CLOSED, None, None))
        for name, place in self._places.items():
            if before.get(name) is not place:
                place.member.backend.start()
        self._let_go()

    async def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Hypothesis, None]:
        """See Engine.transcribe."""
        with self.using(self.backends):
            _BEGAN.set(self._clock())
            async with aclosing(super().transcribe(recording, request)) as hypotheses:
                async for hypothesis in hypotheses:
                    yield hypothesis

    @contextmanager
    def using(self, backends: Sequence[Backend]) -> Iterator[None]:
        """Keep these open for as long as this lasts; after it, those that nobody else needs are closed."""
        used = {footing(backend): backend for backend in backends}
        self._uses.update(used.keys())
        try:
            yield
        finally:
            self._uses.subtract(used.keys())
            self._leaving |= {needed: item for needed, item in used.items() if not self._is_present(needed)}
            self._let_go()

    async def close(self) -> None:
        """End what the backends still have open, those included that have been exchanged."""
        leaving, self._leaving = self._leaving, {}
        for needed, backend in leaving.items():
            if not self._is_present(needed):
                self._closing.add(backend.close())
        await super().close()
        await self._closing.wait()

    def _seat(self, backends: Sequence[Backend]) -> None:
        places = {}
        for backend in backends:
            place = self._places.get(backend.name)
            is_kept = place is not None and place.member.backend is backend
            places[backend.name] = place if place is not None and is_kept else self._new_place(backend)
        self._places = places
        self._members = [place.member for place in places.values()]
        self._recoveries = {name: place.recovery for name, place in places.items()}

    def _new_place(self, backend: Backend) -> _Place:
        def hear(event: Event) -> None:
            if self._places.get(backend.name) is place:  # else it says nothing about its successor
                self._hear(event)

        health = Health(backend.name, clock=self._clock, chance=self._chance, listener=hear)
        place = _Place(Member(backend, health), health, Recovery(backend, health))
        return place

    def _is_present(self, needed: object) -> bool:
        return any(footing(backend) is needed for backend in self.backends)

    def _let_go(self) -> None:
        """Close who has been exchanged and is needed no more."""
        for needed in [item for item in self._leaving if self._uses[item] <= 0]:
            backend = self._leaving.pop(needed)
            if not self._is_present(needed):
                self._closing.add(backend.close())
        self._uses = +self._uses


def began_at() -> float | None:
    """When the utterance that the running task works on began, by the engine's clock; for listeners."""
    return _BEGAN.get(None)


def footing(backend: Backend) -> object:
    """What is closed with a backend: its model, which another one may go on with, or itself."""
    return getattr(backend, "runner", backend)
