from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from modal_whisper.errors import MessageError, ModelUnavailableError, OverloadedError, TranscriptionError
from modal_whisper.messages import Final, Partial, Start
from modal_whisper.model import MAX_PASSAGE_SECONDS, Priority, Transcript
from modal_whisper.runner import ModelRunner
from modal_whisper.session import transcribe
from modal_whisper.speech import BYTES_PER_SECOND, FRAME_MS, SpeechDetector
from tests.end_to_end.clips import LEADER, MUTED, PASSWORD, WEASELS, silence
from tests.fakes import PATIENCE, ScriptedModel, ScriptedTranscriber
from tests.virtual_clock import run_virtual, virtual_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.end_to_end.clips import Clip

FRAME_BYTES = BYTES_PER_SECOND * FRAME_MS // 1000
NO_MODEL = ModelUnavailableError("no model here: fetch one")
OUT_OF_BREATH = TranscriptionError("out of breath")

CLIPS = (MUTED, PASSWORD, LEADER, WEASELS)
LONG = PASSWORD.pcm + LEADER.pcm + WEASELS.pcm + PASSWORD.pcm
"""13.6 s without a pause: longer than what the model hears as quickly as a short command."""


@dataclass
class Heard:
    """What came of an utterance."""

    stopped_at: float = 0.0
    """When the microphone was closed."""
    partials: list[str] = field(default_factory=list)
    partials_at: list[float] = field(default_factory=list)
    final: Final = field(default_factory=lambda: Final("nothing yet"))
    final_after: float = 0.0
    """How long after the microphone was closed."""


async def pieces(pcm: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(pcm), size):
        yield pcm[at : at + size]


async def listen(model: ScriptedModel, pcm: bytes, start: Start | None = None) -> Heard:
    """Say it at the speed of speech."""
    now = asyncio.get_running_loop().time
    heard = Heard()

    async def spoken() -> AsyncIterator[bytes]:
        async for piece in pieces(pcm, FRAME_BYTES):
            await asyncio.sleep(len(piece) / BYTES_PER_SECOND)
            yield piece
        heard.stopped_at = now()

    async with aclosing(transcribe(model, spoken(), start or Start())) as messages:
        async for message in messages:
            if isinstance(message, Partial):
                heard.partials.append(message.text)
                heard.partials_at.append(now())
            else:
                heard.final = message
                heard.final_after = now() - heard.stopped_at
    return heard


def used(model: ScriptedModel, heard: Heard) -> list[bytes]:
    """The passages whose words are in the final; only for a model whose words are their numbers."""
    return [model.jobs[int(number)].passage.pcm for number in heard.final.text.split()]


# A command


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.text[:12])
@virtual_clock
async def test_the_work_begins_while_the_microphone_is_open_at_the_first_pause(clip: Clip) -> None:
    model = ScriptedModel()
    recording = clip.followed_by_silence(0.7).pcm
    await listen(model, recording)
    (job,) = model.jobs
    detector = SpeechDetector()
    detector.feed(recording)
    assert 180 <= round(job.asked_at * 1000) - (detector.speech_end_ms or 0) <= 210
    # Before it says that the speech is over the detector waits for a frame or three.
    assert 0.2 <= job.asked_at - clip.seconds <= 0.4
    assert job.priority is Priority.SPECULATION
    assert job.passage.pcm.startswith(clip.pcm)


@virtual_clock
async def test_where_only_silence_follows_that_work_is_the_answer_and_it_comes_at_once() -> None:
    model = ScriptedModel("The conference is now muted.", seconds=0.3)
    heard = await listen(model, MUTED.followed_by_silence(0.7).pcm)
    assert heard.final == Final("The conference is now muted.", "en", 2561, 300, "scripted")
    assert heard.final_after == 0.0
    assert len(model.jobs) == 1
    assert not model.jobs[0].is_cancelled


@pytest.mark.parametrize("quiet", [0.3, 0.7, 5.0, 60.0])
@virtual_clock
async def test_however_long_the_silence_the_model_is_asked_once(quiet: float) -> None:
    model = ScriptedModel()
    heard = await listen(model, MUTED.followed_by_silence(quiet).pcm)
    assert (len(model.jobs), heard.final.text) == (1, "0")


@virtual_clock
async def test_work_that_is_not_done_at_the_stop_is_hurried_and_answers_once_it_is() -> None:
    model = ScriptedModel(seconds=2.0)
    heard = await listen(model, MUTED.followed_by_silence(0.7).pcm)
    (job,) = model.jobs
    assert job.hurried == [Priority.FINAL]
    assert heard.final.text == "0"
    assert heard.stopped_at + heard.final_after == pytest.approx(job.asked_at + 2.0)


