from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st
from multidict import MultiDict

from tests.emulators.assemblyai_params import parse_query
from tests.emulators.assemblyai_script import Script, Word
from tests.emulators.assemblyai_turns import TurnEngine

if TYPE_CHECKING:
    from tests.emulators.assemblyai_turns import Emission, Message

LIGHTS = Script(
    (
        Word("Turn", 480, 700),
        Word("on", 700, 790),
        Word("the", 790, 900),
        Word("kitchen", 900, 1300),
        Word("lights.", 1300, 1720, sentence_end=True),
    )
)
TWO_TURNS = Script(
    (
        Word("Turn", 0, 300),
        Word("on", 300, 600),
        Word("the", 3000, 3200),
        Word("lights.", 3200, 3500, sentence_end=True),
    )
)
US = "universal-streaming-english"


def engine(script: Script = LIGHTS, **params: Any) -> TurnEngine:
    parameters = parse_query(MultiDict({name: str(value) for name, value in params.items()}))
    made = TurnEngine(parameters.timing, decode_lag_ms=300)
    made.script = script
    return made


def hear(turns: TurnEngine, until_ms: int, *, step_ms: int = 50) -> list[Message]:
    emissions: list[Emission] = []
    while turns.clock_ms < until_ms:
        emissions += turns.advance(min(turns.clock_ms + step_ms, until_ms))
    return [emission.message for emission in emissions]


def finals(messages: list[Message]) -> list[str]:
    return [message["transcript"] for message in messages if message.get("end_of_turn")]


def partials(messages: list[Message]) -> list[str]:
    return [message["transcript"] for message in messages if message.get("end_of_turn") is False]


@pytest.mark.parametrize(
    ("mode", "silence"), [("min_latency", 128), ("balanced", 128), ("max_accuracy", 512)]
)
def test_a_complete_turn_ends_after_the_short_silence(mode: str, silence: int) -> None:
    turns = engine(mode=mode)

    assert finals(hear(turns, 1720 + silence - 1)) == []
    assert finals(hear(turns, 1720 + silence)) == ["Turn on the kitchen lights."]


@pytest.mark.parametrize(
    ("mode", "silence"), [("min_latency", 640), ("balanced", 1280), ("max_accuracy", 2560)]
)
def test_an_incomplete_turn_ends_after_the_long_silence(mode: str, silence: int) -> None:
    turns = engine(Script(LIGHTS.words[:-1]), mode=mode)

    assert finals(hear(turns, 1300 + silence - 1)) == []
    assert finals(hear(turns, 1300 + silence)) == ["Turn on the kitchen"]


def test_an_incomplete_turn_brings_a_partial_at_the_short_silence() -> None:
    turns = engine(Script(LIGHTS.words[:-1]), mode="balanced", interruption_delay=1000)

    assert partials(hear(turns, 1300 + 127)) == []
    assert partials(hear(turns, 1300 + 128)) == ["Turn on the kitchen"]


def test_no_final_comes_without_audio_however_long_the_wait() -> None:
    turns = engine()

    assert finals(hear(turns, 1720)) == []
    assert turns.advance(1720) == []


def test_pro_partials_grow_and_speech_started_comes_once_right_before_them() -> None:
    messages = hear(engine(mode="min_latency"), 3000)

    assert [message["type"] for message in messages] == ["SpeechStarted", "Turn", "Turn", "Turn"]
    assert messages[0]["timestamp"] == 480
    first, second, final = (message["transcript"] for message in messages[1:])
    assert second.startswith(first)
    assert final.startswith(second)
    assert [message["turn_is_formatted"] for message in messages[1:]] == [True] * 3


def test_the_first_pro_partial_waits_for_the_interruption_delay() -> None:
    turns = engine(mode="balanced")

    assert partials(hear(turns, 480 + 500 + 255)) == []
    assert partials(hear(turns, 480 + 500 + 256)) == ["Turn on the"]


def test_no_speech_started_where_no_words_come() -> None:
    assert hear(engine(Script.empty()), 10_000) == []


def test_without_partial_turns_there_are_only_finals() -> None:
    messages = hear(engine(include_partial_turns=False), 5000)

    assert partials(messages) == []
    assert [message["type"] for message in messages] == ["SpeechStarted", "Turn"]


def test_a_long_pause_makes_two_turns() -> None:
    messages = hear(engine(TWO_TURNS), 5000)

    assert finals(messages) == ["Turn on", "the lights."]
    assert [message["turn_order"] for message in messages if message.get("end_of_turn")] == [0, 1]


def test_speech_that_goes_on_in_time_keeps_the_turn_open() -> None:
    assert finals(hear(engine(TWO_TURNS, max_turn_silence=2401), 5000)) == ["Turn on the lights."]


def test_forced_pro_turns_take_in_all_that_was_received() -> None:
    turns = engine()
    hear(turns, 1600)

    assert [emission.message["transcript"] for emission in turns.force()][-1] == "Turn on the kitchen lights."
    assert finals(hear(turns, 5000)) == []


def test_a_pro_turn_forced_in_mid_speech_leaves_the_rest_to_the_next() -> None:
    turns = engine()
    hear(turns, 900)

    assert finals([emission.message for emission in turns.force()]) == ["Turn on the"]
    messages = hear(turns, 5000)
    assert finals(messages) == ["kitchen lights."]
    assert messages[-1]["turn_order"] == 1


