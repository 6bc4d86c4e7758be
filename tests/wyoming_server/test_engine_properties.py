"""The engine against a model of itself: whatever its backends do, the answer is the one that was promised."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import given, settings, strategies as st

from tests.engines import new_engine
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.sounds import silence, speech
from tests.virtual_clock import virtual_clock
from wyoming_server.backends.base import Hypothesis, Request
from wyoming_server.errors import AllFailedError, BackendError, DeadlineError, DisconnectedError
from wyoming_server.events import Answered, BackendFailed, Traced, Unanswered
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fake_backends import Step
    from wyoming_server.events import Event

DEADLINE = 8.0
PIECE_MS = 60


@dataclass(frozen=True)
class Actor:
    """A backend to be made."""

    name: str
    script: tuple[Step, ...]
    languages: frozenset[str]
    cleaning_up: float


@dataclass(frozen=True)
class Scene:
    """One utterance: who could be asked, what is said, and when the person stops."""

    actors: tuple[Actor, ...]
    request: Request
    is_speech: bool
    stop: float
    consumer_pause: float

    @property
    def candidates(self) -> list[Actor]:
        return [
            actor
            for actor in self.actors
            if self.request.backend in (None, actor.name)
            and (self.request.language is None or self.request.language in actor.languages)
        ]


@dataclass(frozen=True)
class Outcome:
    """The terminal answer: words and whose they are, or the class of the error; and the moment of it."""

    text: str | None
    backend: str
    error: type[BackendError] | None
    at: float


# Whole seconds with a little more, while people stop at half seconds: no two things happen at once.
pauses = st.integers(0, 10).map(lambda seconds: (seconds + 0.001,))
waits = st.tuples(st.sampled_from([Wait.END, Wait.AUDIO]), st.integers(0, 9).map(lambda n: n + 0.001))
partials = st.tuples(st.sampled_from(["", "turn", "turn on"]).map(partial))
endings: st.SearchStrategy[tuple[Step, ...]] = st.sampled_from(
    [
        (final("words"),),
        (final("words"),),
        (final(""),),
        (DisconnectedError("dropped"),),
        (ZeroDivisionError(),),
        (asyncio.CancelledError(),),
        (Wait.FOREVER,),
        (),
    ]
)
scripts = st.tuples(
    st.lists(st.one_of(pauses, waits, partials, st.just((CONNECTED,))), max_size=5), endings
).map(lambda parts: tuple(step for group in (*parts[0], parts[1]) for step in group))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    actors = tuple(
        Actor(
            name,
            draw(scripts),
            draw(st.sampled_from([frozenset({"en", "de"}), frozenset({"en"})])),
            draw(st.sampled_from([0.0, 0.0, 0.4])),
        )
        for name in "abcd"[: draw(st.integers(0, 4))]
    )
    request = Request(
        language=draw(st.sampled_from([None, None, "en", "de"])),
        backend=draw(st.sampled_from([None, None, None, "a", "b"])),
    )
    return Scene(
        actors,
        request,
        is_speech=draw(st.booleans()),
        stop=draw(st.integers(0, 6)) + 0.5,
        consumer_pause=draw(st.sampled_from([0.0, 0.0, 0.002])),
    )


def play_alone(actor: Actor, now: float, stop: float) -> tuple[float, Hypothesis | None, bool]:
    """When a backend that starts now is through, with which final, and whether it had words by the stop."""
    has_words = False
    for step in actor.script:
        if isinstance(step, float):
            now += step
        elif step in (Wait.END, Wait.AUDIO):
            now = max(now, stop)
        elif step is Wait.FOREVER:
            now = math.inf
        elif isinstance(step, Hypothesis):
            has_words = has_words or (now < stop and bool(step.text))
            if step.is_final:
                return now, step, has_words
    return now + actor.cleaning_up, None, has_words


def predict(scene: Scene) -> Outcome:
    """What must come out, told one backend after another without any concurrency."""
    now, has_words, deaf = 0.0, False, []
    for actor in scene.candidates:
        now, last, had_words = play_alone(actor, now, scene.stop)
        has_words = has_words or had_words
        if now > scene.stop and not (scene.is_speech or has_words):
            return Outcome("", "", None, scene.stop)
        if now > scene.stop + DEADLINE:
            at = scene.stop + DEADLINE
            return Outcome("", deaf[0], None, at) if deaf else Outcome(None, "", DeadlineError, at)
        if last and now > scene.stop and (last.text or not scene.is_speech):
            return Outcome(last.text, actor.name, None, now)
        if last and now > scene.stop:
            deaf.append(actor.name)
    return Outcome("", deaf[0], None, now) if deaf else Outcome(None, "", AllFailedError, now)


async def speak(recording: Recording, scene: Scene) -> None:
    """Write 0.6 s of audio in pieces, spread over the time up to the stop."""
    pcm = spoken(scene)
    step = PIECE_MS * 32
    for at in range(0, len(pcm), step):
        recording.write(pcm[at : at + step])
        await asyncio.sleep(scene.stop * step / len(pcm) - 1e-5)
    await asyncio.sleep(scene.stop - asyncio.get_running_loop().time())
    recording.end()


def spoken(scene: Scene) -> bytes:
    return speech(600) if scene.is_speech else silence(600)


async def play(
    scene: Scene, backends: Sequence[ScriptedBackend], events: list[Event]
) -> tuple[list[Hypothesis], BackendError | None, float]:
    loop = asyncio.get_running_loop()
    recording = Recording(max_seconds=60, clock=loop.time)
    engine = new_engine(backends, deadline=DEADLINE, listener=events.append)
    speaking = asyncio.create_task(speak(recording, scene))
    hypotheses, error, at = [], None, 0.0
    try:
        async with aclosing(engine.transcribe(recording, scene.request)) as answers:
            async for hypothesis in answers:
                hypotheses.append(hypothesis)
                at = loop.time()
                await asyncio.sleep(scene.consumer_pause)
    except BackendError as failure:
        error, at = failure, loop.time()
    finally:
        speaking.cancel()
        await asyncio.wait([speaking])
        await engine.close()
    return hypotheses, error, at


@settings(max_examples=400, deadline=None)
@given(scene=scenes())
@virtual_clock
async def test_whatever_backends_do_there_is_exactly_the_promised_answer_in_time(scene: Scene) -> None:
    expected = predict(scene)
    backends = [
        ScriptedBackend(actor.name, *actor.script, languages=actor.languages, cleaning_up=actor.cleaning_up)
        for actor in scene.actors
    ]
    events: list[Event] = []
    hypotheses, error, at = await play(scene, backends, events)

    # Exactly one terminal answer, and nothing after it.
    finals = [item for item in hypotheses if item.is_final]
    assert len(finals) + (error is not None) == 1
    assert not finals or hypotheses[-1] is finals[0]
    terminal_events = [event for event in events if isinstance(event, Answered | Unanswered)]
    assert len(terminal_events) == 1
    assert [type(event) for event in events[-2:]] == [type(terminal_events[0]), Traced]

    # The right one, by whom it should be, when it should be.
    answer = finals[0] if finals else None
    told = Outcome(
        answer.text if answer else None, answer.backend if answer else "", type(error) if error else None, at
    )
    assert replace(told, at=0.0) == replace(expected, at=0.0)
    latest = 0.02 if finals else 0.5  # a consumer's own pauses; what losers may take to tidy up
    assert expected.at - 1e-3 <= at <= expected.at + latest
    assert at <= scene.stop + DEADLINE + latest

    # Nobody was asked whom the request leaves out, each at most once, in order; and all of them have stopped.
    order = [actor.name for actor in scene.candidates]
    asked = [backend for backend in backends if backend.asked]
    assert [backend.name for backend in asked] == order[: len(asked)]
    assert all(len(backend.asked) == 1 and backend.asked[0].is_over for backend in asked)
    failed = [event.backend for event in events if isinstance(event, BackendFailed)]
    assert failed == order[: len(failed)]

    # Whoever listened to the end has heard every byte.
    for backend in asked:
        if answer and answer.backend == backend.name and Wait.AUDIO in backend.script:
            assert bytes(backend.asked[0].received) == spoken(scene)


@settings(max_examples=100, deadline=None)
@given(scene=scenes(), leave_after=st.integers(0, 12))
@virtual_clock
async def test_a_consumer_may_leave_at_any_moment(scene: Scene, leave_after: int) -> None:
    backends = [ScriptedBackend(actor.name, *actor.script) for actor in scene.actors]
    playing = asyncio.create_task(play(scene, backends, []))
    await asyncio.wait([playing], timeout=leave_after + 0.25)
    playing.cancel()
    await asyncio.wait([playing])
    assert all(asked.is_over for backend in backends for asked in backend.asked)
    assert asyncio.all_tasks() == {asyncio.current_task()}
