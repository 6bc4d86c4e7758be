from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from modal_whisper.errors import ModelUnavailableError, OverloadedError, TranscriptionError
from modal_whisper.model import Passage, Priority, Transcript
from modal_whisper.runner import ModelRunner
from tests.fakes import PATIENCE, ScriptedTranscriber

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from modal_whisper.model import Job

NO_MODEL = ModelUnavailableError("no model here: fetch one")
STOPPED = r"^the transcription was stopped$"
STUCK = r"^the Whisper model has not answered for 0.05 s$"


@asynccontextmanager
async def running(transcriber: ScriptedTranscriber, **options: Any) -> AsyncIterator[ModelRunner]:
    runner = ModelRunner(transcriber, **options)
    try:
        yield runner
    finally:
        await runner.close()


def ask(runner: ModelRunner, pcm: bytes = b"12", priority: Priority = Priority.FINAL) -> Job:
    return runner.submit(Passage(pcm=pcm), priority)


async def words(job: Job) -> str:
    async with asyncio.timeout(PATIENCE):
        return (await job.result()).text


async def error_of(job: Job) -> TranscriptionError:
    with pytest.raises(TranscriptionError) as error:
        await words(job)
    return error.value


async def all_done(runner: ModelRunner) -> None:
    """Return once the runner has nothing left to do."""
    while runner._working and not runner._working.done():  # noqa: ASYNC110 - nobody is told that it rests
        await asyncio.sleep(0.001)


def order(transcriber: ScriptedTranscriber) -> bytes:
    return b"".join(asked.pcm for asked in transcriber.asked)


class DeafTranscriber(ScriptedTranscriber):
    """Does not look whether it is cancelled."""

    def transcribe(self, passage: Passage, cancelled: threading.Event) -> Transcript:
        return super().transcribe(passage, threading.Event())


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_the_words_the_language_and_the_model_are_the_transcribers() -> None:
    ticks = itertools.count(step=1.25)
    transcriber = ScriptedTranscriber("One", " two", model="tiny", language="es")
    async with running(transcriber, clock=lambda: next(ticks)) as runner:
        assert await ask(runner).result() == Transcript("One two", "es", "tiny", 1250)


async def test_the_model_is_given_the_passage_as_it_is() -> None:
    transcriber = ScriptedTranscriber("Hola")
    passage = Passage(
        pcm=b"1234", language="es", languages=("es",), names=("Ana",), terms=("luz",), context="Hola."
    )
    async with running(transcriber) as runner:
        await words(runner.submit(passage, Priority.SEGMENT))
    (asked,) = transcriber.asked
    assert asked.passage is passage
    assert not asked.cancelled.is_set()


async def test_the_result_may_be_asked_for_by_several_and_again() -> None:
    go_on = threading.Event()
    async with running(ScriptedTranscriber(go_on, "Hi")) as runner:
        job = ask(runner)
        first, second = asyncio.create_task(words(job)), asyncio.create_task(words(job))
        await asyncio.sleep(0)
        first.cancel()
        assert not job.is_done
        go_on.set()
        assert await second == "Hi"
        assert first.cancelled()
        assert job.is_done
        assert await words(job) == "Hi"


async def test_its_name_is_the_models() -> None:
    async with running(ScriptedTranscriber(model="tiny")) as runner:
        assert runner.name == "tiny"


# The queue


async def test_passages_are_transcribed_one_after_another_in_the_order_they_came() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber) as runner:
        jobs = [ask(runner, pcm) for pcm in (b"1", b"2", b"3")]
        await transcriber.wait_asked()
        await asyncio.sleep(0.01)
        assert order(transcriber) == b"1"
        go_on.set()
        assert [await words(job) for job in jobs] == ["done"] * 3
    assert order(transcriber) == b"123"


async def test_finals_go_before_segments_and_those_before_speculation() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber) as runner:
        ask(runner, b"0", Priority.SPECULATION)
        await transcriber.wait_asked()
        jobs = [
            ask(runner, b"6", Priority.SPECULATION),
            ask(runner, b"4", Priority.SEGMENT),
            ask(runner, b"1", Priority.FINAL),
            ask(runner, b"7", Priority.SPECULATION),
            ask(runner, b"5", Priority.SEGMENT),
            ask(runner, b"2", Priority.FINAL),
        ]
        go_on.set()
        await asyncio.gather(*(words(job) for job in jobs))
    assert order(transcriber) == b"0124567"