@pytest.mark.parametrize("quiet", [0.0, 0.15])
@virtual_clock
async def test_where_the_microphone_closes_before_any_pause_the_work_is_urgent(quiet: float) -> None:
    model = ScriptedModel(seconds=0.3)
    pcm = MUTED.followed_by_silence(quiet).pcm
    heard = await listen(model, pcm)
    (job,) = model.jobs
    assert (job.priority, job.passage.pcm, heard.final.text) == (Priority.FINAL, pcm, "0")
    assert heard.final_after == pytest.approx(0.3)


@virtual_clock
async def test_who_goes_on_after_a_pause_is_transcribed_from_the_first_sample() -> None:
    model = ScriptedModel(seconds=5.0)
    pcm = MUTED.pcm + silence(0.6) + WEASELS.pcm + silence(0.7)
    heard = await listen(model, pcm)
    first, second = model.jobs
    assert first.is_cancelled
    assert not second.is_cancelled
    assert second.asked_at - first.asked_at == pytest.approx(0.6 + WEASELS.seconds, abs=0.1)
    assert pcm.startswith(second.passage.pcm)
    assert second.passage.pcm.startswith(MUTED.pcm + silence(0.6) + WEASELS.pcm)
    assert heard.final.text == "1"


@pytest.mark.parametrize("pause", [0.1, 0.24, 0.3, 0.6, 1.5, 3.0])
@pytest.mark.parametrize("quiet", [0.0, 0.24, 0.27, 1.0])
def test_no_pause_in_a_command_loses_any_of_it(pause: float, quiet: float) -> None:
    model = ScriptedModel()
    said = MUTED.pcm + silence(pause) + WEASELS.pcm
    heard = run_virtual(listen(model, said + silence(quiet)))
    (passage,) = used(model, heard)
    assert passage.startswith(said)


@virtual_clock
async def test_the_silence_before_the_first_word_is_left_out_but_for_a_second() -> None:
    model = ScriptedModel()
    await listen(model, silence(5.0) + MUTED.pcm + silence(0.7))
    (passage,) = [job.passage.pcm for job in model.jobs]
    before = passage.index(MUTED.pcm) / BYTES_PER_SECOND
    assert 0.6 <= before <= 1.0


@virtual_clock
async def test_silence_after_the_last_word_is_left_out_but_for_a_second() -> None:
    model = ScriptedModel(refused=[Priority.SPECULATION])
    await listen(model, MUTED.pcm + silence(20.0))
    (passage,) = [job.passage.pcm for job in model.jobs]
    assert passage.startswith(MUTED.pcm)
    assert len(passage) / BYTES_PER_SECOND == pytest.approx(MUTED.seconds + 1.0, abs=0.15)


@pytest.mark.parametrize("size", [1, 333, 960, 3200, 1_000_000])
@virtual_clock
async def test_the_model_is_given_every_byte_whatever_the_pieces(size: int) -> None:
    model = ScriptedModel()
    async for _ in transcribe(model, pieces(MUTED.pcm + b"\1", size), Start()):
        pass
    assert [job.passage.pcm for job in model.jobs] == [MUTED.pcm + b"\1"]


async def test_a_replay_in_one_piece_is_one_call_of_the_model() -> None:
    command = silence(5.0) + MUTED.pcm + silence(0.5) + WEASELS.pcm + silence(0.4) + MUTED.pcm
    pcm = command + bytes(1024 * 1024 - len(command))
    transcriber = ScriptedTranscriber("The conference is now muted.")
    runner = ModelRunner(transcriber)
    async with asyncio.timeout(PATIENCE):
        messages = [message async for message in transcribe(runner, pieces(pcm, len(pcm)), Start())]
        await runner.close()
    final = messages[-1]
    assert isinstance(final, Final)
    assert (final.text, final.audio_ms) == ("The conference is now muted.", 32_768)
    (asked,) = transcriber.asked
    assert command[BYTES_PER_SECOND * 5 :] in asked.pcm


# Long speech


