from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from modal_whisper.languages import LANGUAGES
from tests.engines import ignore, new_engine
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.sounds import silence, speech
from tests.virtual_clock import virtual_clock
from tests.wyoming_server.racing import Result
from wyoming_server.backends.base import Hypothesis, Request
from wyoming_server.errors import (
    AllFailedError,
    BackendError,
    DeadlineError,
    DisconnectedError,
    InternalError,
    NoWordsError,
    SignInRefusedError,
    UnreachableError,
)
from wyoming_server.events import Answered, BackendConnected, BackendFailed, Unanswered
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from wyoming_server.backends.base import Backend, Progress
    from wyoming_server.engine import Engine
    from wyoming_server.events import Event, Listener

DEADLINE = 8.0
ANYTHING = Request()
HEARD = speech(600)


def now() -> float:
    return asyncio.get_running_loop().time()


def new_recording(pcm: bytes = HEARD) -> Recording:
    recording = Recording(max_seconds=60, clock=asyncio.get_running_loop().time)
    recording.write(pcm)
    return recording


async def stop_after(recording: Recording, seconds: float) -> None:
    await asyncio.sleep(seconds)
    recording.end()


async def ask(
    *backends: Backend,
    recording: Recording | None = None,
    request: Request = ANYTHING,
    stop: float | Awaitable[None] = 1.0,
) -> Result:
    """Let a person speak for `stop` seconds, or as `stop` does it, and collect what the engine says."""
    result = Result()
    recording = recording or new_recording()
    engine = new_engine(backends, deadline=DEADLINE, listener=_only_answers(result.events))
    speaking = asyncio.ensure_future(stop_after(recording, stop) if isinstance(stop, int | float) else stop)
    try:
        async with aclosing(engine.transcribe(recording, request)) as hypotheses:
            async for hypothesis in hypotheses:
                result.hypotheses.append(hypothesis)
                result.at = now()
    except BackendError as error:
        result.error = error
        result.at = now()
    await speaking
    await engine.close()
    return result


def _only_answers(events: list[Event]) -> Listener:
    """Notes what matters to the answer; the rest of the news has tests of its own."""

    def note(event: Event) -> None:
        if isinstance(event, BackendConnected | BackendFailed | Answered | Unanswered):
            events.append(event)

    return note


def heard(backend: ScriptedBackend) -> bytes:
    assert len(backend.asked) == 1
    return bytes(backend.asked[0].received)


@virtual_clock
async def test_the_first_backend_answers_and_no_other_is_asked() -> None:
    first = ScriptedBackend(
        "first", 0.2, CONNECTED, partial("turn"), Wait.AUDIO, 0.125, final("turn on", "en")
    )
    second = ScriptedBackend("second", final("never"))
    result = await ask(first, second)
    assert result.hypotheses == [
        Hypothesis("turn", backend="first"),
        Hypothesis("turn on", is_final=True, language="en", backend="first"),
    ]
    assert result.at == 1.125
    assert second.asked == []
    assert result.events == [
        BackendConnected("first", 200.0),
        Answered("first", 125.0, 0.6),
    ]


@virtual_clock
async def test_the_next_starts_the_moment_that_one_fails_and_hears_every_byte() -> None:
    refused = SignInRefusedError("sign-in refused (1008)")
    first = ScriptedBackend("first", 0.25, refused)
    second = ScriptedBackend("second", CONNECTED, Wait.AUDIO, 0.5, final("words"))
    recording = new_recording(HEARD)

    async def speak() -> None:
        for _ in range(7):
            await asyncio.sleep(0.1)
            recording.write(speech(100))
        recording.end()

    result = await ask(first, second, recording=recording, stop=speak())
    assert result.final == Hypothesis("words", is_final=True, backend="second")
    assert second.asked[0].at == 0.25
    assert heard(second) == HEARD + speech(100) * 7
    assert result.at == pytest.approx(1.2)
    assert result.events == [
        BackendFailed("first", refused, "second", 0.8),
        BackendConnected("second", 0.0),
        Answered("second", 500.0, 1.3),
    ]


