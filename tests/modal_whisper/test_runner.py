from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from modal_whisper.errors import ModelUnavailableError, OverloadedError, TranscriptionError
from modal_whisper.runner import ModelRunner
from modal_whisper.transcriber import Segment
from tests.fakes import PATIENCE, ScriptedTranscriber

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from modal_whisper.runner import Job

PCM = bytes(3200)
NO_MODEL = ModelUnavailableError("no model here: fetch one")


@asynccontextmanager
async def running(transcriber: ScriptedTranscriber, **options: Any) -> AsyncIterator[ModelRunner]:
    runner = ModelRunner(transcriber, **options)
    try:
        yield runner
    finally:
        await runner.close()


async def words(job: Job) -> list[str]:
    async with asyncio.timeout(PATIENCE):
        return [segment.text async for segment in job.segments()]


async def idle(runner: ModelRunner) -> None:
    """Return once the thread has nothing left to do."""
    while runner.busy:  # noqa: ASYNC110 - the thread tells nobody when it is through
        await asyncio.sleep(0.001)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_the_segments_come_in_order() -> None:
    async with running(ScriptedTranscriber(" One", Segment(" dos", "es"), " three")) as runner:
        job = await runner.submit(PCM)
        assert [(segment.text, segment.language) async for segment in job.segments()] == [
            (" One", "en"),
            (" dos", "es"),
            (" three", "en"),
        ]


async def test_the_model_is_given_everything_that_was_asked() -> None:
    transcriber = ScriptedTranscriber("Hola")
    async with running(transcriber) as runner:
        await words(await runner.submit(PCM, language="es", names=["Ana"], terms=["luz", "sol"]))
        await words(await runner.submit(b"\1\2"))
    first, second = transcriber.asked
    assert (first.pcm, first.language, first.names, first.terms) == (PCM, "es", ("Ana",), ("luz", "sol"))
    assert (second.pcm, second.language, second.names, second.terms) == (b"\1\2", None, (), ())


async def test_a_segment_is_told_while_the_model_goes_on() -> None:
    go_on = threading.Event()
    async with running(ScriptedTranscriber("One", go_on, "two")) as runner:
        segments = (await runner.submit(PCM)).segments()
        assert (await anext(segments)).text == "One"
        go_on.set()
        assert (await anext(segments)).text == "two"


async def test_the_work_is_measured() -> None:
    ticks = itertools.count(step=1.25)
    async with running(ScriptedTranscriber("One", "two"), clock=lambda: next(ticks)) as runner:
        job = await runner.submit(PCM)
        await words(job)
        assert job.work_ms == 1250


async def test_jobs_are_done_one_after_another() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber) as runner:
        first, second = await runner.submit(b"1"), await runner.submit(b"2")
        await transcriber.wait_asked()
        assert len(transcriber.asked) == 1
        go_on.set()
        assert [await words(first), await words(second)] == [["done"], ["done"]]
    assert [asked.pcm for asked in transcriber.asked] == [b"1", b"2"]


async def test_the_model_is_loaded_once_for_all_who_wait() -> None:
    loaded = threading.Event()
    transcriber = ScriptedTranscriber("Hi", loading=[loaded])
    async with running(transcriber) as runner:
        runner.start_loading()
        jobs = [asyncio.create_task(runner.submit(PCM)) for _ in range(3)]
        await transcriber.wait_loading()
        runner.start_loading()
        assert (runner.ready, runner.error, transcriber.asked) == (False, None, [])
        loaded.set()
        assert [await words(await job) for job in jobs] == [["Hi"]] * 3
        assert runner.ready
        runner.start_loading()
        await runner.wait_ready()
    assert transcriber.loads == 1


async def test_its_model_is_the_transcribers() -> None:
    async with running(ScriptedTranscriber(model="tiny")) as runner:
        assert runner.model == "tiny"


async def test_a_model_that_cannot_be_loaded_is_told_to_all_who_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(ScriptedTranscriber(loading=[NO_MODEL])) as runner:
        jobs = [runner.submit(PCM) for _ in range(3)]
        errors = await asyncio.gather(*jobs, return_exceptions=True)
        assert [(type(error), str(error)) for error in errors] == [(type(NO_MODEL), str(NO_MODEL))] * 3
        assert (runner.ready, str(runner.error)) == (False, str(NO_MODEL))
    assert [(record.message, record.exc_info) for record in caplog.records] == [(str(NO_MODEL), None)]


