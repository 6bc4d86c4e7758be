"""The engine whose backends are exchanged while it works."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from tests.engines import ignore, new_costs
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final
from tests.sounds import speech
from tests.virtual_clock import virtual_clock
from wyoming_server.backends.base import Request
from wyoming_server.breaker import Cause, State
from wyoming_server.errors import AllFailedError, SignInRefusedError, UnreachableError
from wyoming_server.events import BreakerChanged, Event, Traced
from wyoming_server.hedging import HedgeBudget, Patience, Strategy
from wyoming_server.live import LiveEngine, began_at
from wyoming_server.race import Rules
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wyoming_server.backends.base import Backend
    from wyoming_server.events import Listener

VOICE = speech(600)


def rules(deadline: float = 8.0) -> Rules:
    return Rules(strategy=Strategy.FAILOVER, deadline=deadline, patience=Patience(), budget=HedgeBudget(0.05))


def new_live(backends: Sequence[Backend], listener: Listener = ignore) -> LiveEngine:
    clock = asyncio.get_running_loop().time
    return LiveEngine(
        backends, rules(), costs=new_costs({}), listener=listener, clock=clock, chance=lambda: 0.5
    )


def slow(name: str, seconds: float = 2.0) -> ScriptedBackend:
    return ScriptedBackend(name, CONNECTED, Wait.AUDIO, seconds, final(f"words of {name}"))


def failing(name: str, error: BaseException) -> ScriptedBackend:
    return ScriptedBackend(name, error, probes=(error,))


class Standing(ScriptedBackend):
    """One that stands on a model, as the local one does."""

    def __init__(self, runner: object, *script: Any) -> None:
        super().__init__("local", *(script or (CONNECTED, Wait.AUDIO, final("words of local"))))
        self.runner = runner


def recording(*, is_over: bool = True) -> Recording:
    spoken = Recording(max_seconds=60, clock=asyncio.get_running_loop().time)
    spoken.write(VOICE)
    if is_over:
        spoken.end()
    return spoken


async def ask(engine: LiveEngine, spoken: Recording | None = None) -> str:
    text = ""
    async with aclosing(engine.transcribe(spoken or recording(), Request())) as hypotheses:
        async for hypothesis in hypotheses:
            text = hypothesis.text
    return text


async def asked(engine: LiveEngine, spoken: Recording | None = None) -> asyncio.Task[str]:
    task = asyncio.create_task(ask(engine, spoken))
    await asyncio.sleep(0.1)
    return task


@virtual_clock
async def test_who_speaks_keeps_the_backends_and_whoever_comes_next_has_the_new_ones() -> None:
    old, new = slow("a"), slow("b")
    engine = new_live([old])
    engine.start()
    spoken = recording(is_over=False)
    speaking = await asked(engine, spoken)
    engine.swap([new], rules())
    assert await ask(engine) == "words of b"
    assert not old.is_closed
    spoken.end()
    assert await speaking == "words of a"
    await asyncio.sleep(0.1)
    assert (old.is_closed, new.is_started, new.is_closed) == (True, True, False)
    await engine.close()


@virtual_clock
async def test_a_backend_that_nobody_uses_is_closed_at_once() -> None:
    old = slow("a")
    engine = new_live([old])
    engine.swap([slow("b")], rules())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert old.is_closed
    await engine.close()


@virtual_clock
async def test_the_last_of_several_utterances_lets_a_backend_go() -> None:
    kept, old = failing("a", UnreachableError("down")), slow("b", 5.0)
    engine = new_live([kept, old])
    first = await asked(engine)
    engine.swap([kept, slow("c")], rules())
    second_old = await asked(engine)
    engine.swap([slow("d")], rules())
    assert await second_old == "words of c"
    assert not kept.is_closed
    assert not old.is_closed
    assert await first == "words of b"
    await asyncio.sleep(0.1)
    assert (kept.is_closed, old.is_closed) == (True, True)
    await engine.close()


@virtual_clock
async def test_rules_hold_from_the_next_utterance_on() -> None:
    stuck = ScriptedBackend("a", CONNECTED, Wait.FOREVER)
    engine = new_live([stuck])
    before = asyncio.get_running_loop().time()
    first = await asked(engine)
    engine.swap([stuck], rules(deadline=1.0))
    second = await asked(engine)
    await asyncio.wait([second])
    assert asyncio.get_running_loop().time() - before == 1.1
    await asyncio.wait([first])
    assert asyncio.get_running_loop().time() - before == 8.0
    for task in (first, second):
        assert task.exception() is not None
    await engine.close()


@virtual_clock
async def test_a_backend_that_stays_keeps_its_breaker_and_its_latency() -> None:
    bad, good = failing("a", SignInRefusedError("no")), slow("b", 0.5)
    engine = new_live([bad, good])
    for _ in range(10):
        await ask(engine)
    health = engine.healths["b"]
    engine.swap([good, slow("c"), bad], rules())
    assert list(engine.healths) == ["b", "c", "a"]
    assert engine.healths["b"] is health
    assert health.median == health.p95 == 0.5
    assert (engine.healths["a"].state, engine.healths["a"].cause) == (State.OPEN, Cause.SIGN_IN)
    assert engine.healths["c"].median is None
    assert not good.is_started  # only the new ones are
    await engine.close()


@virtual_clock
async def test_a_backend_that_stays_is_probed_on() -> None:
    flaky = ScriptedBackend("a", UnreachableError("down"), probes=(None,))
    events: list[Event] = []
    engine = new_live([flaky, slow("b")], events.append)
    await ask(engine)
    engine.swap([slow("c"), flaky], rules())
    await asyncio.sleep(10)
    assert flaky.probed_at == [5.0]
    assert engine.healths["a"].state is State.CLOSED
    await engine.close()


@virtual_clock
async def test_a_new_backend_in_the_place_of_a_bad_one_is_asked_again_and_that_is_told() -> None:
    events: list[Event] = []
    old = failing("a", SignInRefusedError("no"))
    engine = new_live([old, slow("b")], events.append)
    await ask(engine)
    events.clear()
    engine.swap([slow("a"), slow("b")], rules())
    assert events == [BreakerChanged("a", State.CLOSED, None, None)]
    assert await ask(engine) == "words of a"
    await engine.close()


@virtual_clock
async def test_what_becomes_of_an_exchanged_backend_says_nothing_about_its_successor() -> None:
    events: list[Event] = []
    old = ScriptedBackend("a", CONNECTED, Wait.AUDIO, 1.0, UnreachableError("gone"))
    gone = ScriptedBackend("z", CONNECTED, Wait.AUDIO, 1.0, UnreachableError("gone"))
    engine = new_live([old, gone], events.append)
    speaking = await asked(engine)
    engine.swap([slow("a")], rules())
    await asyncio.wait([speaking])
    assert isinstance(speaking.exception(), AllFailedError)
    assert engine.healths["a"].state is State.CLOSED
    assert not [event for event in events if isinstance(event, BreakerChanged)]
    await asyncio.sleep(60)
    assert old.probed_at == gone.probed_at == []
    await engine.close()


@virtual_clock
async def test_a_model_that_serves_on_is_not_closed_with_the_backend_that_it_served() -> None:
    model = object()
    first, second, other = Standing(model), Standing(model), Standing(object())
    engine = new_live([first])
    speaking = await asked(engine)
    engine.swap([second], rules())
    assert await speaking == await ask(engine) == "words of local"
    await asyncio.sleep(1)
    assert not first.is_closed
    assert not second.is_closed
    engine.swap([other], rules())
    await asyncio.sleep(1)
    assert second.is_closed
    assert not other.is_closed
    await engine.close()
    assert other.is_closed


@virtual_clock
async def test_the_end_closes_everybody_who_is_left() -> None:
    old, new = slow("a", 60.0), slow("b")
    engine = new_live([old])
    speaking = await asked(engine)
    engine.swap([new], rules())
    await engine.close()
    assert (old.is_closed, new.is_closed) == (True, True)
    speaking.cancel()
    await asyncio.wait([speaking])


@virtual_clock
async def test_a_listener_can_tell_when_an_utterance_began() -> None:
    began: list[float | None] = []

    def listen(event: Event) -> None:
        if isinstance(event, Traced):
            began.append(began_at())

    engine = new_live([slow("a", 1.0)], listen)
    await asyncio.sleep(7)
    tasks = [await asked(engine), await asked(engine)]
    await asyncio.wait(tasks)
    assert began == [7.0, 7.1]
    assert began_at() is None
    await engine.close()
