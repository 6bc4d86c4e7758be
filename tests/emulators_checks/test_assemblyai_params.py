from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import MultiDict
from yarl import URL

from tests.emulators.assemblyai_params import PRO_MODES, Parameters, Refusal, parse_query


def parse(**params: Any) -> Parameters:
    return parse_query(MultiDict({name: str(value) for name, value in params.items()}))


@pytest.mark.parametrize("text", ["True", "true", "TRUE"])
def test_booleans_are_taken_in_any_case(text: str) -> None:
    assert parse(format_turns=text).values["format_turns"] is True
    assert parse(format_turns="False").values["format_turns"] is False


def test_lists_are_one_json_value_and_plus_is_a_space() -> None:
    url = URL("/v3/ws?keyterms_prompt=%5B%22living+room%22%2C%22Hue%22%5D&prompt=two+words", encoded=True)

    assert parse_query(url.query).values == {"keyterms_prompt": ["living room", "Hue"], "prompt": "two words"}


def test_unknown_parameters_are_ignored() -> None:
    parameters = parse(sample_rte=16_000, sample_rate=8000)

    assert parameters.values == {"sample_rate": 8000}
    assert parameters.unknown == ("sample_rte",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate", "7999"),
        ("sample_rate", "96001"),
        ("sample_rate", "fast"),
        ("encoding", "mp3"),
        ("speech_model", "u3-pro"),
        ("speech_model", "whisper"),
        ("mode", "quick"),
        ("format_turns", "1"),
        ("vad_threshold", "1.5"),
        ("interruption_delay", "1001"),
        ("inactivity_timeout", "4"),
        ("keyterms_prompt", "Hue"),
        ("keyterms_prompt", '{"a": 1}'),
        ("keyterms_prompt", "[1]"),
        ("keyterms_prompt", json.dumps(["x"] * 101)),
        ("language_codes", '["multi", "en"]'),
        ("language_codes", json.dumps(["en"] * 11)),
        ("agent_context", "x" * 1751),
        ("llm_gateway", "[]"),
    ],
)
def test_invalid_values_of_known_parameters_are_refused(name: str, value: str) -> None:
    with pytest.raises(Refusal, match=name) as refused:
        parse(**{name: value})
    assert refused.value.code == 3006
    assert refused.value.text.startswith("User Input Validation Error: ")


def test_an_overlong_prompt_is_refused_in_the_services_words() -> None:
    with pytest.raises(Refusal, match=r"prompt exceeds maximum length of 1750 characters \(got 1751\)"):
        parse(prompt="x" * 1751)


def test_an_overlong_key_term_is_accepted() -> None:
    assert parse(keyterms_prompt=json.dumps(["x" * 51] * 100)).values["keyterms_prompt"][0] == "x" * 51


def test_a_repeated_list_is_refused() -> None:
    with pytest.raises(Refusal, match="Invalid JSON array"):
        parse_query(MultiDict([("keyterms_prompt", "a"), ("keyterms_prompt", "b")]))


@pytest.mark.parametrize("model", ["universal-streaming-english", "universal-streaming-multilingual"])
@pytest.mark.parametrize(("name", "value"), [("prompt", "Talk."), ("mode", "balanced")])
def test_universal_streaming_refuses_prompt_and_mode(model: str, name: str, value: str) -> None:
    parse(speech_model="universal-3-6-pro", **{name: value})
    with pytest.raises(Refusal, match=name):
        parse(speech_model=model, **{name: value})


def test_u3_rt_pro_takes_a_prompt_but_no_mode() -> None:
    parse(speech_model="u3-rt-pro", prompt="Talk.")
    with pytest.raises(Refusal, match="mode"):
        parse(speech_model="u3-rt-pro", mode="balanced")


@pytest.mark.parametrize("mode", PRO_MODES)
def test_pro_timing_follows_the_mode(mode: str) -> None:
    timing = parse(speech_model="universal-3-5-pro", mode=mode).timing

    assert (timing.min_silence, timing.max_silence, timing.interruption_delay) == PRO_MODES[mode]


def test_explicit_timing_overrides_the_mode() -> None:
    timing = parse(mode="min_latency", max_turn_silence=100).timing

    assert (timing.min_silence, timing.max_silence) == (128, 100)


def test_universal_streaming_has_its_own_timing() -> None:
    timing = parse(speech_model="universal-streaming-english").timing

    assert (timing.pro, timing.min_silence, timing.max_silence) == (False, 400, 1280)


def test_turn_silences_are_clamped() -> None:
    timing = parse(min_turn_silence=1, max_turn_silence=20_000).timing

    assert (timing.min_silence, timing.max_silence) == (50, 10_000)


def test_the_old_name_of_min_turn_silence_still_works() -> None:
    assert parse(min_end_of_turn_silence_when_confident=300).timing.min_silence == 300
    updated = parse(min_turn_silence=200).updated({"min_end_of_turn_silence_when_confident": 300})
    assert updated.timing.min_silence == 300


def test_an_update_changes_what_may_change_and_ignores_the_rest() -> None:
    updated = parse(sample_rate=16_000, mode="balanced").updated(
        {"type": "UpdateConfiguration", "sample_rate": 8000, "mode": "min_latency", "nonsense": 1}
    )

    assert updated.values["sample_rate"] == 16_000
    assert updated.timing.max_silence == 640


def test_universal_streaming_ignores_updates_that_are_for_pro() -> None:
    updated = parse(speech_model="universal-streaming-english").updated(
        {"prompt": "Talk.", "format_turns": True}
    )

    assert "prompt" not in updated.values
    assert updated.timing.format_turns


@pytest.mark.parametrize(
    "change",
    [
        {"keyterms_prompt": "Hue"},
        {"agent_context": "x" * 1751},
        {"min_turn_silence": True},
        {"mode": "quick"},
    ],
)
def test_an_invalid_update_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        parse().updated(change)
    assert refused.value.code == 3006


def test_the_rate_of_the_audio_follows_encoding_and_sample_rate() -> None:
    assert parse().bytes_per_second == 32_000
    assert parse(sample_rate=8000, encoding="pcm_mulaw").bytes_per_second == 8000
    assert parse(encoding="opus").bytes_per_second is None