async def test_an_unforeseen_failure_to_load_is_an_error_for_users_and_a_trace_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(ScriptedTranscriber(loading=[OSError("disk on fire")], model="tiny")) as runner:
        with pytest.raises(ModelUnavailableError) as error:
            await runner.submit(PCM)
    assert str(error.value) == "the Whisper model tiny could not be loaded: disk on fire"
    (record,) = caplog.records
    assert record.exc_info is not None


async def test_a_failure_to_load_is_believed_for_a_while_and_then_tried_again() -> None:
    clock = Clock()
    transcriber = ScriptedTranscriber("Hi", loading=[NO_MODEL])
    async with running(transcriber, clock=clock, retry_s=60.0) as runner:
        for _ in range(3):
            with pytest.raises(ModelUnavailableError):
                await runner.submit(PCM)
        assert transcriber.loads == 1
        clock.now += 59.9
        with pytest.raises(ModelUnavailableError):
            await runner.wait_ready()
        assert transcriber.loads == 1
        clock.now += 0.1
        assert await words(await runner.submit(PCM)) == ["Hi"]
        assert (transcriber.loads, runner.ready, runner.error) == (2, True, None)


async def test_a_second_failure_is_believed_as_long_as_the_first() -> None:
    clock = Clock()
    transcriber = ScriptedTranscriber(loading=[NO_MODEL, ModelUnavailableError("still none")])
    async with running(transcriber, clock=clock, retry_s=60.0) as runner:
        for expected in ("no model here: fetch one", "still none", "still none"):
            with pytest.raises(ModelUnavailableError, match=expected):
                await runner.submit(PCM)
            clock.now += 60.0 if transcriber.loads == 1 else 1.0
    assert transcriber.loads == 2


async def test_an_error_keeps_nothing_of_the_utterances_it_was_told_to() -> None:
    async with running(ScriptedTranscriber(loading=[NO_MODEL])) as runner:
        for _ in range(3):
            with pytest.raises(ModelUnavailableError) as error:
                await runner.submit(PCM)
        assert len(error.traceback) < 6
        assert runner.error is not error.value


async def test_an_error_of_the_model_is_told_after_the_segments_before_it() -> None:
    async with running(ScriptedTranscriber("One", TranscriptionError("out of breath"))) as runner:
        segments = (await runner.submit(PCM)).segments()
        assert (await anext(segments)).text == "One"
        with pytest.raises(TranscriptionError, match=r"^out of breath$"):
            await anext(segments)


async def test_an_unforeseen_error_of_the_model_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with running(ScriptedTranscriber(KeyError("beam"))) as runner:
        with pytest.raises(TranscriptionError, match=r"^the Whisper model failed: 'beam'$"):
            await words(await runner.submit(PCM))
    (record,) = caplog.records
    assert record.exc_info is not None


async def test_the_model_works_on_after_an_error() -> None:
    transcriber = ScriptedTranscriber(TranscriptionError("no"))
    async with running(transcriber) as runner:
        with pytest.raises(TranscriptionError):
            await words(await runner.submit(PCM))
        transcriber.script = ("Yes",)
        assert await words(await runner.submit(PCM)) == ["Yes"]


async def test_a_job_that_is_cancelled_before_its_turn_is_never_begun() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber) as runner:
        first, second, third = [await runner.submit(bytes([number])) for number in (1, 2, 3)]
        await transcriber.wait_asked()
        second.cancel()
        go_on.set()
        assert [await words(first), await words(third)] == [["done"], ["done"]]
    assert [asked.pcm for asked in transcriber.asked] == [b"\1", b"\3"]


async def test_a_job_that_is_cancelled_stops_after_the_segment_it_is_at() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber("One", go_on, "two", "three")
    async with running(transcriber) as runner:
        job = await runner.submit(PCM)
        segments = job.segments()
        assert (await anext(segments)).text == "One"
        job.cancel()
        assert transcriber.asked[0].cancelled.is_set()
        go_on.set()
        with pytest.raises(TranscriptionError, match=r"^the transcription was stopped$"):
            await anext(segments)


class DeafTranscriber(ScriptedTranscriber):
    """Does not look whether it is cancelled."""

    given = 0

    def segments(self, *_: Any, **__: Any) -> Iterator[Segment]:
        for step in self.script:
            if isinstance(step, threading.Event):
                step.wait(PATIENCE)
            else:
                self.given += 1
                yield Segment(str(step), "en")


