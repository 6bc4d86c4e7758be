from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.wyoming_server.backends.turn_messages import final, partial
from wyoming_server.backends.turns import Turns


@dataclass
class Ears:
    """What counts of a SpeechDetector here."""

    audio_ms: int = 5000
    speech_end_ms: int | None = 2000


def turns_after(*messages: dict[str, Any], ears: Ears | None = None) -> Turns:
    turns = Turns()
    for message in messages:
        turns.absorb(message, ears or Ears())
    return turns


def test_without_turns_there_is_no_text() -> None:
    turns = Turns()
    assert turns.text == ""
    assert not turns.has_final
    assert not turns.are_open
    assert not turns.reach_end_of(Ears(speech_end_ms=None))


def test_a_partial_replaces_the_one_before_it_and_the_final_replaces_both() -> None:
    turns = turns_after(partial(0, "Turn of"), partial(0, "Turn on the"))
    assert turns.text == "Turn on the"
    assert turns.are_open
    assert not turns.has_final

    turns.absorb(final(0, "Turn on the light."), Ears())
    assert turns.text == "Turn on the light."
    assert not turns.are_open
    assert turns.has_final


def test_a_partial_can_take_its_words_back() -> None:
    turns = turns_after(partial(0, "Hm"), partial(0, ""))
    assert turns.text == ""
    assert not turns.are_open


def test_turns_are_joined_in_their_order_and_not_in_that_of_arrival() -> None:
    assert turns_after(final(1, "two"), partial(2, "three"), final(0, " one ")).text == "one two three"


def test_numbers_are_ordered_as_numbers() -> None:
    assert turns_after(*(final(order, f"{order}") for order in range(12))).text.endswith("8 9 10 11")


def test_empty_turns_leave_no_gaps_in_the_text() -> None:
    assert turns_after(final(0, "one"), final(1, ""), final(2, "two")).text == "one two"


@pytest.mark.parametrize("first", [final(0, "Turn on.", 2000), partial(0, "Turn on.")])
def test_an_empty_final_takes_no_words_back(first: dict[str, Any]) -> None:
    turns = turns_after(first, final(0, ""))
    assert turns.text == "Turn on."
    assert turns.are_open is not first["end_of_turn"]


def test_an_empty_final_ends_a_turn_without_words() -> None:
    turns = turns_after(final(0, "Turn on.", 2000), partial(1, ""), final(1, ""))
    assert not turns.are_open
    assert turns.reach_end_of(Ears())


def test_a_partial_that_comes_after_its_final_changes_nothing() -> None:
    turns = turns_after(final(0, "Turn on.", 2000), partial(0, "Turn"))
    assert turns.text == "Turn on."
    assert not turns.are_open


def test_a_final_that_comes_twice_counts_once_and_the_later_wording_stays() -> None:
    assert turns_after(final(0, "turn on", 2000), final(0, "Turn on.", 2000)).text == "Turn on."


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"turn_order": 0, "transcript": "on"},
        {"turn_order": 0, "end_of_turn": True},
        {"transcript": "on", "end_of_turn": True},
        {"turn_order": None, "transcript": "on", "end_of_turn": True},
        {"turn_order": "0", "transcript": "on", "end_of_turn": True},
        {"turn_order": 0, "transcript": None, "end_of_turn": True},
        {"turn_order": 0, "transcript": ["on"], "end_of_turn": True},
        {"turn_order": 0, "transcript": "on", "end_of_turn": True, "words": 5},
        {"turn_order": 0, "transcript": "on", "end_of_turn": True, "words": {"end": 5}},
        {"turn_order": 0, "transcript": "on", "end_of_turn": True, "words": [None]},
        {"turn_order": 0, "transcript": "on", "end_of_turn": True, "words": [{"start": 1}]},
        {"turn_order": 0, "transcript": "on", "end_of_turn": True, "words": [{"end": "soon"}]},
        {"turn_order": 0, "transcript": "on", "end_of_turn": True, "words": [{"end": float("inf")}]},
    ],
)
def test_what_is_no_turn_is_an_error_and_leaves_no_trace(message: dict[str, Any]) -> None:
    turns = turns_after(partial(0, "Turn"))
    with pytest.raises((KeyError, TypeError, ValueError, OverflowError)):
        turns.absorb(message, Ears())
    assert turns.text == "Turn"
    assert turns.are_open
    assert not turns.has_final


def test_words_may_be_left_out() -> None:
    assert turns_after({"turn_order": 0, "transcript": "on", "end_of_turn": True}).text == "on"


def test_the_language_is_the_latest_that_was_reported() -> None:
    turns = turns_after(final(0, "Hello."))
    assert turns.language is None
    turns.absorb(final(1, "Hallo.") | {"language_code": "de"}, Ears())
    turns.absorb(final(2, "Hm."), Ears())
    assert turns.language == "de"


@pytest.mark.parametrize(("end_ms", "reaches"), [(2600, True), (1600, True), (1599, False)])
def test_the_last_word_may_end_somewhat_before_the_last_speech_heard(end_ms: int, *, reaches: bool) -> None:
    assert turns_after(final(0, "Turn on.", end_ms)).reach_end_of(Ears(speech_end_ms=2000)) is reaches


def test_the_last_word_counts_not_that_of_the_last_message() -> None:
    turns = turns_after(final(1, "two", 2000), final(0, "one", 900))
    assert turns.reach_end_of(Ears(speech_end_ms=2000))


@pytest.mark.parametrize(("speech_end_ms", "reaches"), [(2250, True), (2251, False)])
def test_a_final_cannot_hold_what_was_heard_well_after_it_came(speech_end_ms: int, *, reaches: bool) -> None:
    turns = turns_after(final(0, "Turn on.", 2500), ears=Ears(audio_ms=2000))
    assert turns.reach_end_of(Ears(speech_end_ms=speech_end_ms)) is reaches


def test_a_turn_that_is_open_has_more_to_say() -> None:
    turns = turns_after(final(0, "Turn on.", 2000), partial(1, "the"))
    assert not turns.reach_end_of(Ears())
    turns.absorb(final(1, "the light", 2000), Ears())
    assert turns.reach_end_of(Ears())


def test_a_turn_that_is_missing_before_the_last_has_more_to_say() -> None:
    turns = turns_after(final(1, "kitchen lights.", 2000))
    assert not turns.reach_end_of(Ears())
    turns.absorb(final(0, "Turn on the", 1000), Ears())
    assert turns.reach_end_of(Ears())


def test_finals_without_words_reach_nothing() -> None:
    assert not turns_after(final(0, "")).reach_end_of(Ears(speech_end_ms=None))


def test_words_where_nobody_was_heard_reach_the_end() -> None:
    assert turns_after(final(0, "Turn on.", 700)).reach_end_of(Ears(speech_end_ms=None))


@given(st.lists(st.text("ab ", max_size=4), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_no_order_of_arrival_loses_or_doubles_a_word(texts: list[str], random: Any) -> None:
    turns, texts = Turns(), [text.strip() for text in texts]
    coming = [
        [partial(order, text[:1]), partial(order, text), final(order, text)]
        for order, text in enumerate(texts)
    ]
    while any(coming):
        queue = random.choice([queue for queue in coming if queue])
        turns.absorb(queue.pop(0), Ears())

    assert turns.text == " ".join(text for text in texts if text)
    assert not turns.are_open
