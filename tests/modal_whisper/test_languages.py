from __future__ import annotations

import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES

from modal_whisper.errors import MessageError
from modal_whisper.languages import LANGUAGES, bare_code, joined, whisper_language


def test_the_languages_are_those_of_the_model() -> None:
    assert frozenset(_LANGUAGE_CODES) == LANGUAGES


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("en", "en"),
        ("en-US", "en"),
        ("DE", "de"),
        ("zh_Hant_TW", "zh"),
        (" fr-CA ", "fr"),
        ("nb", "no"),
        ("nb-NO", "no"),
        ("iw", "he"),
        ("in", "id"),
        ("jv", "jw"),
        ("fil-PH", "tl"),
        ("cmn-Hans", "zh"),
        ("yue", "yue"),
    ],
)
def test_a_language_tag_is_understood(tag: str, code: str) -> None:
    assert bare_code(tag) == code
    assert whisper_language(tag) == code


def test_no_language_stays_none() -> None:
    assert whisper_language(None) is None


@pytest.mark.parametrize("tag", ["", "xx", "english", "-US", "auto"])
def test_an_unknown_language_is_an_error_that_says_what_to_give(tag: str) -> None:
    with pytest.raises(MessageError) as error:
        whisper_language(tag)
    assert str(error.value) == (
        f"unknown language {tag!r}: give a code such as en, de or zh, or null to detect it"
    )


def test_a_tag_of_any_length_makes_a_short_error() -> None:
    with pytest.raises(MessageError) as error:
        whisper_language("x" * 1_000_000)
    assert len(str(error.value)) < 120


@pytest.mark.parametrize("language", ["en", "de", "ko", "vi", None])
def test_texts_are_joined_with_a_space(language: str | None) -> None:
    assert joined([" Turn on", "", "  ", "the light. "], language) == "Turn on the light."


@pytest.mark.parametrize("language", ["zh", "ja", "yue", "th", "lo", "km", "my", "bo"])
def test_texts_of_a_language_without_spaces_are_joined_without(language: str) -> None:
    assert joined((text for text in (" 打开", "客厅 ", " ", "的灯。")), language) == "打开客厅的灯。"


def test_no_texts_are_an_empty_one() -> None:
    assert joined([], "en") == ""