@virtual_clock
async def test_a_backup_that_starts_after_the_end_hears_every_byte_too() -> None:
    first = ScriptedBackend("first", CONNECTED, Wait.AUDIO, 2.0, DisconnectedError("dropped"))
    second = ScriptedBackend("second", Wait.AUDIO, final("words"))
    result = await ask(first, second)
    assert result.final.text == "words"
    assert heard(first) == heard(second) == HEARD
    assert result.at == 3.0


@virtual_clock
async def test_failover_goes_on_in_order_until_somebody_answers() -> None:
    backends = [ScriptedBackend(name, 0.1, UnreachableError(name)) for name in ("a", "b", "c")]
    result = await ask(*backends, ScriptedBackend("d", Wait.END, final("words")))
    assert result.final.backend == "d"
    assert [(item.backend, item.successor) for item in result.events if isinstance(item, BackendFailed)] == [
        ("a", "b"),
        ("b", "c"),
        ("c", "d"),
    ]


@virtual_clock
async def test_words_of_a_backend_that_failed_are_followed_by_those_of_the_next() -> None:
    first = ScriptedBackend("first", partial("turn off"), DisconnectedError("dropped"))
    second = ScriptedBackend("second", partial("turn on"), Wait.END, final("turn on the light"))
    result = await ask(first, second)
    assert [(item.text, item.backend) for item in result.hypotheses] == [
        ("turn off", "first"),
        ("turn on", "second"),
        ("turn on the light", "second"),
    ]


@virtual_clock
async def test_all_failed_is_one_error_that_names_every_cause() -> None:
    result = await ask(
        ScriptedBackend("a", UnreachableError("no route")),
        ScriptedBackend("b", 2.0, DisconnectedError("bye")),
    )
    assert isinstance(result.error, AllFailedError)
    assert str(result.error) == "no backend could answer (a: no route; b: bye)"
    assert list(result.error.causes) == ["a", "b"]
    assert result.hypotheses == []
    assert result.at == 2.0
    failed_a, failed_b, unanswered = result.events
    assert isinstance(failed_a, BackendFailed)
    assert failed_a.successor == "b"
    assert isinstance(failed_b, BackendFailed)
    assert failed_b.successor is None
    assert unanswered == Unanswered(result.error, 0.6)


@virtual_clock
async def test_nobody_answers_by_the_deadline() -> None:
    silent = ScriptedBackend("silent", CONNECTED, Wait.FOREVER)
    never = ScriptedBackend("never", final("words"))
    result = await ask(silent, never, stop=3.0)
    assert isinstance(result.error, DeadlineError)
    assert str(result.error) == "no answer within 8 s after the last sample"
    assert result.at == 3.0 + DEADLINE
    assert result.events[-1] == Unanswered(result.error, 0.6)
    assert silent.asked[0].is_over
    assert never.asked == []


@virtual_clock
async def test_the_deadline_is_one_for_all_backends_together() -> None:
    slow = [ScriptedBackend(name, Wait.END, 3.0, DisconnectedError("slow")) for name in ("a", "b", "c", "d")]
    result = await ask(*slow)
    assert isinstance(result.error, DeadlineError)
    assert result.at == 1.0 + DEADLINE
    assert [len(backend.asked) for backend in slow] == [1, 1, 1, 0]


@virtual_clock
async def test_the_deadline_waits_as_long_as_the_person_speaks() -> None:
    result = await ask(ScriptedBackend("slow", Wait.END, 7.9, final("words")), stop=50.0)
    assert result.final.text == "words"
    assert result.at == 57.9


@virtual_clock
async def test_a_recording_that_had_ended_before_is_answered_too() -> None:
    recording = new_recording()
    recording.end()
    await asyncio.sleep(100)
    backend = ScriptedBackend("only", Wait.AUDIO, 1.0, final("words"))
    result = await ask(backend, recording=recording, stop=0.0)
    assert result.final.text == "words"
    assert heard(backend) == HEARD


@virtual_clock
async def test_silence_is_answered_at_once_by_nobody() -> None:
    backend = ScriptedBackend("slow", CONNECTED, Wait.END, 2.0, final("Thank you."))
    result = await ask(backend, recording=new_recording(silence(900)))
    assert result.final == Hypothesis("", is_final=True)
    assert result.at == 1.0
    assert result.events[-1] == Answered("", 0.0, 0.9)
    assert backend.asked[0].is_over