async def test_who_is_hurried_goes_where_it_would_be_had_it_been_urgent_from_the_first() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber) as runner:
        ask(runner, b"0")
        await transcriber.wait_asked()
        jobs = [
            ask(runner, b"4", Priority.SEGMENT),
            ask(runner, b"2", Priority.SPECULATION),
            ask(runner, b"3", Priority.FINAL),
        ]
        jobs[1].hurry(Priority.FINAL)
        go_on.set()
        await asyncio.gather(*(words(job) for job in jobs))
    assert order(transcriber) == b"0234"


async def test_who_comes_while_it_loads_goes_first_all_the_same_if_more_urgent() -> None:
    loaded = threading.Event()
    transcriber = ScriptedTranscriber("done", loading=[loaded])
    async with running(transcriber) as runner:
        early = ask(runner, b"2", Priority.SPECULATION)
        await transcriber.wait_loading()
        late = ask(runner, b"1", Priority.FINAL)
        loaded.set()
        assert [await words(early), await words(late)] == ["done"] * 2
    assert order(transcriber) == b"12"


async def test_one_that_is_cancelled_before_its_turn_is_never_begun() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber) as runner:
        first, second, third = (ask(runner, pcm) for pcm in (b"1", b"2", b"3"))
        await transcriber.wait_asked()
        second.cancel()
        assert second.is_done
        go_on.set()
        assert [await words(first), await words(third)] == ["done"] * 2
        assert str(await error_of(second)) == "the transcription was stopped"
    assert order(transcriber) == b"13"


async def test_one_that_is_cancelled_while_it_runs_fails_at_once_and_the_model_is_told() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber("One", go_on, "two")
    async with running(transcriber) as runner:
        job = ask(runner)
        asked = await transcriber.wait_asked()
        assert not asked.cancelled.is_set()
        job.cancel()
        with pytest.raises(TranscriptionError, match=STOPPED):
            await words(job)
        assert asked.cancelled.is_set()
        go_on.set()
        assert await words(ask(runner)) == "Onetwo"


async def test_the_next_one_waits_for_a_model_that_does_not_stop_when_it_is_told() -> None:
    go_on = threading.Event()
    transcriber = DeafTranscriber(go_on, "late")
    async with running(transcriber) as runner:
        first = ask(runner, b"1")
        await transcriber.wait_asked()
        first.cancel()
        second = ask(runner, b"2")
        await asyncio.sleep(0.01)
        assert order(transcriber) == b"1"
        go_on.set()
        assert await words(second) == "late"
        assert str(await error_of(first)) == "the transcription was stopped"


async def test_cancelling_what_is_done_takes_nothing_back() -> None:
    async with running(ScriptedTranscriber("Hi")) as runner:
        job = ask(runner)
        await words(job)
        job.cancel()
        job.hurry(Priority.FINAL)
        assert await words(job) == "Hi"


async def test_one_that_all_have_left_does_not_load_a_model_or_hold_up_another() -> None:
    transcriber = ScriptedTranscriber("Hi")
    async with running(transcriber) as runner:
        ask(runner, b"1").cancel()
        await all_done(runner)
        assert (transcriber.loads, transcriber.asked) == (0, [])
        assert await words(ask(runner, b"2")) == "Hi"


async def test_one_that_all_have_left_while_it_loaded_is_never_begun() -> None:
    loaded = threading.Event()
    transcriber = ScriptedTranscriber("Hi", loading=[loaded])
    async with running(transcriber) as runner:
        job = ask(runner, b"1")
        await transcriber.wait_loading()
        job.cancel()
        loaded.set()
        await all_done(runner)
        assert runner._working
        assert runner._working.exception() is None
        assert transcriber.asked == []
        assert await words(ask(runner, b"2")) == "Hi"


# Overload


async def test_more_than_can_wait_are_refused_until_there_is_room() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber, max_waiting=2) as runner:
        jobs = [ask(runner)]
        await transcriber.wait_asked()
        jobs += [ask(runner), ask(runner)]
        with pytest.raises(OverloadedError, match=r"^the worker is busy: 3 passages wait for the model$"):
            ask(runner)
        go_on.set()
        assert [await words(job) for job in jobs] == ["done"] * 3
        assert await words(ask(runner)) == "done"