@virtual_clock
async def test_long_speech_is_a_segment_of_its_own_once_the_person_goes_on() -> None:
    model = ScriptedModel()
    pcm = LONG + silence(0.6) + MUTED.pcm + silence(0.7)
    heard = await listen(model, pcm)
    first, second = model.jobs
    assert 0.2 <= first.asked_at - len(LONG) / BYTES_PER_SECOND <= 0.4
    assert not first.is_cancelled
    assert heard.final.text == "0 1"
    assert (first.passage.pcm + second.passage.pcm).startswith(LONG + silence(0.6) + MUTED.pcm)


@virtual_clock
async def test_speech_before_a_long_silence_is_a_segment_of_its_own() -> None:
    model = ScriptedModel()
    pcm = MUTED.pcm + silence(12.0) + WEASELS.pcm
    heard = await listen(model, pcm)
    first, second = used(model, heard)
    assert first.startswith(MUTED.pcm)
    assert len(first) / BYTES_PER_SECOND < MUTED.seconds + 0.5
    assert second.endswith(WEASELS.pcm)
    assert len(second) / BYTES_PER_SECOND < WEASELS.seconds + 1.0


@virtual_clock
async def test_the_words_before_are_the_context_of_the_next_segment_and_tell_its_language() -> None:
    model = ScriptedModel(Transcript("La conferencia.", "es", "scripted"), "Comenzará.", "El líder.")
    heard = await listen(model, (LONG + silence(0.6)) * 3)
    assert [(job.passage.context, job.passage.language) for job in model.jobs] == [
        ("", None),
        ("La conferencia.", "es"),
        ("La conferencia. Comenzará.", "es"),
    ]
    assert (heard.final.text, heard.final.language) == ("La conferencia. Comenzará. El líder.", "es")


@virtual_clock
async def test_a_segment_that_is_not_there_yet_holds_up_none_after_it() -> None:
    model = ScriptedModel(seconds=40.0)
    heard = await listen(model, (LONG + silence(0.6)) * 2)
    assert [(job.passage.context, job.passage.language) for job in model.jobs] == [("", None)] * 2
    assert heard.final.text == "0 1"


@virtual_clock
async def test_a_segment_without_words_adds_nothing() -> None:
    heard = await listen(ScriptedModel("One", "", "three"), (LONG + silence(0.6)) * 3)
    assert heard.final.text == "One three"
    assert heard.partials == ["One", "One three"]


@virtual_clock
async def test_partials_grow_while_the_person_speaks() -> None:
    heard = await listen(ScriptedModel("One.", " two. ", "three."), (LONG + silence(0.6)) * 3)
    assert heard.partials == ["One.", "One. two.", "One. two. three."]
    assert heard.partials_at == sorted(heard.partials_at)
    assert heard.partials_at[-1] < heard.stopped_at
    assert heard.final.text == "One. two. three."


@virtual_clock
async def test_the_partial_of_speech_that_went_on_is_replaced() -> None:
    heard = await listen(ScriptedModel("Turn", "Turn on the light"), (MUTED.pcm + silence(0.6)) * 2)
    assert heard.partials == ["Turn", "Turn on the light"]
    assert heard.final.text == "Turn on the light"


@pytest.mark.parametrize("frames", range(8, 16))
def test_words_that_come_just_when_the_person_goes_on_are_dropped(frames: int) -> None:
    model = ScriptedModel(seconds=frames * FRAME_MS / 1000)
    heard = run_virtual(listen(model, (MUTED.pcm + silence(0.5)) * 2))
    assert heard.partials in ([], ["0"], ["1"], ["0", "1"])
    assert heard.final.text == "1"


@virtual_clock
async def test_no_partial_comes_once_the_microphone_is_closed() -> None:
    heard = await listen(ScriptedModel(seconds=1.0), (LONG + silence(0.6)) * 2 + MUTED.pcm)
    assert heard.partials == ["0", "0 1"]
    assert all(at < heard.stopped_at for at in heard.partials_at)


@virtual_clock
async def test_a_finished_segment_is_more_urgent_than_the_speculation_that_it_was() -> None:
    model = ScriptedModel(seconds=60.0)
    await listen(model, LONG + silence(0.4) + MUTED.pcm)
    assert model.jobs[0].priority is Priority.SPECULATION
    assert model.jobs[0].hurried == [Priority.SEGMENT, Priority.FINAL]


@virtual_clock
async def test_all_that_is_not_done_at_the_stop_is_hurried() -> None:
    model = ScriptedModel(seconds=60.0)
    await listen(model, (LONG + silence(0.6)) * 2 + MUTED.pcm)
    assert [job.hurried[-1] for job in model.jobs] == [Priority.FINAL] * 3


