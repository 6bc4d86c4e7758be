"""Whatever up to four backends do, in whatever strategy: one answer, in time, and nothing left running."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import given, settings, strategies as st

from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.sounds import silence
from tests.virtual_clock import virtual_clock
from tests.wyoming_server.racing import PIECE_MS, House, talk
from wyoming_server.backends.base import Request
from wyoming_server.errors import (
    AllFailedError,
    DeadlineError,
    DisconnectedError,
    OverdueError,
    RateLimitedError,
    SignInRefusedError,
    UnreachableError,
)
from wyoming_server.events import Answered, AttemptStarted, Traced, Unanswered
from wyoming_server.hedging import Strategy

if TYPE_CHECKING:
    from tests.fake_backends import Step
    from tests.wyoming_server.racing import Result

DEADLINE = 8.0
CLEANUP = 0.5
LEAST_SPEECH = 0.3
"""Seconds of a voice that the detector needs to be sure."""
ALIVE_AFTER = 1.0
"""A backend counts as alive that answers this soon after the end, and after it was asked."""

pauses = st.floats(0.001, 10.0).map(lambda seconds: (round(seconds, 3),))
waits = st.sampled_from([(Wait.END,), (Wait.AUDIO,)])
shows = st.sampled_from([(CONNECTED,), (partial("turn"),), (partial("turn on"),), (partial(""),)])
endings: st.SearchStrategy[tuple[Step, ...]] = st.sampled_from(
    [
        (Wait.AUDIO, final("words")),
        (Wait.AUDIO, final("words")),
        (final(""),),
        (Wait.END, final("")),
        (DisconnectedError("dropped"),),
        (UnreachableError("refused"),),
        (SignInRefusedError("1008"),),
        (RateLimitedError("429", 60.0),),
        (OverdueError("late"),),
        (ZeroDivisionError(),),
        (asyncio.CancelledError(),),
        (Wait.FOREVER,),
        (),
    ]
)
scripts = st.tuples(st.lists(st.one_of(pauses, waits, shows), max_size=4), endings).map(
    lambda parts: tuple(step for group in (*parts[0], parts[1]) for step in group)
)
languages = st.sampled_from([frozenset({"en", "de"}), frozenset({"en"})])
alive: st.SearchStrategy[tuple[Step, ...]] = st.floats(0.0, ALIVE_AFTER).map(
    lambda seconds: (CONNECTED, Wait.AUDIO, round(seconds, 3), final("words"))
)


@dataclass(frozen=True)
class Scene:
    scripts: tuple[tuple[Step, ...], ...]
    languages: tuple[frozenset[str], ...]
    streams: tuple[bool, ...]
    request: Request
    stop: float
    is_speech: bool
    strategy: Strategy


@st.composite
def scenes(draw: st.DrawFn, least: int = 0) -> Scene:
    number = draw(st.integers(least, 4))
    return Scene(
        scripts=tuple(draw(scripts) for _ in range(number)),
        languages=tuple(
            draw(st.sampled_from([frozenset({"en", "de"}), frozenset({"en"})])) for _ in range(number)
        ),
        streams=tuple(draw(st.booleans()) for _ in range(number)),
        request=Request(
            language=draw(st.sampled_from([None, "en", "de"])),
            backend=draw(st.sampled_from([None, None, None, "a", "b"])),
        ),
        stop=draw(st.integers(2, 60)) / 10,
        is_speech=draw(st.booleans()),
        strategy=draw(st.sampled_from(list(Strategy))),
    )


def backends_of(scene: Scene) -> list[ScriptedBackend]:
    return [
        ScriptedBackend(name, *script, languages=languages, streams=streams)
        for name, script, languages, streams in zip(
            "abcd", scene.scripts, scene.languages, scene.streams, strict=False
        )
    ]


async def play(scene: Scene, backends: list[ScriptedBackend]) -> Result:
    house = House(*backends, strategy=scene.strategy)
    pcm = talk(scene.stop) if scene.is_speech else [silence(PIECE_MS)] * round(scene.stop * 1000 / PIECE_MS)
    result = await house.hear(scene.stop, pcm=pcm, request=scene.request)
    await house.engine.close()
    return result


def check_the_promise(scene: Scene, backends: list[ScriptedBackend], result: Result) -> None:
    finals = [item for item in result.hypotheses if item.is_final]
    assert len(finals) + (result.error is not None) == 1
    assert not finals or result.hypotheses[-1] is finals[0]
    assert result.at <= scene.stop + DEADLINE + CLEANUP
    terminal = [event for event in result.events if isinstance(event, Answered | Unanswered)]
    assert len(terminal) == 1
    assert isinstance(result.events[result.events.index(terminal[0]) + 1], Traced)

    allowed = [
        backend.name
        for backend in backends
        if scene.request.backend in (None, backend.name)
        and (scene.request.language is None or scene.request.language in backend.languages)
    ]
    started = [event.backend for event in result.events if isinstance(event, AttemptStarted)]
    assert started == allowed[: len(started)]
    assert all(len(backend.asked) <= 1 for backend in backends)
    assert all(asked.is_over for backend in backends for asked in backend.asked)

    if finals and finals[0].text:
        (winner,) = (backend for backend in backends if backend.name == finals[0].backend)
        assert finals[0].text == "words"
        assert winner.name in allowed
        assert bytes(winner.asked[0].received) == b"".join(
            talk(scene.stop) if scene.is_speech else [silence(PIECE_MS)] * round(scene.stop * 1000 / PIECE_MS)
        )
    elif finals and finals[0].backend:
        assert finals[0].backend in allowed
    elif finals:
        assert not scene.is_speech or scene.stop < LEAST_SPEECH
    else:
        assert isinstance(result.error, AllFailedError | DeadlineError)


@settings(max_examples=400)
@given(scene=scenes())
@virtual_clock
async def test_there_is_exactly_one_answer_in_time_and_nothing_is_left(
    scene: Scene,
) -> None:
    backends = backends_of(scene)
    check_the_promise(scene, backends, await play(scene, backends))


@settings(max_examples=200)
@given(scene=scenes(least=1), living=alive, at=st.integers(0, 3))
@virtual_clock
async def test_while_one_backend_lives_the_words_come_within_three_seconds(
    scene: Scene, living: tuple[Step, ...], at: int
) -> None:
    """Hedged, by anybody in the order, after a sentence that was heard."""
    place = min(at, len(scene.scripts) - 1)
    scene = Scene(
        scripts=(*scene.scripts[:place], living, *scene.scripts[place + 1 :]),
        languages=(frozenset({"en"}),) * 4,
        streams=scene.streams,
        request=Request(language="en"),
        stop=scene.stop + 1.0,
        is_speech=True,
        strategy=Strategy.HEDGE,
    )
    backends = backends_of(scene)
    result = await play(scene, backends)
    check_the_promise(scene, backends, result)
    assert result.error is None
    assert result.final.text == "words"
    assert result.at <= scene.stop + 1.5 + ALIVE_AFTER + 0.01


@settings(max_examples=100)
@given(scene=scenes(), leave_after=st.floats(0.01, 12.0))
@virtual_clock
async def test_a_client_may_leave_at_any_moment(scene: Scene, leave_after: float) -> None:
    backends = backends_of(scene)
    house = House(*backends, strategy=scene.strategy)
    playing = asyncio.create_task(house.hear(scene.stop, request=scene.request))
    await asyncio.wait([playing], timeout=leave_after)
    playing.cancel()
    await asyncio.wait([playing])
    await house.engine.close()
    assert all(asked.is_over for backend in backends for asked in backend.asked)
    assert len([event for event in house.events if isinstance(event, Traced)]) == 1


@settings(max_examples=60)
@given(
    lives=st.lists(st.tuples(*[scripts] * 3), min_size=2, max_size=5),
    strategy=st.sampled_from(list(Strategy)),
)
@virtual_clock
async def test_a_house_that_lives_through_many_troubles_answers_each_utterance_once(
    lives: list[tuple[tuple[Step, ...], ...]], strategy: Strategy
) -> None:
    backends = [ScriptedBackend(name, probes=[UnreachableError("refused"), None]) for name in "abc"]
    house = House(*backends, strategy=strategy)
    for scripts_now in lives:
        for backend, script in zip(backends, scripts_now, strict=True):
            backend.script = script
        result = await house.hear(1.5)
        assert sum(item.is_final for item in result.hypotheses) + (result.error is not None) == 1
        assert result.at <= 1.5 + DEADLINE + CLEANUP
        await asyncio.sleep(3.0)
    await house.engine.close()
    assert all(asked.is_over for backend in backends for asked in backend.asked)