@pytest.mark.parametrize("priority", [Priority.FINAL, Priority.SEGMENT])
async def test_the_last_who_is_less_urgent_gives_way(priority: Priority) -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber, max_waiting=3) as runner:
        ask(runner, b"0")
        await transcriber.wait_asked()
        first = ask(runner, b"3", Priority.SPECULATION)
        last = ask(runner, b"x", Priority.SPECULATION)
        other = ask(runner, b"1", Priority.FINAL)
        new = ask(runner, b"2", priority)
        assert last.is_done
        assert isinstance(await error_of(last), OverloadedError)
        go_on.set()
        assert [await words(job) for job in (first, other, new)] == ["done"] * 3
    assert order(transcriber) == b"0123"


@pytest.mark.parametrize("priority", list(Priority))
async def test_nobody_gives_way_to_who_is_no_more_urgent(priority: Priority) -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber, max_waiting=1) as runner:
        ask(runner)
        await transcriber.wait_asked()
        waiting = ask(runner, priority=priority)
        with pytest.raises(OverloadedError):
            ask(runner, priority=priority)
        go_on.set()
        assert await words(waiting) == "done"


async def test_who_has_left_takes_nobodys_place() -> None:
    loaded = threading.Event()
    transcriber = ScriptedTranscriber("Hi", loading=[loaded])
    async with running(transcriber, max_waiting=0) as runner:
        for _ in range(3):
            ask(runner).cancel()
        job = ask(runner)
        with pytest.raises(OverloadedError):
            ask(runner)
        loaded.set()
        assert await words(job) == "Hi"


# Loading


async def test_the_model_is_loaded_once_for_all_who_wait() -> None:
    loaded = threading.Event()
    transcriber = ScriptedTranscriber("Hi", loading=[loaded])
    async with running(transcriber) as runner:
        runner.start_loading()
        jobs = [ask(runner) for _ in range(3)]
        await transcriber.wait_loading()
        runner.start_loading()
        assert (runner.ready, runner.error, transcriber.asked) == (False, None, [])
        loaded.set()
        assert [await words(job) for job in jobs] == ["Hi"] * 3
        assert runner.ready
        runner.start_loading()
        await runner.wait_ready()
    assert transcriber.loads == 1


async def test_a_passage_alone_has_the_model_loaded() -> None:
    transcriber = ScriptedTranscriber("Hi")
    async with running(transcriber) as runner:
        assert await words(ask(runner)) == "Hi"
    assert transcriber.loads == 1


async def test_a_model_that_cannot_be_loaded_is_told_to_all_who_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(ScriptedTranscriber(loading=[NO_MODEL])) as runner:
        errors = [await error_of(job) for job in [ask(runner) for _ in range(3)]]
        assert [(type(error), str(error)) for error in errors] == [(type(NO_MODEL), str(NO_MODEL))] * 3
        assert (runner.ready, str(runner.error)) == (False, str(NO_MODEL))
    assert [(record.message, record.exc_info) for record in caplog.records] == [(str(NO_MODEL), None)]


async def test_an_unforeseen_failure_to_load_is_an_error_for_users_and_a_trace_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(ScriptedTranscriber(loading=[OSError("disk on fire")], model="tiny")) as runner:
        error = await error_of(ask(runner))
    assert isinstance(error, ModelUnavailableError)
    assert str(error) == "the Whisper model tiny could not be loaded: disk on fire"
    (record,) = caplog.records
    assert record.exc_info is not None


async def test_a_failure_to_load_is_believed_for_a_while_and_then_tried_again() -> None:
    clock = Clock()
    transcriber = ScriptedTranscriber("Hi", loading=[NO_MODEL])
    async with running(transcriber, clock=clock, retry_s=60.0) as runner:
        for _ in range(3):
            assert isinstance(await error_of(ask(runner)), ModelUnavailableError)
        assert transcriber.loads == 1
        clock.now += 59.9
        with pytest.raises(ModelUnavailableError):
            await runner.wait_ready()
        assert transcriber.loads == 1
        clock.now += 0.1
        assert await words(ask(runner)) == "Hi"
        assert (transcriber.loads, runner.ready, runner.error) == (2, True, None)


