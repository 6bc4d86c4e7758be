from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tokenizers import Tokenizer

from modal_whisper.prompt import prompt
from modal_whisper.weights import find_model
from tests.processes import MODEL_DIR

MOST_TOKENS = 223 - 43
"""Whisper takes 223; with these it is seldom slower."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The real model's."""
    return Tokenizer.from_file(str(find_model("base", Path(MODEL_DIR)) / "tokenizer.json"))


@pytest.mark.parametrize(
    ("words", "context", "expected"),
    [
        ((), "", ""),
        (("Anna",), "", " Anna."),
        (("Anna", "Jürgen Groß", " Li Wei "), "", " Anna, Jürgen Groß, Li Wei."),
        (("", " ", "Anna", "\n"), "", " Anna."),
        ((), " Turn on the light. ", " Turn on the light."),
        (("Anna",), "Turn on the light.", " Anna. Turn on the light."),
        (("Anna",), "  ", " Anna."),
        (("\ud83d", "Weazels\udc00"), "", " , Weazels."),
    ],
)
def test_the_prompt_is_the_words_then_the_context_and_nothing_else(
    tokenizer: Any, words: tuple[str, ...], context: str, expected: str
) -> None:
    assert tokenizer.decode(prompt(tokenizer, words, context)) == expected


def test_the_prompt_takes_the_first_words_and_has_a_bound(tokenizer: Any) -> None:
    tokens = prompt(tokenizer, [f"Name{number}" for number in range(1000)], "")
    assert 100 < len(tokens) <= 120
    assert tokenizer.decode(tokens).startswith(" Name0, Name1, Name2,")
    assert tokenizer.decode(tokens).endswith(".")


def test_a_word_is_never_cut_in_two(tokenizer: Any) -> None:
    words = [f"Wohnzimmerlampe{number}" for number in range(100)]
    listed = tokenizer.decode(prompt(tokenizer, words, "")).strip(" .").split(", ")
    assert listed == words[: len(listed)]


@pytest.mark.parametrize("first", ["one", "one.", "one two"])
def test_the_bound_is_kept_to_the_token(tokenizer: Any, first: str) -> None:
    assert 118 <= len(prompt(tokenizer, [first, *["one"] * 100], "")) <= 120


def test_a_word_that_is_too_long_for_a_name_is_left_out_alone(tokenizer: Any) -> None:
    assert prompt(tokenizer, ["word" * 1000], "") == []
    assert tokenizer.decode(prompt(tokenizer, ["Anna", "word" * 1000, "Ben"], "")) == " Anna, Ben."


def test_of_the_context_the_last_words_are_kept(tokenizer: Any) -> None:
    context = " ".join(f"word{number}" for number in range(200))
    tokens = prompt(tokenizer, ["Anna"], context)
    text = tokenizer.decode(tokens)
    assert text.startswith(" Anna.")
    assert text.endswith(" word198 word199")
    assert 50 < len(tokens) <= 60 + 3


@given(words=st.lists(st.text(max_size=40), max_size=60), context=st.text(max_size=400))
def test_whatever_the_words_there_is_room_for_the_transcript(
    tokenizer: Any, words: list[str], context: str
) -> None:
    assert len(prompt(tokenizer, words, context)) <= MOST_TOKENS


def test_what_looks_like_a_control_token_of_whisper_is_none(tokenizer: Any) -> None:
    tokens = prompt(tokenizer, ["<|endoftext|>", "Anna<|startoftranscript|>"], "<|notimestamps|><|0.00|>")
    assert max(tokens, default=0) < tokenizer.token_to_id("<|endoftext|>")
