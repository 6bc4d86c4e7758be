from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from modal_whisper.errors import ModelUnavailableError, OverloadedError, TranscriptionError
from modal_whisper.front import GpuFirst
from modal_whisper.gpu import Station
from modal_whisper.messages import Failure, Final, Start, Stop, decode_worker, encode
from modal_whisper.model import Priority, Transcript
from modal_whisper.runner import ModelRunner
from modal_whisper.service import create_app
from tests.fakes import PATIENCE
from tests.modal_whisper.scripted_models import GPU, PASSAGE, SPARE, ScriptedModel, ScriptedRemote
from tests.sounds import silence, speech
from tests.virtual_clock import virtual_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from modal_whisper.model import Passage

IDLE = 180.0


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def front(
    remote: ScriptedRemote | None = None, spare: ScriptedModel | None = None, **options: Any
) -> AsyncIterator[GpuFirst]:
    """A front on the running loop's clock, closed in the end."""
    remote = remote or ScriptedRemote()
    model = GpuFirst(
        remote, spare or ScriptedModel(), name=GPU, clock=now, **{"idle_s": IDLE, "retry_s": 10.0, **options}
    )
    try:
        yield model
    finally:
        await model.close()
        await remote.wait_booted()


async def ask(model: GpuFirst, priority: Priority = Priority.FINAL) -> tuple[str, float]:
    """Who answers a passage, and when."""
    started = now()
    transcript = await model.submit(PASSAGE, priority).result()
    return transcript.model, round(now() - started, 6)


# Who answers


@virtual_clock
async def test_a_call_that_is_cancelled_on_the_other_side_is_a_failure() -> None:
    class Cancelling(ScriptedRemote):
        async def transcribe(self, passage: Passage, priority: Priority) -> Transcript:
            raise asyncio.CancelledError

    async with front(Cancelling()) as model:
        assert await ask(model) == (SPARE, 0.5)


@virtual_clock
async def test_where_there_is_no_room_the_least_urgent_gives_way() -> None:
    async with front(ScriptedRemote(boot=50.0), ScriptedModel(work=50.0), max_waiting=2) as model:
        segment = model.submit(PASSAGE, Priority.SEGMENT)
        speculation = model.submit(PASSAGE, Priority.SPECULATION)
        final = model.submit(PASSAGE, Priority.FINAL)
        with pytest.raises(TranscriptionError, match="stopped"):
            await speculation.result()
        with pytest.raises(OverloadedError):
            model.submit(PASSAGE, Priority.SPECULATION)
        assert not segment.is_done
        assert not final.is_done


@virtual_clock
async def test_a_gpu_that_is_awake_answers_alone_and_the_passage_goes_there_once() -> None:
    remote, spare = ScriptedRemote(), ScriptedModel()
    async with front(remote, spare) as model:
        transcript = await model.submit(PASSAGE, Priority.SEGMENT).result()
        assert transcript == Transcript("words of the GPU", "en", GPU)
        assert remote.asked == [(PASSAGE, Priority.SEGMENT)]
        assert spare.jobs == []


@pytest.mark.parametrize(
    ("boot", "spare_needs", "answer"),
    [
        (0.0, 0.5, (GPU, 0.2)),
        (2.0, 0.5, (SPARE, 1.5)),
        (20.0, 0.5, (SPARE, 1.5)),
        (2.0, 3.0, (GPU, 2.2)),
        (20.0, 3.0, (SPARE, 4.0)),
    ],
)
@virtual_clock
async def test_the_spare_is_asked_after_a_second_and_the_first_answer_wins(
    boot: float, spare_needs: float, answer: tuple[str, float]
) -> None:
    async with front(ScriptedRemote(boot=boot), ScriptedModel(work=spare_needs)) as model:
        assert await ask(model) == answer


@virtual_clock
async def test_the_spare_gets_the_passage_that_the_gpu_got() -> None:
    spare = ScriptedModel()
    async with front(ScriptedRemote(boot=20), spare) as model:
        await ask(model, Priority.SEGMENT)
        assert [(job.passage, job.priority) for job in spare.jobs] == [(PASSAGE, Priority.SEGMENT)]


