from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import pytest

from modal_whisper.samples import LEADER, MUTED
from tests.end_to_end.clips import error_rate, words

if TYPE_CHECKING:
    from modal_whisper.samples import Sample
    from tests.home_assistant.home import Engine, Home

_SILENCE = bytes(48_000)


def _pcm(sample: Sample) -> bytes:
    with wave.open(str(sample.path)) as file:
        return file.readframes(file.getnframes())


async def test_config_flow_makes_one_loaded_entry_with_one_speech_to_text_entity(engine: Engine) -> None:
    assert engine.entry["title"] == "stt-failover"
    assert engine.entry["state"] == "loaded"
    assert engine.entities == ["stt.stt_failover"]


@pytest.mark.parametrize("sample", [MUTED, LEADER], ids=lambda sample: sample.path.stem)
async def test_wav_file_posted_to_the_entity_gives_its_words(
    home: Home, engine: Engine, sample: Sample
) -> None:
    answer = await home.hear(engine, sample.path.read_bytes(), language=sample.language)
    assert answer["result"] == "success"
    assert error_rate(sample.text, answer["text"]) < 0.3


async def test_pipeline_run_in_chunks_of_10_ms_gives_the_words(home: Home, engine: Engine) -> None:
    events = await home.run_pipeline(engine, _pcm(MUTED))
    assert [event["type"] for event in events] == ["run-start", "stt-start", "stt-end", "run-end"]
    assert words(events[2]["data"]["stt_output"]["text"]) == words(MUTED.text)


async def test_silence_is_no_text_recognized(home: Home, engine: Engine) -> None:
    events = await home.run_pipeline(engine, _SILENCE)
    assert [event["type"] for event in events] == ["run-start", "stt-start", "error", "run-end"]
    assert events[2]["data"]["code"] == "stt-no-text-recognized"


async def test_outage_is_a_failed_stream_and_no_hang(home: Home, engine_in_outage: Engine) -> None:
    events = await home.run_pipeline(engine_in_outage, _pcm(MUTED))
    assert [event["type"] for event in events] == ["run-start", "stt-start", "error", "run-end"]
    assert events[2]["data"]["code"] == "stt-stream-failed"
