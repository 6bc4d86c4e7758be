from __future__ import annotations

import io

from wyoming.event import read_event, write_event
from wyoming.info import Info

from modal_whisper.version import __version__
from wyoming_server.info import describe


def test_a_client_sees_one_program_with_one_model_and_all_languages() -> None:
    (program,) = Info.from_event(describe({"en", "de", "zh"})).asr
    assert (program.name, program.version, program.installed) == ("stt-failover", __version__, True)
    (model,) = program.models
    assert (model.name, model.version, model.installed) == ("failover", __version__, True)
    assert model.languages == ["de", "en", "zh", "zh-Hans", "zh-Hant"]
    assert program.description
    assert model.description
    assert program.attribution.name
    assert program.attribution.url.startswith("https://")


def test_a_client_learns_that_transcripts_can_be_streamed_and_that_no_filter_is_wanted() -> None:
    (program,) = Info.from_event(describe({"en"})).asr
    assert program.supports_transcript_streaming is True
    assert program.prefers_auto_gain_enabled is False
    assert program.prefers_noise_reduction_enabled is False


def test_nothing_but_speech_to_text_is_offered() -> None:
    info = Info.from_event(describe({"en"}))
    assert [info.tts, info.handle, info.intent, info.wake, info.mic, info.snd] == [[]] * 6


def test_it_survives_the_way_over_the_wire() -> None:
    stream = io.BytesIO()
    write_event(describe({"en"}), stream)
    stream.seek(0)
    assert read_event(stream) == describe({"en"})