@virtual_clock
async def test_the_spare_is_asked_at_once_when_the_gpu_fails() -> None:
    async with front(ScriptedRemote(errors=(None, RuntimeError("no GPU left")))) as model:
        assert await ask(model) == (SPARE, 0.7)


@virtual_clock
async def test_the_gpu_may_still_answer_where_the_spare_has_failed() -> None:
    spare = ScriptedModel(error=TranscriptionError("out of memory"))
    async with front(ScriptedRemote(boot=20), spare) as model:
        assert await ask(model) == (GPU, 20.2)


@virtual_clock
async def test_the_gpu_may_still_answer_where_the_spare_is_too_busy() -> None:
    spare = ScriptedModel(refusal=OverloadedError("busy"))
    async with front(ScriptedRemote(boot=20), spare) as model:
        assert await ask(model) == (GPU, 20.2)


@pytest.mark.parametrize("kind", [TranscriptionError, ModelUnavailableError, OverloadedError])
@virtual_clock
async def test_where_both_fail_the_error_is_of_the_spares_kind_and_says_both(
    kind: type[TranscriptionError],
) -> None:
    remote = ScriptedRemote(errors=(None, RuntimeError("no GPU left\nat line 3")))
    async with front(remote, ScriptedModel(error=kind("the disk is full"))) as model:
        job = model.submit(PASSAGE, Priority.FINAL)
        with pytest.raises(kind, match=r"^the GPU cannot be had \(no GPU left\), and the disk is full$"):
            await job.result()
        assert job.is_done


@virtual_clock
async def test_a_call_that_never_returns_fails_in_the_end() -> None:
    spare = ScriptedModel(error=TranscriptionError("out of memory"))
    async with front(ScriptedRemote(boot=500), spare, limit_s=60.0) as model:
        job = model.submit(PASSAGE, Priority.FINAL)
        with pytest.raises(TranscriptionError, match="no answer within 60 s"):
            await job.result()
        assert now() == 60


# Jobs


@virtual_clock
async def test_the_loser_is_cancelled() -> None:
    slow = ScriptedRemote(boot=20)
    async with front(slow) as model:
        await ask(model)
        await asyncio.sleep(0)
        assert slow.cancelled == 1  # the passage; the warm-up goes on
    spare = ScriptedModel(work=3)
    async with front(ScriptedRemote(boot=2), spare) as model:
        await ask(model)
        await asyncio.sleep(0)
        assert spare.jobs[0].is_cancelled


@virtual_clock
async def test_cancelling_a_job_cancels_both() -> None:
    remote, spare = ScriptedRemote(boot=20), ScriptedModel(work=30)
    async with front(remote, spare) as model:
        job = model.submit(PASSAGE, Priority.SPECULATION)
        await asyncio.sleep(2)
        job.cancel()
        with pytest.raises(TranscriptionError, match="stopped"):
            await job.result()
        await asyncio.sleep(0)
        assert remote.cancelled == 1
        assert spare.jobs[0].is_cancelled


@virtual_clock
async def test_a_job_that_is_cancelled_at_once_asks_nobody() -> None:
    remote = ScriptedRemote()
    async with front(remote) as model:
        model.submit(PASSAGE, Priority.SPECULATION).cancel()
        await asyncio.sleep(1)
        assert remote.asked == []


@virtual_clock
async def test_a_result_may_be_asked_for_twice_and_a_waiter_may_leave() -> None:
    async with front() as model:
        job = model.submit(PASSAGE, Priority.FINAL)
        assert not job.is_done
        leaving = asyncio.create_task(job.result())
        await asyncio.sleep(0.1)
        leaving.cancel()
        assert await job.result() == await job.result()
        assert job.is_done