@virtual_clock
async def test_the_work_of_all_segments_is_summed_and_the_last_model_is_named() -> None:
    model = ScriptedModel(Transcript("One", "en", "base", 120), Transcript("two", "en", "medium", 34))
    heard = await listen(model, (LONG + silence(0.6)) * 2)
    assert heard.final == Final("One two", "en", len(LONG) // 16 + 1200, 154, "medium")


@virtual_clock
async def test_chinese_has_no_spaces_between_segments_and_one_script() -> None:
    model = ScriptedModel("打开客厅", "的燈。")
    heard = await listen(model, (LONG + silence(0.6)) * 2, Start("zh-Hant"))
    assert (heard.final.text, heard.final.language) == ("打開客廳的燈。", "zh")
    assert heard.partials == ["打開客廳", "打開客廳的燈。"]
    assert model.jobs[1].passage.context == "打開客廳"


@virtual_clock
async def test_chinese_that_was_only_detected_is_simplified() -> None:
    heard = await listen(ScriptedModel(Transcript("打開燈", "zh", "scripted")), MUTED.pcm)
    assert heard.final.text == "打开灯"


def loudness(pcm: bytes) -> int:
    return int(np.abs(np.frombuffer(pcm, "<i2").astype(int)).sum())


@virtual_clock
async def test_a_minute_without_a_pause_is_cut_at_quiet_places() -> None:
    model = ScriptedModel()
    pcm = (LONG * 5)[: 60 * BYTES_PER_SECOND]
    heard = await listen(model, pcm)
    passages = used(model, heard)
    assert b"".join(passages) == pcm
    assert [job.priority for job in model.jobs] == [Priority.SEGMENT] * (len(passages) - 1) + [Priority.FINAL]
    at = 0
    for passage in passages[:-1]:
        assert 19 <= len(passage) / BYTES_PER_SECOND <= 26
        at += len(passage)
        frames = [loudness(pcm[at + ms * 32 : at + ms * 32 + FRAME_BYTES]) for ms in range(-2500, 2500, 30)]
        here = loudness(pcm[at - FRAME_BYTES // 2 : at + FRAME_BYTES // 2])
        assert here <= sorted(frames)[len(frames) // 10]


def in_a_room(pcm: bytes) -> bytes:
    """With a noise too faint for anybody to hear, which makes every piece of it unlike all others."""
    heard = np.frombuffer(pcm, "<i2")
    room = np.random.default_rng(1).integers(-3, 4, len(heard), dtype="<i2")
    return (heard // 2 + room).astype("<i2").tobytes()


def spoken_parts(parts: Sequence[tuple[int, float]]) -> tuple[bytes, list[tuple[int, int]]]:
    """Clips by their numbers, each with a pause after it, and where in the recording they are."""
    pcm, places = bytearray(silence(0.5)), []
    for number, pause in parts:
        places.append((len(pcm), len(pcm) + len(CLIPS[number].pcm)))
        pcm += CLIPS[number].pcm + silence(pause)
    return in_a_room(bytes(pcm)), places


@given(
    parts=st.lists(
        st.tuples(
            st.integers(0, len(CLIPS) - 1),
            st.one_of(st.just(0.0), st.floats(0.0, 0.5), st.floats(0.0, 3.0), st.floats(0.0, 40.0)),
        ),
        min_size=1,
        max_size=20,
    ),
    seconds=st.sampled_from([0.01, 0.3, 4.0]),
    refused=st.sampled_from([[], [Priority.SPECULATION]]),
)
@example(parts=[(0, 50.0), (0, 0.0)], seconds=0.3, refused=[])
@example(parts=[(0, 50.0), (0, 0.0)], seconds=0.3, refused=[Priority.SPECULATION])
@settings(max_examples=40, derandomize=True)
def test_whatever_is_said_is_in_exactly_one_passage_and_none_is_too_long(
    parts: list[tuple[int, float]], seconds: float, refused: list[Priority]
) -> None:
    pcm, places = spoken_parts(parts)
    model = ScriptedModel(seconds=seconds, refused=refused)
    passages = used(model, run_virtual(listen(model, pcm)))
    covered = bytearray(len(pcm))
    end = 0
    for passage in passages:
        assert len(passage) <= MAX_PASSAGE_SECONDS * BYTES_PER_SECOND
        at = pcm.find(passage, end)
        assert at >= end, "a passage is no part of what follows the one before it"
        end = at + len(passage)
        covered[at:end] = b"\1" * len(passage)
    for first, last in places:
        # Past the last whole frame of a clip there are but a few samples.
        assert covered.find(b"\0", first, last - FRAME_BYTES) == -1, (
            "something that was said is in no passage"
        )


# What the model is told


@virtual_clock
async def test_the_model_is_told_what_the_start_says() -> None:
    model = ScriptedModel("Hallo")
    heard = await listen(model, MUTED.pcm, Start("de-DE", ("Anna",), ("Licht",), ("en", "de")))
    (passage,) = [job.passage for job in model.jobs]
    assert (passage.language, passage.names, passage.terms, passage.languages, passage.context) == (
        "de",
        ("Anna",),
        ("Licht",),
        ("en", "de"),
        "",
    )
    assert heard.final == Final("Hallo", "de", 1861, 200, "scripted")


@virtual_clock
async def test_every_segment_is_told_names_terms_and_languages() -> None:
    model = ScriptedModel()
    start = Start(None, ("Anna",), ("Licht",), ("en", "de"))
    await listen(model, (LONG + silence(0.6)) * 2, start)
    told = {(job.passage.names, job.passage.terms, job.passage.languages) for job in model.jobs}
    assert told == {(("Anna",), ("Licht",), ("en", "de"))}
    assert len(model.jobs) == 2


@virtual_clock
async def test_the_final_names_the_language_that_was_detected() -> None:
    heard = await listen(ScriptedModel(Transcript("Hola", "es", "scripted", 7)), MUTED.pcm)
    assert heard.final == Final("Hola", "es", 1861, 7, "scripted")


@virtual_clock
async def test_noise_has_no_language_that_the_words_after_it_would_be_taken_for() -> None:
    model = ScriptedModel(
        Transcript("", "zh", "scripted"), Transcript("Turn on", "en", "scripted"), "the light"
    )
    heard = await listen(model, (LONG + silence(0.6)) * 3)
    assert [job.passage.language for job in model.jobs] == [None, None, "en"]
    assert (heard.final.text, heard.final.language) == ("Turn on the light", "en")


@virtual_clock
async def test_noise_alone_has_no_language() -> None:
    heard = await listen(ScriptedModel(Transcript("", "zh", "scripted")), MUTED.pcm)
    assert (heard.final.text, heard.final.language) == ("", None)


@virtual_clock
async def test_words_of_a_model_that_tells_no_language_have_the_one_that_was_given() -> None:
    heard = await listen(ScriptedModel(Transcript("Hi", None, "base.en")), MUTED.pcm, Start("en"))
    assert heard.final == Final("Hi", "en", 1861, 0, "base.en")


@virtual_clock
async def test_where_the_model_finds_no_words_the_final_is_empty_and_there_is_no_partial() -> None:
    heard = await listen(ScriptedModel(""), MUTED.followed_by_silence(0.7).pcm, Start("en"))
    assert heard.final == Final("", "en", 2561, 200, "scripted")
    assert heard.partials == []


@pytest.mark.parametrize("seconds", [0.0, 2.0])
@virtual_clock
async def test_where_nobody_spoke_the_model_is_not_asked(seconds: float) -> None:
    model = ScriptedModel("Thank you.")
    heard = await listen(model, silence(seconds), Start("en-GB"))
    assert heard.final == Final("", "en", round(seconds * 1000))
    assert (heard.partials, model.jobs) == ([], [])


@virtual_clock
async def test_where_nobody_spoke_a_model_that_cannot_be_had_does_not_matter() -> None:
    heard = await listen(ScriptedModel(unavailable=NO_MODEL), silence(1.0))
    assert heard.final == Final("", None, 1000)


@virtual_clock
async def test_an_unknown_language_is_an_error_before_any_audio_is_taken() -> None:
    model = ScriptedModel()

    async def audio() -> AsyncIterator[bytes]:
        pytest.fail("audio was taken")
        yield b""

    with pytest.raises(MessageError, match=r"unknown language 'xx'"):
        await anext(transcribe(model, audio(), Start("xx")))
    assert model.loads == 0


@virtual_clock
async def test_loading_begins_with_the_utterance() -> None:
    model = ScriptedModel()
    messages = transcribe(model, pieces(silence(0.1), 320), Start())
    assert model.loads == 0
    await anext(messages)
    assert model.loads == 1


# What goes wrong


@virtual_clock
async def test_a_model_that_cannot_be_loaded_is_an_error_and_not_asked_again() -> None:
    model = ScriptedModel(unavailable=NO_MODEL)
    with pytest.raises(ModelUnavailableError, match=r"^no model here: fetch one$"):
        await listen(model, MUTED.followed_by_silence(0.7).pcm)
    assert len(model.jobs) == 1


@virtual_clock
async def test_a_model_too_busy_to_work_ahead_is_asked_at_the_stop() -> None:
    model = ScriptedModel(refused=[Priority.SPECULATION])
    heard = await listen(model, MUTED.pcm + silence(0.6) + WEASELS.pcm + silence(0.7))
    assert [job.priority for job in model.jobs] == [Priority.FINAL]
    assert heard.final.text == "0"


@pytest.mark.parametrize("quiet", [0.0, 0.7])
@virtual_clock
async def test_a_model_too_busy_for_the_final_is_an_error(quiet: float) -> None:
    model = ScriptedModel(refused=list(Priority))
    with pytest.raises(OverloadedError, match=r"^the scripted model is busy$"):
        await listen(model, MUTED.followed_by_silence(quiet).pcm)


@virtual_clock
async def test_a_model_too_busy_for_a_segment_is_an_error_at_once() -> None:
    model = ScriptedModel(refused=[Priority.SEGMENT])
    heard = asyncio.create_task(listen(model, (LONG * 5)[: 60 * BYTES_PER_SECOND]))
    await asyncio.sleep(26.0)
    with pytest.raises(OverloadedError):
        heard.result()


@pytest.mark.parametrize("error", [OUT_OF_BREATH, OverloadedError("others go first")])
@virtual_clock
async def test_work_ahead_that_fails_is_asked_for_once_more_when_it_is_due(error: TranscriptionError) -> None:
    model = ScriptedModel(error, "Now")
    heard = await listen(model, MUTED.followed_by_silence(0.7).pcm)
    first, second = model.jobs
    assert [first.priority, second.priority] == [Priority.SPECULATION, Priority.FINAL]
    assert second.passage == first.passage
    assert (heard.partials, heard.final.text) == ([], "Now")
    assert heard.final_after == pytest.approx(0.2)


@virtual_clock
async def test_a_segment_that_fails_is_asked_for_once_more_and_keeps_its_place() -> None:
    model = ScriptedModel(OUT_OF_BREATH, "two", "One")
    heard = await listen(model, (LONG + silence(0.6)) * 2)
    assert model.jobs[2].passage == model.jobs[0].passage
    assert heard.final.text == "One two"


@pytest.mark.parametrize("quiet", [0.0, 0.7])
@virtual_clock
async def test_a_model_that_fails_when_it_is_due_is_an_error(quiet: float) -> None:
    model = ScriptedModel(OUT_OF_BREATH, OUT_OF_BREATH)
    with pytest.raises(TranscriptionError, match=r"^out of breath$"):
        await listen(model, MUTED.followed_by_silence(quiet).pcm)
    assert len(model.jobs) == 2


@virtual_clock
async def test_a_failure_of_the_audio_is_told_and_drops_the_work() -> None:
    model = ScriptedModel(None)

    async def audio() -> AsyncIterator[bytes]:
        yield MUTED.followed_by_silence(0.7).pcm
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        async for _ in transcribe(model, audio(), Start()):
            pass
    assert [job.is_cancelled for job in model.jobs] == [True]


@virtual_clock
async def test_who_leaves_while_the_person_speaks_drops_all_work() -> None:
    model = ScriptedModel("One", None, None)

    async def spoken() -> AsyncIterator[bytes]:
        yield LONG + silence(0.6)
        await asyncio.sleep(1.0)
        yield LONG + silence(0.6) + LONG + silence(0.6)
        await asyncio.Event().wait()

    async with aclosing(transcribe(model, spoken(), Start())) as messages:
        assert await anext(messages) == Partial("One")
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(2.0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert len(model.jobs) == 3
    assert [job.is_cancelled for job in model.jobs] == [False, True, True]


@pytest.mark.parametrize("answers", [[None], [OUT_OF_BREATH, None]], ids=["first", "when asked again"])
@virtual_clock
async def test_who_leaves_while_the_final_is_due_drops_it(answers: list[TranscriptionError | None]) -> None:
    model = ScriptedModel(*answers)
    answering = asyncio.create_task(listen(model, MUTED.pcm))
    await asyncio.sleep(30.0)
    assert not answering.done()
    assert len(model.jobs) == len(answers)
    answering.cancel()
    await asyncio.wait([answering])
    assert answering.cancelled()
    assert model.jobs[-1].is_cancelled