async def test_a_second_failure_is_believed_as_long_as_the_first() -> None:
    clock = Clock()
    transcriber = ScriptedTranscriber(loading=[NO_MODEL, ModelUnavailableError("still none")])
    async with running(transcriber, clock=clock, retry_s=60.0) as runner:
        for expected in ("no model here: fetch one", "still none", "still none"):
            assert str(await error_of(ask(runner))) == expected
            clock.now += 60.0 if transcriber.loads == 1 else 1.0
    assert transcriber.loads == 2


async def test_an_error_keeps_nothing_of_the_utterances_it_was_told_to() -> None:
    async with running(ScriptedTranscriber(loading=[NO_MODEL])) as runner:
        for _ in range(3):
            with pytest.raises(ModelUnavailableError) as error:
                await ask(runner).result()
        assert len(error.traceback) < 6
        assert runner.error
        before = runner.error.__traceback__
        with pytest.raises(ModelUnavailableError):
            await runner.wait_ready()
        assert runner.error.__traceback__ is before
        first, second = ask(runner), ask(runner)
        assert await error_of(first) is not await error_of(second)


async def test_a_failure_to_load_takes_nobodys_place() -> None:
    async with running(ScriptedTranscriber(loading=[NO_MODEL]), max_waiting=0) as runner:
        for _ in range(3):
            assert isinstance(await error_of(ask(runner)), ModelUnavailableError)


# A model that fails


async def test_an_error_of_the_model_is_told_as_it_is() -> None:
    async with running(ScriptedTranscriber("One", TranscriptionError("out of breath"))) as runner:
        assert str(await error_of(ask(runner))) == "out of breath"


async def test_an_unforeseen_error_of_the_model_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with running(ScriptedTranscriber(KeyError("beam"))) as runner:
        assert str(await error_of(ask(runner))) == "the Whisper model failed: 'beam'"
    (record,) = caplog.records
    assert record.exc_info is not None


async def test_the_model_works_on_after_an_error() -> None:
    transcriber = ScriptedTranscriber(TranscriptionError("no"))
    async with running(transcriber) as runner:
        await error_of(ask(runner))
        transcriber.script = ("Yes",)
        assert await words(ask(runner)) == "Yes"


async def test_an_error_that_nobody_asks_for_is_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    async with running(ScriptedTranscriber(TranscriptionError("no"))) as runner:
        ask(runner)
        await all_done(runner)
        gc.collect()  # which would tell of an error that nobody saw
    assert caplog.records == []


# A model that stands still


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modal_whisper.runner._CALL_SECONDS", 0.05)


@pytest.mark.usefixtures("_impatient")
async def test_a_model_that_stands_still_is_told_to_all_who_wait(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "late")
    async with running(transcriber) as runner:
        jobs = [ask(runner, priority=priority) for priority in Priority]
        for job in jobs:
            with pytest.raises(ModelUnavailableError, match=STUCK):
                await words(job)
        assert (runner.ready, str(runner.error)) == (False, STUCK[1:-1])
        assert [asked.cancelled.is_set() for asked in transcriber.asked] == [True]
        go_on.set()
    assert [record.message for record in caplog.records] == [STUCK[1:-1]]


