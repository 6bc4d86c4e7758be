from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from modal_whisper.errors import ModelUnavailableError, TranscriptionError
from modal_whisper.languages import LANGUAGES
from modal_whisper.runner import ModelRunner
from tests.fakes import ScriptedTranscriber
from tests.sounds import BYTES_PER_MS, silence, speech
from tests.wyoming_server.backends.listening import Heard, leaving_nothing, listen, recording_of, say
from wyoming_server.backends.base import Hypothesis, Request
from wyoming_server.backends.local import Local
from wyoming_server.errors import (
    BackendError,
    InternalError,
    NotReadyError,
    OverloadedError,
    RejectedError,
)
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UTTERANCE = speech(600) + silence(200)


@asynccontextmanager
async def local(transcriber: ScriptedTranscriber, **limits: Any) -> AsyncIterator[Local]:
    """The backend, closed in the end, when nothing of it may be left."""
    async with leaving_nothing():
        backend = Local(ModelRunner(transcriber, **limits))
        yield backend
        await backend.close()


async def test_what_the_model_understands_is_the_final() -> None:
    async with local(ScriptedTranscriber("Turn on the lights.", language="de")) as backend:
        heard = await listen(backend, recording_of(UTTERANCE))

    assert heard.connected.is_set()
    assert heard.hypotheses == [Hypothesis("Turn on the lights.", is_final=True, language="de")]


async def test_the_model_gets_every_sample_and_every_wish() -> None:
    transcriber = ScriptedTranscriber("Turn on.")
    request = Request(language="zh", names=("Zoe",), terms=("lamp",), tag="zh-Hant")
    async with local(transcriber) as backend:
        recording = recording_of(UTTERANCE[: 300 * BYTES_PER_MS], ended=False)
        listening = asyncio.create_task(listen(backend, recording, request))
        await say(recording, UTTERANCE[300 * BYTES_PER_MS :], b"\1\2")
        recording.end()
        await listening
        (asked,) = transcriber.asked

    assert asked.pcm == UTTERANCE + b"\1\2"
    passage = asked.passage
    assert (passage.language, passage.names, passage.terms) == ("zh", ("Zoe",), ("lamp",))


async def test_a_long_recording_is_taken_in_large_pieces() -> None:
    taken = []

    class Watched(Recording):
        async def frames(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
            async for frame in super().frames(*args, **kwargs):
                taken.append(len(frame) // BYTES_PER_MS)
                yield frame

    async with local(ScriptedTranscriber("Turn on.")) as backend:
        recording = Watched(max_seconds=60, clock=asyncio.get_running_loop().time)
        recording.write(UTTERANCE + silence(25_000))
        recording.end()
        await listen(backend, recording)
    assert taken == [10_000, 10_000, 5800]


async def test_silence_is_an_empty_final_for_which_the_model_is_not_asked() -> None:
    transcriber = ScriptedTranscriber("Thank you.")
    async with local(transcriber) as backend:
        heard = await listen(backend, recording_of(silence(500)))
    assert heard.hypotheses == [Hypothesis("", is_final=True)]
    assert transcriber.asked == []


async def test_the_model_is_loaded_in_the_background_and_an_early_utterance_waits_for_it() -> None:
    loading = threading.Event()
    transcriber = ScriptedTranscriber("Turn on.", loading=[loading])
    async with local(transcriber) as backend:
        backend.start()
        await transcriber.wait_loading()
        heard = Heard()
        listening = asyncio.create_task(listen(backend, recording_of(UTTERANCE), heard=heard))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not heard.connected.is_set()
        loading.set()
        assert (await listening).final.text == "Turn on."
        assert heard.connected.is_set()
        await backend.wait_ready()
    assert transcriber.loads == 1


async def test_a_model_that_cannot_be_loaded_says_what_to_do() -> None:
    failure = ModelUnavailableError("the model cannot be fetched; set MODEL_DIR")
    async with local(ScriptedTranscriber(loading=[failure])) as backend:
        with pytest.raises(NotReadyError, match="set MODEL_DIR"):
            await backend.wait_ready()
        with pytest.raises(NotReadyError, match="set MODEL_DIR"):
            await listen(backend, recording_of(UTTERANCE))


@pytest.mark.parametrize("failure", [TranscriptionError("out of memory"), ZeroDivisionError("out of memory")])
async def test_a_model_that_fails_is_an_internal_error(failure: Exception) -> None:
    async with local(ScriptedTranscriber("Turn", failure)) as backend:
        with pytest.raises(InternalError, match="out of memory"):
            await listen(backend, recording_of(UTTERANCE))


async def test_more_than_the_model_can_answer_is_an_overload() -> None:
    busy = threading.Event()
    transcriber = ScriptedTranscriber(busy, "Turn on.")
    async with local(transcriber, max_waiting=0) as backend:
        first = asyncio.create_task(listen(backend, recording_of(UTTERANCE)))
        await transcriber.wait_asked()
        with pytest.raises(OverloadedError):
            await listen(backend, recording_of(UTTERANCE))
        busy.set()
        assert (await first).final.text == "Turn on."


async def test_a_language_that_whisper_does_not_know_is_rejected() -> None:
    async with local(ScriptedTranscriber("Turn on.")) as backend:
        assert backend.languages == LANGUAGES
        with pytest.raises(RejectedError, match="unknown language"):
            await listen(backend, recording_of(UTTERANCE), Request(language="tlh"))


async def test_an_utterance_that_is_given_up_stops_the_model() -> None:
    busy = threading.Event()
    transcriber = ScriptedTranscriber("Turn", busy, " on.")
    async with local(transcriber) as backend:
        listening = asyncio.create_task(listen(backend, recording_of(UTTERANCE)))
        await transcriber.wait_asked()
        listening.cancel()
        await asyncio.wait([listening])
        assert transcriber.asked[0].cancelled.is_set()
        busy.set()


async def test_an_utterance_that_is_given_up_in_mid_speech_asks_nobody() -> None:
    transcriber = ScriptedTranscriber("Turn on.")
    async with local(transcriber) as backend:
        await backend.wait_ready()
        recording = recording_of(UTTERANCE, ended=False)
        heard = Heard()
        listening = asyncio.create_task(listen(backend, recording, heard=heard))
        await heard.connected.wait()
        listening.cancel()
        await asyncio.wait([listening])
        recording.end()
    assert transcriber.asked == []


async def test_closing_lets_an_utterance_that_waits_for_the_model_fail() -> None:
    loading = threading.Event()
    transcriber = ScriptedTranscriber("Turn on.", loading=[loading])
    async with local(transcriber) as backend:
        listening = asyncio.create_task(listen(backend, recording_of(UTTERANCE)))
        await transcriber.wait_loading()
        await backend.close()
        with pytest.raises(BackendError):
            await listening
        loading.set()