@virtual_clock
async def test_a_job_is_hurried_at_the_spare_before_and_after_that_was_asked() -> None:
    spare = ScriptedModel(work=5)
    async with front(ScriptedRemote(boot=20), spare) as model:
        early, late = (model.submit(PASSAGE, Priority.SPECULATION) for _ in range(2))
        early.hurry(Priority.FINAL)
        await asyncio.sleep(2)
        assert [job.priority for job in spare.jobs] == [Priority.FINAL, Priority.SPECULATION]
        late.hurry(Priority.FINAL)
        assert spare.jobs[1].priority == Priority.FINAL
        early.cancel()
        late.cancel()


@virtual_clock
async def test_more_passages_than_it_may_work_on_are_refused() -> None:
    async with front(max_waiting=2) as model:
        jobs = [model.submit(PASSAGE, Priority.FINAL) for _ in range(2)]
        with pytest.raises(OverloadedError):
            model.submit(PASSAGE, Priority.FINAL)
        for job in jobs:
            await job.result()
        await ask(model)


# Waking the GPU


@virtual_clock
async def test_the_gpu_is_woken_once_and_again_only_after_it_may_have_gone_to_sleep() -> None:
    remote = ScriptedRemote(boot=5)
    async with front(remote) as model:
        for _ in range(3):
            model.start_loading()
            await asyncio.sleep(2)
        assert remote.warmed == 1
        await asyncio.sleep(IDLE - 2)
        model.start_loading()  # 179 s after the boot
        assert remote.warmed == 1
        await asyncio.sleep(1)
        model.start_loading()
        await asyncio.sleep(0)
        assert remote.warmed == 2


@virtual_clock
async def test_every_answer_keeps_it_awake_for_longer() -> None:
    remote = ScriptedRemote()
    async with front(remote) as model:
        await ask(model)
        await asyncio.sleep(IDLE - 10)
        await ask(model)
        await asyncio.sleep(IDLE - 10)
        model.start_loading()
        await asyncio.sleep(0)
        assert (remote.warmed, model.state) == (1, {"gpu": "ready"})


@virtual_clock
async def test_a_gpu_that_has_just_failed_is_left_alone_for_a_while() -> None:
    remote = ScriptedRemote(errors=(RuntimeError("no GPU left"),))
    async with front(remote) as model:
        await model.wait_ready()
        model.start_loading()
        await asyncio.sleep(9.9)
        model.start_loading()
        assert remote.warmed == 1
        await asyncio.sleep(0.2)
        await model.wait_ready()
        assert (remote.warmed, model.state) == (2, {"gpu": "ready"})


@virtual_clock
async def test_the_state_tells_of_the_gpu_without_waking_it() -> None:
    remote = ScriptedRemote(boot=5)
    async with front(remote) as model:
        assert (model.state, remote.warmed) == ({"gpu": "cold"}, 0)
        model.start_loading()
        assert model.state == {"gpu": "warming"}
        await asyncio.sleep(5.1)
        assert model.state == {"gpu": "ready"}
        await asyncio.sleep(IDLE)
        assert (model.state, remote.warmed) == ({"gpu": "cold"}, 1)


@virtual_clock
async def test_a_gpu_that_is_late_though_it_should_be_awake_is_woken_again() -> None:
    remote = ScriptedRemote()
    async with front(remote) as model:
        await ask(model)
        remote.sleep(boot=20)  # Modal has taken the machine away
        assert await ask(model) == (SPARE, 1.5)
        assert (model.state, remote.warmed) == ({"gpu": "warming"}, 2)
        await asyncio.sleep(20)
        assert model.state == {"gpu": "ready"}


@virtual_clock
async def test_a_gpu_that_fails_though_it_was_awake_counts_as_asleep() -> None:
    remote = ScriptedRemote(errors=(None, None, RuntimeError("taken away")))
    async with front(remote) as model:
        assert await ask(model) == (GPU, 0.2)
        assert await ask(model) == (SPARE, 0.7)
        assert model.state == {"gpu": "cold"}


