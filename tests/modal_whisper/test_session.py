from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from modal_whisper.errors import MessageError, ModelUnavailableError
from modal_whisper.messages import Final, Partial, Start
from modal_whisper.runner import ModelRunner
from modal_whisper.session import transcribe
from modal_whisper.transcriber import Segment
from tests.end_to_end.clips import MUTED, silence
from tests.fakes import PATIENCE, ScriptedTranscriber, happened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def pieces(pcm: bytes, size: int = 3200) -> AsyncIterator[bytes]:
    for at in range(0, len(pcm), size):
        yield pcm[at : at + size]


async def answers(
    transcriber: ScriptedTranscriber, audio: AsyncIterator[bytes], start: Start | None = None
) -> list[Partial | Final]:
    ticks = itertools.count(step=0.5)
    runner = ModelRunner(transcriber, clock=lambda: next(ticks))
    try:
        async with asyncio.timeout(PATIENCE):
            return [message async for message in transcribe(runner, audio, start or Start())]
    finally:
        await runner.close()


async def test_each_segment_makes_a_partial_of_all_so_far_and_then_comes_the_final() -> None:
    transcriber = ScriptedTranscriber(" Turn on", " the lights.", " Please. ")
    assert await answers(transcriber, pieces(MUTED.pcm)) == [
        Partial("Turn on"),
        Partial("Turn on the lights."),
        Partial("Turn on the lights. Please."),
        Final("Turn on the lights. Please.", "en", 1861, 500),
    ]


@pytest.mark.parametrize("size", [333, 3200, 1_000_000])
async def test_the_model_is_given_every_byte_whatever_the_pieces(size: int) -> None:
    transcriber = ScriptedTranscriber()
    await answers(transcriber, pieces(MUTED.pcm + b"\1", size))
    (asked,) = transcriber.asked
    assert asked.pcm == MUTED.pcm + b"\1"


async def test_the_model_is_told_what_the_start_says() -> None:
    transcriber = ScriptedTranscriber("Hallo")
    messages = await answers(transcriber, pieces(MUTED.pcm), Start("de-DE", ("Anna",), ("Licht",)))
    (asked,) = transcriber.asked
    assert (asked.language, asked.names, asked.terms) == ("de", ("Anna",), ("Licht",))
    assert messages[-1] == Final("Hallo", "de", 1861, 500)


async def test_the_final_names_the_language_that_was_detected() -> None:
    transcriber = ScriptedTranscriber(Segment("Hola", "es"))
    assert (await answers(transcriber, pieces(MUTED.pcm)))[-1] == Final("Hola", "es", 1861, 500)


async def test_where_the_model_finds_no_words_the_final_is_empty() -> None:
    transcriber = ScriptedTranscriber()
    assert await answers(transcriber, pieces(MUTED.pcm), Start("en")) == [Final("", "en", 1861, 500)]


@pytest.mark.parametrize("seconds", [0.0, 2.0])
async def test_where_nobody_spoke_the_model_is_not_asked(seconds: float) -> None:
    transcriber = ScriptedTranscriber("Thank you.")
    messages = await answers(transcriber, pieces(silence(seconds)), Start("en-GB"))
    assert messages == [Final("", "en", round(seconds * 1000))]
    assert transcriber.asked == []


async def test_where_nobody_spoke_a_model_that_cannot_be_had_does_not_matter() -> None:
    transcriber = ScriptedTranscriber(loading=[ModelUnavailableError("none")])
    assert await answers(transcriber, pieces(silence(1.0))) == [Final("", None, 1000)]


async def test_an_unknown_language_is_an_error_before_any_audio_is_taken() -> None:
    with pytest.raises(MessageError, match=r"unknown language 'xx'"):
        await answers(ScriptedTranscriber(), pieces(b"\0", 0), Start("xx"))


async def test_loading_begins_with_the_utterance_and_audio_is_taken_meanwhile() -> None:
    loaded, spoken = threading.Event(), threading.Event()
    transcriber = ScriptedTranscriber("Hi", loading=[loaded])

    async def speech() -> AsyncIterator[bytes]:
        await transcriber.wait_loading()
        yield MUTED.pcm
        spoken.set()

    answering = asyncio.create_task(answers(transcriber, speech()))
    await happened(spoken)
    assert not answering.done()
    loaded.set()
    assert (await answering)[0] == Partial("Hi")
    assert transcriber.asked[0].pcm == MUTED.pcm


async def test_a_model_that_cannot_be_loaded_is_an_error_after_the_audio() -> None:
    with pytest.raises(ModelUnavailableError, match=r"^none to be had$"):
        await answers(
            ScriptedTranscriber(loading=[ModelUnavailableError("none to be had")]), pieces(MUTED.pcm)
        )


async def test_who_leaves_early_stops_the_model() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber("One", go_on, "two")
    runner = ModelRunner(transcriber)
    async with aclosing(transcribe(runner, pieces(MUTED.pcm), Start())) as messages:
        assert await anext(messages) == Partial("One")
        assert not transcriber.asked[0].cancelled.is_set()
    assert transcriber.asked[0].cancelled.is_set()
    go_on.set()
    await runner.close()


async def test_who_is_cancelled_while_the_model_works_stops_it() -> None:
    go_on = threading.Event()
    transcriber = ScriptedTranscriber(go_on, "late")
    answering = asyncio.create_task(answers(transcriber, pieces(MUTED.pcm)))
    asked = await transcriber.wait_asked()
    answering.cancel()
    await asyncio.wait([answering])
    assert answering.cancelled()
    assert asked.cancelled.is_set()
    go_on.set()