@virtual_clock
async def test_one_who_is_too_quiet_for_the_detector_but_has_words_is_waited_for() -> None:
    backend = ScriptedBackend("good", partial("whisper"), Wait.END, 2.0, final("whispered words"))
    result = await ask(backend, recording=new_recording(silence(900)))
    assert result.final == Hypothesis("whispered words", is_final=True, backend="good")
    assert result.at == 3.0


@virtual_clock
async def test_a_partial_without_words_is_no_sign_of_speech() -> None:
    backend = ScriptedBackend("good", partial(""), Wait.END, 2.0, final("Thank you."))
    result = await ask(backend, recording=new_recording(silence(900)))
    assert result.final == Hypothesis("", is_final=True)


@virtual_clock
async def test_words_that_were_taken_back_are_a_sign_of_speech() -> None:
    backend = ScriptedBackend(
        "good", partial("whisper"), partial(""), Wait.END, 2.0, final("whispered words")
    )
    result = await ask(backend, recording=new_recording(silence(900)))
    assert result.final.text == "whispered words"


@virtual_clock
async def test_a_partial_without_words_is_no_failure_though_somebody_speaks() -> None:
    backend = ScriptedBackend("good", partial(""), Wait.END, final("words"))
    result = await ask(backend)
    assert [item.text for item in result.hypotheses] == ["", "words"]


@virtual_clock
async def test_a_final_before_the_end_is_no_answer_since_the_rest_would_be_lost() -> None:
    patient = ScriptedBackend("patient", Wait.AUDIO, final("all the words"))
    result = await ask(ScriptedBackend("hasty", 0.5, final("all")), patient)
    assert (result.final.text, result.at) == ("all the words", 1.0)
    failed = next(event for event in result.events if isinstance(event, BackendFailed))
    assert (failed.backend, type(failed.error)) == ("hasty", InternalError)


@virtual_clock
async def test_an_empty_final_for_what_had_words_before_is_an_answer() -> None:
    backend = ScriptedBackend("good", partial("hm"), Wait.END, 0.5, final(""))
    never = ScriptedBackend("never", final("never"))
    result = await ask(backend, never, recording=new_recording(silence(900)))
    assert result.final == Hypothesis("", is_final=True, backend="good")
    assert result.at == 1.5
    assert never.asked == []


@virtual_clock
async def test_an_empty_final_though_somebody_spoke_is_a_failure() -> None:
    deaf = ScriptedBackend("deaf", Wait.AUDIO, 0.5, final(""))
    result = await ask(deaf, ScriptedBackend("good", Wait.AUDIO, final("words")))
    assert result.final == Hypothesis("words", is_final=True, backend="good")
    failed = result.events[0]
    assert isinstance(failed, BackendFailed)
    assert isinstance(failed.error, NoWordsError)
    assert failed.successor == "good"


@pytest.mark.parametrize("order", [("deaf", "broken"), ("broken", "deaf")])
@virtual_clock
async def test_where_one_has_heard_nothing_and_the_others_failed_it_was_noise(order: tuple[str, str]) -> None:
    backends = {
        "deaf": ScriptedBackend("deaf", Wait.AUDIO, 0.5, final("")),
        "broken": ScriptedBackend("broken", 0.5, UnreachableError("no route")),
    }
    result = await ask(*(backends[name] for name in order))
    assert result.final == Hypothesis("", is_final=True, backend="deaf")
    assert isinstance(result.events[-1], Answered)
    assert result.events[-1].backend == "deaf"


@pytest.mark.parametrize("pcm", [HEARD, silence(600)], ids=["speech", "silence so far"])
@virtual_clock
async def test_an_empty_final_before_the_end_is_no_answer(pcm: bytes) -> None:
    hasty = ScriptedBackend("hasty", 0.5, final(""))
    result = await ask(hasty, recording=new_recording(pcm))
    assert isinstance(result.error, AllFailedError)
    assert isinstance(result.error.causes["hasty"], InternalError)


@virtual_clock
async def test_a_defect_in_a_backend_is_contained_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    broken = ScriptedBackend("broken", 0.5, ZeroDivisionError("words that somebody said"))
    result = await ask(broken, ScriptedBackend("good", Wait.END, final("words")))
    assert result.final.backend == "good"
    failed = result.events[0]
    assert isinstance(failed, BackendFailed)
    assert str(failed.error) == "unexpected ZeroDivisionError"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "broken has a defect")
    ]


