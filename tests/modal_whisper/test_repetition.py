from __future__ import annotations

import pytest
from hypothesis import assume, given, strategies as st

from modal_whisper.repetition import loop

NO = 1
TURN, ON, THE, LIGHT, STOP = range(10, 15)


@pytest.mark.parametrize(
    ("tokens", "begin"),
    [
        ([TURN] * 8, 1),
        ([THE, LIGHT] + [TURN, ON] * 4, 4),
        ([THE, LIGHT] + [TURN, ON] * 4 + [TURN], 4),
        ([TURN, ON, THE, LIGHT] * 3, 4),
        ([STOP] + [TURN, ON, THE, LIGHT] * 2 + [TURN], 5),
        (list(range(100, 150)) * 2 + [100], 50),
    ],
)
def test_a_phrase_that_is_said_again_and_again_until_the_end_is_a_loop(tokens: list[int], begin: int) -> None:
    assert loop(tokens) == begin


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [NO],
        [NO] * 7,
        [NO, STOP, NO, STOP, NO, STOP],
        [TURN, ON, THE, LIGHT] * 2,
        [TURN, ON, THE, LIGHT] * 3 + [STOP],
        [*range(100, 120)],
    ],
    ids=["nothing", "one word", "no, no, no", "three times two", "said twice", "goes on", "all different"],
)
def test_what_people_say_is_none(tokens: list[int]) -> None:
    assert loop(tokens) is None


words = st.lists(st.integers(0, 5), max_size=12)


@given(before=words, phrase=st.lists(st.integers(0, 5), min_size=1, max_size=6), times=st.integers(8, 12))
def test_what_is_left_of_a_loop_has_the_phrase_once_and_is_no_loop(
    before: list[int], phrase: list[int], times: int
) -> None:
    tokens = before + phrase * times
    begin = loop(tokens)
    assert begin is not None
    assert begin <= len(before) + len(phrase)
    again = tokens[begin:]
    length = next(n for n in range(1, len(phrase) + 1) if tokens[begin - n : begin - n + len(again)] == again)
    assert len(phrase) % length == 0


@given(tokens=words, last=st.integers(100, 200))
def test_a_new_word_at_the_end_means_that_there_is_no_loop(tokens: list[int], last: int) -> None:
    assume(last not in tokens)
    assert loop([*tokens, last]) is None