@virtual_clock
async def test_an_error_of_the_model_itself_shows_that_the_gpu_is_awake() -> None:
    remote = ScriptedRemote(errors=(None, OverloadedError("too many wait")))
    async with front(remote) as model:
        await model.wait_ready()
        await asyncio.sleep(IDLE - 1)
        assert await ask(model) == (SPARE, 0.7)
        await asyncio.sleep(2)
        assert (model.state, remote.warmed) == ({"gpu": "ready"}, 1)


@virtual_clock
async def test_a_model_that_cannot_be_loaded_on_the_gpu_counts_as_no_gpu() -> None:
    remote = ScriptedRemote(errors=(ModelUnavailableError("not enough memory"),) * 2)
    async with front(remote) as model:
        assert await ask(model) == (SPARE, 0.7)
        assert model.state == {"gpu": "cold"}


# Being ready


@virtual_clock
async def test_it_is_ready_with_the_spare_alone_and_waiting_means_waiting_for_the_gpu() -> None:
    spare = ScriptedModel()
    async with front(ScriptedRemote(boot=5), spare) as model:
        assert not model.ready
        waiting = [asyncio.create_task(model.wait_ready()) for _ in range(2)]
        await asyncio.sleep(1)
        assert model.ready
        waiting[0].cancel()  # a client that has left
        await waiting[1]
        assert (now(), model.state, model.error) == (5, {"gpu": "ready"}, None)


@virtual_clock
async def test_without_a_gpu_the_spare_is_enough() -> None:
    async with front(ScriptedRemote(errors=(RuntimeError("no GPU left"),))) as model:
        await model.wait_ready()
        assert (model.ready, model.error, model.state) == (True, None, {"gpu": "cold"})


@virtual_clock
async def test_without_a_spare_the_gpu_is_enough() -> None:
    async with front(spare=ScriptedModel(unavailable=ModelUnavailableError("no model here"))) as model:
        assert model.error is None  # nobody has asked the GPU yet
        await model.wait_ready()
        assert (model.ready, model.error) == (True, None)


@virtual_clock
async def test_without_either_it_says_what_is_wrong_with_both() -> None:
    remote = ScriptedRemote(errors=(RuntimeError("no GPU left"),))
    spare = ScriptedModel(unavailable=ModelUnavailableError("no model here: fetch one"))
    reason = "the GPU cannot be had (no GPU left), and no model here: fetch one"
    async with front(remote, spare) as model:
        with pytest.raises(ModelUnavailableError) as raised:
            await model.wait_ready()
        assert str(raised.value) == str(model.error) == reason
        assert not model.ready


@virtual_clock
async def test_a_gpu_that_has_recovered_is_forgiven() -> None:
    remote = ScriptedRemote(errors=(RuntimeError("no GPU left"),))
    async with front(remote, ScriptedModel(unavailable=ModelUnavailableError("no model here"))) as model:
        with pytest.raises(ModelUnavailableError):
            await model.wait_ready()
        await asyncio.sleep(10)
        await model.wait_ready()
        await asyncio.sleep(IDLE)
        assert (model.ready, model.error) == (False, None)


@virtual_clock
async def test_closing_ends_all_work() -> None:
    remote, spare = ScriptedRemote(boot=20), ScriptedModel(work=30)
    async with front(remote, spare) as model:
        job = model.submit(PASSAGE, Priority.FINAL)
        waiting = asyncio.create_task(model.wait_ready())
        await asyncio.sleep(2)
        await model.close()
        with pytest.raises(TranscriptionError):
            await job.result()
        with pytest.raises(ModelUnavailableError, match="shut down"):
            await waiting
        with pytest.raises(ModelUnavailableError, match="shut down"):
            model.submit(PASSAGE, Priority.FINAL)
        model.start_loading()
        assert (remote.warmed, remote.cancelled, spare.is_closed) == (1, 2, True)


# Over sockets