@virtual_clock
async def test_a_backend_that_fails_before_it_begins_is_contained() -> None:
    class Unstartable(ScriptedBackend):
        def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Progress, None]:
            raise TypeError

    result = await ask(Unstartable("broken"), ScriptedBackend("good", Wait.END, final("words")))
    assert result.final.backend == "good"


@virtual_clock
async def test_a_backend_that_cancels_itself_is_contained() -> None:
    broken = ScriptedBackend("broken", 0.5, asyncio.CancelledError())
    good = ScriptedBackend("good", Wait.END, final("words"))
    result = await ask(broken, good)
    assert result.final.backend == "good"
    assert good.asked[0].at == 0.5


@virtual_clock
async def test_a_backend_that_ends_without_a_final_has_failed() -> None:
    result = await ask(
        ScriptedBackend("mute", partial("so")), ScriptedBackend("good", Wait.END, final("words"))
    )
    assert result.final.backend == "good"
    failed = result.events[0]
    assert isinstance(failed, BackendFailed)
    assert str(failed.error) == "ended without a final"


@virtual_clock
async def test_what_a_backend_says_after_its_final_is_not_passed_on() -> None:
    chatty = ScriptedBackend("chatty", Wait.END, final("words"), partial("more"), final("others"))
    result = await ask(chatty)
    assert [item.text for item in result.hypotheses] == ["words"]
    assert chatty.asked[0].is_over


@virtual_clock
async def test_a_backend_made_of_backends_keeps_the_name_of_who_heard_the_words() -> None:
    inner = new_engine([ScriptedBackend("inner", Wait.END, final("words"))], deadline=5.0, listener=ignore)
    result = await ask(inner)
    assert result.final == Hypothesis("words", is_final=True, backend="inner")


@virtual_clock
async def test_only_backends_that_understand_the_language_are_asked() -> None:
    english = ScriptedBackend("english", final("never"), languages=frozenset({"en"}))
    german = ScriptedBackend("german", Wait.END, final("Wörter"), languages=frozenset({"de", "en"}))
    request = Request(language="de", names=("Kai",), terms=("Flur",))
    result = await ask(english, german, request=request)
    assert result.final.text == "Wörter"
    assert english.asked == []
    assert german.asked[0].request is request


@virtual_clock
async def test_a_request_without_a_language_is_for_everybody() -> None:
    result = await ask(ScriptedBackend("english", Wait.END, final("words"), languages=frozenset({"en"})))
    assert result.final.text == "words"


@virtual_clock
async def test_a_request_for_one_backend_is_for_that_one_alone() -> None:
    first, third = ScriptedBackend("first", final("never")), ScriptedBackend("third", final("never"))
    second = ScriptedBackend("second", 0.5, UnreachableError("no route"))
    result = await ask(first, second, third, request=Request(backend="second"))
    assert str(result.error) == "no backend could answer (second: no route)"
    assert first.asked == third.asked == []


@pytest.mark.parametrize(
    "request_",
    [Request(language="tlh"), Request(backend="nobody"), Request(language="de", backend="english")],
)
@virtual_clock
async def test_a_request_that_suits_nobody_is_an_error_at_once(request_: Request) -> None:
    english = ScriptedBackend("english", final("never"), languages=frozenset({"en"}))
    result = await ask(english, request=request_)
    assert isinstance(result.error, AllFailedError)
    assert str(result.error) == "no backend could answer (none is configured for this request)"
    assert result.at == 0.0
    assert result.events == [Unanswered(result.error, 0.6)]


@virtual_clock
async def test_a_consumer_who_leaves_early_ends_all_work() -> None:
    first = ScriptedBackend("first", 0.1, UnreachableError("no route"))
    second = ScriptedBackend("second", partial("so"), Wait.FOREVER)
    events: list[Event] = []
    engine = new_engine([first, second], deadline=DEADLINE, listener=_only_answers(events))
    async with aclosing(engine.transcribe(new_recording(), ANYTHING)) as hypotheses:
        async for hypothesis in hypotheses:
            assert hypothesis.text == "so"
            break
    assert second.asked[0].is_over
    assert now() == 0.1
    assert not any(isinstance(event, Answered | Unanswered) for event in events)
    await engine.close()