def test_forced_universal_streaming_turns_lose_what_is_not_decoded() -> None:
    turns = engine(speech_model=US)
    hear(turns, 1750)

    assert finals([emission.message for emission in turns.force()]) == ["turn on the kitchen"]
    assert finals(hear(turns, 5000)) == []


def test_universal_streaming_gives_all_at_the_natural_end_and_at_termination() -> None:
    assert finals(hear(engine(speech_model=US), 5000)) == ["turn on the kitchen lights"]
    turns = engine(speech_model=US)
    hear(turns, 1750)
    assert finals([emission.message for emission in turns.finish()]) == ["turn on the kitchen lights"]


def test_forcing_without_an_open_turn_brings_nothing() -> None:
    turns = engine()
    hear(turns, 400)

    assert turns.force() == []


def test_universal_streaming_partials_hold_final_words_and_the_beginning_of_one_more() -> None:
    messages = hear(engine(speech_model=US), 1200)

    last = messages[-1]
    assert last["transcript"] == "turn on the"
    assert [word["word_is_final"] for word in last["words"]] == [True, True, True, False]
    assert {message["type"] for message in messages} == {"Turn"}


def test_universal_streaming_fills_utterance_at_a_short_pause() -> None:
    script = Script((Word("Turn", 0, 300), Word("on.", 900, 1200, sentence_end=True)))
    messages = hear(engine(script, speech_model=US), 1000)

    assert [message["utterance"] for message in messages] == ["", "turn"]
    assert finals(messages) == []


def test_format_turns_sends_the_final_twice_under_one_number() -> None:
    messages = hear(engine(speech_model=US, format_turns=True), 5000)
    last = [message for message in messages if message["end_of_turn"]]

    assert [message["transcript"] for message in last] == [
        "turn on the kitchen lights",
        "Turn on the kitchen lights.",
    ]
    assert [message["turn_is_formatted"] for message in last] == [False, True]
    assert [message["turn_order"] for message in last] == [0, 0]


def test_a_high_threshold_leaves_only_the_long_silence() -> None:
    turns = engine(speech_model=US, end_of_turn_confidence_threshold=1.0)

    assert finals(hear(turns, 1720 + 1279)) == []
    assert finals(hear(turns, 1720 + 1280)) == ["turn on the kitchen lights"]


def test_a_turn_is_cut_after_a_minute() -> None:
    words = tuple(Word(f"w{number}", number * 500, number * 500 + 500) for number in range(140))
    messages = hear(engine(Script(words)), 70_000)

    assert len(finals(messages)) == 1
    assert len(finals(messages)[0].split()) == 120


def test_silence_is_acknowledged_each_second_while_nobody_speaks() -> None:
    messages = hear(engine(acknowledge_silence=True), 5000)

    silences = [
        (message["start_ms"], message["end_ms"]) for message in messages if message["type"] == "Silence"
    ]
    assert silences == [(1720, 2720), (2720, 3720), (3720, 4720)]


def test_a_language_is_reported_on_finals_when_asked_for() -> None:
    script = Script(LIGHTS.words, language="en")

    assert hear(engine(script, language_detection=True), 5000)[-1]["language_code"] == "en"
    assert "language_code" not in hear(engine(script), 5000)[-1]


def test_a_final_has_every_field_of_the_wire_format() -> None:
    final = hear(engine(), 5000)[-1]

    assert final == {
        "turn_order": 0,
        "turn_is_formatted": True,
        "end_of_turn": True,
        "transcript": "Turn on the kitchen lights.",
        "end_of_turn_confidence": 1.0,
        "words": [
            {
                "start": word.start_ms,
                "end": word.end_ms,
                "text": word.text,
                "confidence": 0.99,
                "word_is_final": True,
            }
            for word in LIGHTS.words
        ],
        "utterance": "Turn on the kitchen lights.",
        "type": "Turn",
    }


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    words, at = [], 0
    for number in range(draw(st.integers(1, 12))):
        start = at + draw(st.sampled_from([0, 0, 0, 100, 500, 3000]))
        at = start + draw(st.integers(60, 600))
        words.append(Word(f"w{number}", start, at, sentence_end=draw(st.booleans())))
    return Script(tuple(words))


@given(script=scripts(), step=st.integers(50, 1000), model=st.sampled_from(["universal-3-6-pro", US]))
def test_turns_depend_on_the_audio_not_on_how_it_is_cut(script: Script, step: int, model: str) -> None:
    end = script.words[-1].end_ms + 3000
    smooth = finals(hear(engine(script, speech_model=model), end, step_ms=10))

    assert finals(hear(engine(script, speech_model=model), end, step_ms=step)) == smooth
    assert " ".join(smooth) == script.text


@given(script=scripts(), at=st.integers(0, 8000), model=st.sampled_from(["universal-3-6-pro", US]))
def test_finishing_loses_no_word_that_was_heard(script: Script, at: int, model: str) -> None:
    turns = engine(script, speech_model=model)
    messages = hear(turns, at)
    messages += [emission.message for emission in turns.finish()]

    heard = [word.text for word in script.words if word.end_ms <= at]
    assert " ".join(finals(messages)).split()[: len(heard)] == heard
    orders = [message["turn_order"] for message in messages if message.get("end_of_turn")]
    assert orders == list(range(len(orders)))