async def test_a_job_is_stopped_even_if_the_transcriber_does_not_listen() -> None:
    go_on = threading.Event()
    transcriber = DeafTranscriber("One", go_on, "two", "three")
    async with running(transcriber) as runner:
        job = await runner.submit(PCM)
        segments = job.segments()
        await anext(segments)
        job.cancel()
        go_on.set()
        with pytest.raises(TranscriptionError, match="stopped"):
            assert [segment async for segment in segments] == ["never"]
    assert transcriber.given == 2


async def test_more_jobs_than_can_wait_are_refused_until_one_is_done() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "done")
    async with running(transcriber, max_waiting=2) as runner:
        jobs = [await runner.submit(PCM) for _ in range(3)]
        with pytest.raises(OverloadedError, match=r"^the worker is busy: 3 utterances wait for the model$"):
            await runner.submit(PCM)
        go_on.set()
        assert [await words(job) for job in jobs] == [["done"]] * 3
        await idle(runner)
        assert await words(await runner.submit(PCM)) == ["done"]


async def test_who_waits_for_loading_counts_and_counts_no_more_when_gone() -> None:
    loaded = threading.Event()
    async with running(ScriptedTranscriber("Hi", loading=[loaded]), max_waiting=0) as runner:
        waiting = asyncio.create_task(runner.submit(PCM))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await runner.submit(PCM)
        waiting.cancel()
        await asyncio.wait([waiting])
        loaded.set()
        assert await words(await runner.submit(PCM)) == ["Hi"]


async def test_a_failure_to_load_takes_nobodys_place() -> None:
    async with running(ScriptedTranscriber(loading=[NO_MODEL]), max_waiting=0) as runner:
        for _ in range(3):
            with pytest.raises(ModelUnavailableError):
                await runner.submit(PCM)


async def test_it_is_busy_while_it_loads_and_while_it_works() -> None:
    loaded, go_on = threading.Event(), threading.Event()
    transcriber = ScriptedTranscriber(go_on, loading=[loaded])
    async with running(transcriber) as runner:
        assert not runner.busy
        runner.start_loading()
        await transcriber.wait_loading()
        assert runner.busy
        loaded.set()
        await runner.wait_ready()
        assert not runner.busy
        job = await runner.submit(PCM)
        await transcriber.wait_asked()
        job.cancel()
        assert runner.busy
        go_on.set()
        await idle(runner)


async def test_closing_fails_those_who_wait_for_loading_at_once() -> None:
    loaded = threading.Event()
    transcriber = ScriptedTranscriber(loading=[loaded])
    runner = ModelRunner(transcriber)
    waiting = asyncio.create_task(runner.submit(PCM))
    await transcriber.wait_loading()
    async with asyncio.timeout(PATIENCE):
        await runner.close()
        with pytest.raises(ModelUnavailableError, match=r"^the Whisper model is being shut down$"):
            await waiting
    assert runner.busy
    loaded.set()
    await idle(runner)


async def test_closing_stops_what_runs_and_what_waits_without_waiting_for_the_model() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "too late")
    runner = ModelRunner(transcriber)
    running_job, waiting_job = await runner.submit(b"1"), await runner.submit(b"2")
    await transcriber.wait_asked()
    async with asyncio.timeout(PATIENCE):
        await runner.close()
    assert runner.busy
    go_on.set()
    for job in (running_job, waiting_job):
        with pytest.raises(TranscriptionError, match="stopped"):
            await words(job)
    assert [asked.pcm for asked in transcriber.asked] == [b"1"]


async def test_a_closed_runner_takes_and_loads_nothing(caplog: pytest.LogCaptureFixture) -> None:
    transcriber = ScriptedTranscriber("Hi")
    runner = ModelRunner(transcriber)
    await runner.wait_ready()
    await runner.close()
    await runner.close()
    runner.start_loading()
    assert not runner.ready
    with pytest.raises(ModelUnavailableError, match="shut down"):
        await runner.submit(PCM)
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
            await runner.submit(PCM)
            await transcriber.wait_asked()
        else:
            runner.start_loading()
            await transcriber.wait_loading()
        await runner.close()
        return runner

    runner = asyncio.run(use())
    go_on.set()
    runner._thread.shutdown(wait=True)
    assert not runner.busy
    assert [record.getMessage() for record in caplog.records] == []