class Transcriber:
    """A modal_whisper.transcriber.Transcriber that loads when it is let, and has words for everything."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.may_load = threading.Event()
        self.failure: Exception | None = None
        self.heard: list[Passage] = []

    def load(self) -> None:
        assert self.may_load.wait(PATIENCE)
        if self.failure:
            raise self.failure

    def transcribe(self, passage: Passage, cancelled: threading.Event) -> Transcript:
        self.heard.append(passage)
        return Transcript(f"words of {self.model}", "en", self.model)


class LocalGpu:
    """The GPU's end in this process: its model is loaded at the first call."""

    def __init__(self, transcriber: Transcriber) -> None:
        self.runner = ModelRunner(transcriber)
        self.station = Station(self.runner)
        self._calls = 0

    async def warm(self) -> None:
        await self.runner.wait_ready()

    async def transcribe(self, passage: Passage, priority: Priority) -> Transcript:
        self._calls += 1
        return await self.station.transcribe(str(self._calls), passage, priority)


class Served:
    """The service with such a front, on a port of its own."""

    def __init__(self, stack: AsyncExitStack, *, patience: float) -> None:
        self.gpu, self.spare = Transcriber(GPU), Transcriber(SPARE)
        self.spare.may_load.set()
        self._local = LocalGpu(self.gpu)
        self._stack = stack
        self._model = GpuFirst(
            self._local, ModelRunner(self.spare), name=GPU, idle_s=IDLE, patience_s=patience
        )
        self._address = ""

    async def start(self) -> Served:
        runner = web.AppRunner(create_app(self._model), access_log=None)
        await runner.setup()
        self._stack.push_async_callback(self._local.station.close)
        self._stack.push_async_callback(runner.cleanup)
        self._stack.callback(self.gpu.may_load.set)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession())
        return self

    async def get(self, path: str) -> dict[str, Any]:
        async with self._http.get(self._address + path) as answer:
            body: dict[str, Any] = await answer.json()
            return body

    async def utterance(self) -> str:
        """What is understood of one person speaking."""
        async with asyncio.timeout(PATIENCE), self._http.ws_connect(f"{self._address}/ws/stt") as socket:
            await socket.send_str(encode(Start("en")))
            await socket.send_bytes(speech() + silence(300))
            await socket.send_str(encode(Stop()))
            while True:
                message = decode_worker(await socket.receive_str())
                assert not isinstance(message, Failure), message
                if isinstance(message, Final):
                    return message.text


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_over_a_socket_a_gpu_that_is_awake_answers(stack: AsyncExitStack) -> None:
    served = await Served(stack, patience=PATIENCE).start()
    served.gpu.may_load.set()
    assert (await served.get("/warm"))["gpu"] == "ready"
    assert await served.utterance() == f"words of {GPU}"
    assert served.spare.heard == []
    assert len(served.gpu.heard) == 1


async def test_over_a_socket_a_gpu_that_boots_in_time_answers(stack: AsyncExitStack) -> None:
    served = await Served(stack, patience=PATIENCE).start()
    answer = asyncio.create_task(served.utterance())
    assert (await served.get("/health"))["gpu"] == "warming"
    served.gpu.may_load.set()
    assert await answer == f"words of {GPU}"
    assert served.spare.heard == []


async def test_over_a_socket_the_spare_answers_while_the_gpu_boots_for_long(stack: AsyncExitStack) -> None:
    served = await Served(stack, patience=0.05).start()
    assert await served.utterance() == f"words of {SPARE}"
    health = await served.get("/health")
    assert (health["status"], health["model"], health["gpu"]) == ("ready", GPU, "warming")
    served.gpu.may_load.set()
    assert (await served.get("/warm"))["gpu"] == "ready"


async def test_over_a_socket_a_gpu_that_never_comes_is_answered_for(stack: AsyncExitStack) -> None:
    served = Served(stack, patience=PATIENCE)
    served.gpu.failure = RuntimeError("no GPU left")
    served.gpu.may_load.set()
    await served.start()
    assert await served.utterance() == f"words of {SPARE}"
    health = await served.get("/health")
    assert (health["status"], health["gpu"]) == ("ready", "cold")