@pytest.mark.usefixtures("_impatient")
async def test_while_it_stands_still_whoever_comes_is_told_at_once_and_it_is_not_loaded_again() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "late")
    async with running(transcriber, max_waiting=1) as runner:
        await error_of(ask(runner))
        for _ in range(3):
            job = ask(runner)
            assert job.is_done
            with pytest.raises(ModelUnavailableError, match=STUCK):
                await words(job)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ModelUnavailableError, match=STUCK):
                await runner.wait_ready()
        assert (transcriber.loads, len(transcriber.asked)) == (1, 1)
        go_on.set()


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("last", ["late", KeyError("late")], ids=["words", "an error"])
async def test_once_it_goes_on_it_is_well_again(
    last: str | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    transcriber = DeafTranscriber(go_on, last)
    async with running(transcriber) as runner:
        job = ask(runner)
        await error_of(job)
        transcriber.script = (go_on, "Hi")
        go_on.set()
        await all_done(runner)
        assert (runner.ready, runner.error) == (True, None)
        assert await words(ask(runner)) == "Hi"
        with pytest.raises(ModelUnavailableError, match=STUCK):
            await words(job)
        gc.collect()  # which would tell of an error that nobody saw
    assert (transcriber.loads, len(transcriber.asked)) == (1, 2)
    assert [record.getMessage() for record in caplog.records] == [STUCK[1:-1]]


@pytest.mark.usefixtures("_impatient")
async def test_one_that_stands_still_can_be_closed() -> None:
    go_on = threading.Event()
    runner = ModelRunner(ScriptedTranscriber(go_on))
    await error_of(ask(runner))
    async with asyncio.timeout(PATIENCE):
        await runner.close()
    go_on.set()
    runner._thread.shutdown(wait=True)
    await asyncio.sleep(0.01)
    assert not runner.ready


# The end


async def test_closing_fails_those_who_wait_for_loading_at_once() -> None:
    loaded = threading.Event()
    transcriber = ScriptedTranscriber(loading=[loaded])
    runner = ModelRunner(transcriber)
    job = ask(runner)
    waiting = asyncio.create_task(runner.wait_ready())
    await transcriber.wait_loading()
    async with asyncio.timeout(PATIENCE):
        await runner.close()
        with pytest.raises(TranscriptionError, match=STOPPED):
            await words(job)
        with pytest.raises(ModelUnavailableError, match=r"^the Whisper model is being shut down$"):
            await waiting
    loaded.set()


async def test_closing_stops_what_runs_and_what_waits_without_waiting_for_the_model() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "too late")
    runner = ModelRunner(transcriber)
    jobs = [ask(runner, b"1"), ask(runner, b"2")]
    asked = await transcriber.wait_asked()
    async with asyncio.timeout(PATIENCE):
        await runner.close()
        for job in jobs:
            with pytest.raises(TranscriptionError, match=STOPPED):
                await words(job)
    assert asked.cancelled.is_set()
    go_on.set()
    runner._thread.shutdown(wait=True)
    assert order(transcriber) == b"1"


async def test_a_model_that_fails_after_closing_complains_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()
    transcriber = DeafTranscriber(go_on, KeyError("late"))
    runner = ModelRunner(transcriber)
    ask(runner)
    await transcriber.wait_asked()
    await runner.close()
    go_on.set()
    runner._thread.shutdown(wait=True)
    await asyncio.sleep(0.01)
    gc.collect()  # which would tell of an error that nobody saw
    assert caplog.records == []


async def test_a_closed_runner_keeps_no_model() -> None:
    transcriber = ScriptedTranscriber("Hi", model="tiny")
    runner = ModelRunner(transcriber)
    await runner.wait_ready()
    await runner.close()
    kept = weakref.ref(transcriber)
    del transcriber
    assert kept() is None
    assert runner.name == "tiny"


async def test_a_closed_runner_takes_and_loads_nothing(caplog: pytest.LogCaptureFixture) -> None:
    transcriber = ScriptedTranscriber("Hi")
    runner = ModelRunner(transcriber)
    await runner.wait_ready()
    await runner.close()
    await runner.close()
    runner.start_loading()
    assert not runner.ready
    with pytest.raises(ModelUnavailableError, match=r"^the Whisper model is being shut down$"):
        await words(ask(runner))
    await all_done(runner)
    del runner
    gc.collect()  # which would tell of an error that nobody saw
    assert (transcriber.loads, transcriber.asked, caplog.records) == (1, [], [])


@pytest.mark.parametrize("is_loaded", [True, False], ids=["while it works", "while it loads"])
def test_a_thread_that_outlives_the_loop_complains_to_nobody(
    *,
    is_loaded: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber("One", go_on, "two", loading=[None if is_loaded else go_on])

    async def use() -> ModelRunner:
        runner = ModelRunner(transcriber)
        if is_loaded:
            ask(runner)
            await transcriber.wait_asked()
        else:
            runner.start_loading()
            await transcriber.wait_loading()
        await runner.close()
        return runner

    runner = asyncio.run(use())
    go_on.set()
    runner._thread.shutdown(wait=True)
    assert [record.getMessage() for record in caplog.records] == []
