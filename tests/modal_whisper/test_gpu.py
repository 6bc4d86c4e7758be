from __future__ import annotations

import asyncio
import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from modal_whisper.errors import ModelUnavailableError, TranscriptionError
from modal_whisper.gpu import Calls, Station
from modal_whisper.model import Priority, Transcript
from tests.modal_whisper.scripted_models import PASSAGE, SPARE, ScriptedModel
from tests.virtual_clock import virtual_clock

if TYPE_CHECKING:
    from collections.abc import Callable


def remote(method: Callable[..., Any]) -> SimpleNamespace:
    """A method as Modal's are called. What crosses is copied; and cancelling does not reach the other end."""

    async def call(*arguments: Any) -> Any:
        work = asyncio.create_task(method(*pickle.loads(pickle.dumps(arguments))))
        work.add_done_callback(lambda ended: ended.exception())  # whoever has left does not see it
        await asyncio.wait([work])
        return pickle.loads(pickle.dumps(work.result()))

    return SimpleNamespace(remote=SimpleNamespace(aio=call))


class Modal:
    """A station as the front sees it; `up` is set once it has a machine."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self.up = asyncio.Event()
        self.warm, self.transcribe, self.drop = map(remote, (self._warm, self._transcribe, station.drop))

    async def _warm(self) -> None:
        await self.up.wait()

    async def _transcribe(self, *arguments: Any) -> Transcript:
        await self.up.wait()
        return await self._station.transcribe(*arguments)


@virtual_clock
async def test_starting_loads_the_model_and_lets_it_hear_a_second_of_silence() -> None:
    model = ScriptedModel()
    await Station(model).start()
    (job,) = model.jobs
    assert job.is_done
    assert job.passage.pcm == bytes(32_000)


@virtual_clock
async def test_a_model_that_cannot_be_loaded_fails_the_start() -> None:
    model = ScriptedModel(unavailable=ModelUnavailableError("no model here"))
    with pytest.raises(ModelUnavailableError, match="no model here"):
        await Station(model).start()


@virtual_clock
async def test_a_passage_crosses_whole_and_the_words_come_back() -> None:
    model = ScriptedModel()
    station = Station(model)
    modal = Modal(station)
    modal.up.set()
    await Calls(modal).warm()
    assert await Calls(modal).transcribe(PASSAGE, Priority.SEGMENT) == Transcript(
        "words of the spare", "en", SPARE
    )
    assert [(job.passage, job.priority) for job in model.jobs] == [(PASSAGE, Priority.SEGMENT)]
    assert station._jobs == {}


@virtual_clock
async def test_an_error_of_the_model_comes_back_as_what_it_is() -> None:
    modal = Modal(Station(ScriptedModel(error=TranscriptionError("out of memory"))))
    modal.up.set()
    with pytest.raises(TranscriptionError, match="out of memory"):
        await Calls(modal).transcribe(PASSAGE, Priority.FINAL)


@virtual_clock
async def test_a_call_that_is_cancelled_stops_the_work_at_the_other_end() -> None:
    model = ScriptedModel(work=60)
    modal = Modal(Station(model))
    modal.up.set()
    calls = Calls(modal)
    call = asyncio.create_task(calls.transcribe(PASSAGE, Priority.FINAL))
    other = asyncio.create_task(calls.transcribe(PASSAGE, Priority.FINAL))
    await asyncio.sleep(1)
    call.cancel()
    await asyncio.sleep(1)
    assert call.cancelled()
    assert [job.is_cancelled for job in model.jobs] == [True, False]
    assert (await other).model == SPARE


@virtual_clock
async def test_a_call_that_is_cancelled_before_it_arrived_is_not_begun() -> None:
    model = ScriptedModel()
    modal = Modal(Station(model))
    call = asyncio.create_task(Calls(modal).transcribe(PASSAGE, Priority.FINAL))
    await asyncio.sleep(1)
    call.cancel()
    await asyncio.sleep(1)
    modal.up.set()
    await asyncio.sleep(1)
    assert model.jobs == []


@virtual_clock
async def test_a_call_that_cannot_be_dropped_is_given_up_in_silence() -> None:
    modal = Modal(Station(ScriptedModel()))

    async def fail(_: str) -> None:
        raise ConnectionError("Modal cannot be reached")

    modal.drop = remote(fail)
    call = asyncio.create_task(Calls(modal).transcribe(PASSAGE, Priority.FINAL))
    await asyncio.sleep(1)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    modal.up.set()
    await asyncio.sleep(1)


@virtual_clock
async def test_closing_closes_the_model() -> None:
    model = ScriptedModel()
    await Station(model).close()
    assert model.is_closed