@virtual_clock
async def test_a_consumer_who_is_cancelled_ends_all_work() -> None:
    backend = ScriptedBackend("only", CONNECTED, Wait.FOREVER)
    asking = asyncio.create_task(ask(backend, stop=asyncio.sleep(0)))
    await asyncio.sleep(1)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert backend.asked[0].is_over


@virtual_clock
async def test_a_slow_consumer_gets_everything_in_order() -> None:
    backend = ScriptedBackend("only", partial("a"), partial("a b"), Wait.END, final("a b c"))
    recording = new_recording()
    engine = new_engine([backend], deadline=DEADLINE, listener=ignore)
    recording.end()
    texts = []
    async with aclosing(engine.transcribe(recording, ANYTHING)) as hypotheses:
        async for hypothesis in hypotheses:
            texts.append(hypothesis.text)
            await asyncio.sleep(3)
    assert texts == ["a", "a b", "a b c"]


@virtual_clock
async def test_a_loser_has_time_to_tidy_up() -> None:
    tidy = ScriptedBackend("tidy", CONNECTED, Wait.FOREVER, cleaning_up=0.4)
    result = await ask(tidy)
    assert isinstance(result.error, DeadlineError)
    assert tidy.asked[0].is_over


@virtual_clock
async def test_a_loser_that_does_not_let_go_cannot_hold_the_answer_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stubborn = ScriptedBackend("stubborn", CONNECTED, Wait.FOREVER, cleaning_up=30.0)
    result = await ask(stubborn)
    assert isinstance(result.error, DeadlineError)
    assert result.at <= 1.0 + DEADLINE + 0.5
    assert "stubborn has a defect: it goes on though it was told to give up" in caplog.messages
    await asyncio.sleep(30)


@virtual_clock
async def test_many_utterances_at_once_keep_to_themselves() -> None:
    backend = ScriptedBackend("only", Wait.AUDIO, 0.1, final("words"))
    engine = new_engine([backend], deadline=DEADLINE, listener=ignore)

    async def one(number: int) -> None:
        recording = new_recording(speech(400 + number))
        async with aclosing(engine.transcribe(recording, Request(names=(str(number),)))) as hypotheses:
            stopping = asyncio.create_task(stop_after(recording, number / 10))
            texts = [item.text async for item in hypotheses]
        await stopping
        assert texts == ["words"]

    await asyncio.gather(*(one(number) for number in range(20)))
    received = {asked.request.names: len(asked.received) for asked in backend.asked}
    assert received == {(str(number),): len(speech(400 + number)) for number in range(20)}


@virtual_clock
async def test_starting_and_closing_reach_every_backend() -> None:
    backends = [ScriptedBackend("a"), ScriptedBackend("b")]
    engine = new_engine(backends, deadline=DEADLINE, listener=ignore)
    engine.start()
    assert [backend.is_started for backend in backends] == [True, True]
    await engine.wait_ready()
    await engine.close()
    assert [backend.is_closed for backend in backends] == [True, True]


@virtual_clock
async def test_a_backend_that_cannot_get_ready_is_reported() -> None:
    class Unready(ScriptedBackend):
        async def wait_ready(self) -> None:
            raise UnreachableError("no model")

    engine = new_engine([ScriptedBackend("a"), Unready("b")], deadline=DEADLINE, listener=ignore)
    with pytest.raises(UnreachableError, match="no model"):
        await engine.wait_ready()


async def test_an_engine_understands_what_any_of_its_backends_does() -> None:
    def engine(*languages: str) -> Engine:
        backends = [ScriptedBackend(item, languages=frozenset(item.split())) for item in languages]
        return new_engine(backends, deadline=DEADLINE, listener=ignore)

    assert engine("en de", "de fr").languages == {"en", "de", "fr"}
    assert engine().languages == frozenset()
    assert new_engine([ScriptedBackend("a")], deadline=1, listener=ignore).languages == LANGUAGES
    assert [backend.name for backend in engine("en", "de").backends] == ["en", "de"]
