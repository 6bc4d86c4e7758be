from __future__ import annotations

import json

import pytest
from hypothesis import example, given, strategies as st

from modal_whisper.errors import MessageError
from modal_whisper.messages import (
    Failure,
    Final,
    Partial,
    Ready,
    Start,
    Stop,
    decode_client,
    decode_worker,
    encode,
)

HALF_A_PAIR = "\ud83d"
"""Half an emoji: JSON can carry it, UTF-8 cannot."""
ANY_TEXT = st.text(st.characters(exclude_categories=()))
WORDS = st.lists(ANY_TEXT).map(tuple)
CLIENT = st.one_of(st.builds(Start, st.none() | ANY_TEXT, WORDS, WORDS), st.just(Stop()))
WORKER = st.one_of(
    st.builds(Ready, ANY_TEXT, ANY_TEXT),
    st.builds(Partial, ANY_TEXT),
    st.builds(Final, ANY_TEXT, st.none() | ANY_TEXT, st.integers(), st.integers()),
    st.builds(Failure, ANY_TEXT, ANY_TEXT),
)


@given(CLIENT)
def test_what_a_client_encodes_is_what_the_worker_decodes(message: Start | Stop) -> None:
    assert decode_client(encode(message)) == message


@given(WORKER)
def test_what_the_worker_encodes_is_what_a_client_decodes(message: Ready | Partial | Final | Failure) -> None:
    assert decode_worker(encode(message)) == message


@given(CLIENT | WORKER)
@example(Partial(HALF_A_PAIR))
def test_every_message_can_be_sent(message: Start | Partial) -> None:
    encode(message).encode("utf-8")


def test_a_message_is_one_json_object_that_names_its_type() -> None:
    assert json.loads(encode(Start("de", ("Jürgen",), ("Licht",)))) == {
        "type": "start",
        "language": "de",
        "names": ["Jürgen"],
        "terms": ["Licht"],
        "languages": [],
    }
    assert json.loads(encode(Stop())) == {"type": "stop"}
    assert json.loads(encode(Failure("too-long", "no"))) == {
        "type": "error",
        "code": "too-long",
        "message": "no",
    }


def test_optional_fields_may_be_left_out() -> None:
    assert decode_client('{"type": "start"}') == Start(None, (), ())
    assert decode_worker('{"type": "final", "text": "Hi."}') == Final("Hi.", None, 0, 0)


def test_unknown_fields_are_ignored() -> None:
    assert decode_client('{"type": "stop", "why": ["enough", 1]}') == Stop()
    assert decode_worker('{"type": "partial", "text": "Hi", "confidence": 0.5}') == Partial("Hi")


@pytest.mark.parametrize("text", ['{"type": "ready", "model": "base"}', '{"type": "partial"}'])
def test_a_required_field_that_is_missing_is_an_error(text: str) -> None:
    with pytest.raises(MessageError, match=r"^(ready|partial) lacks a required field$"):
        decode_worker(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"type": "start", "language": 5}', "language of start must be a string or null"),
        ('{"type": "start", "names": "Anna"}', "names of start must be a list of strings"),
        ('{"type": "start", "names": null}', "names of start must be a list of strings"),
        ('{"type": "start", "terms": ["a", 1]}', "terms of start must be a list of strings"),
    ],
)
def test_a_client_learns_which_field_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(MessageError) as error:
        decode_client(text)
    assert str(error.value) == complaint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"type": "partial", "text": null}', "text of partial must be a string"),
        ('{"type": "final", "text": "", "audio_ms": 1.5}', "audio_ms of final must be a whole number"),
        ('{"type": "final", "text": "", "work_ms": true}', "work_ms of final must be a whole number"),
        ('{"type": "final", "text": "", "audio_ms": "9"}', "audio_ms of final must be a whole number"),
    ],
)
def test_the_fields_of_the_worker_are_checked_as_well(text: str, complaint: str) -> None:
    with pytest.raises(MessageError) as error:
        decode_worker(text)
    assert str(error.value) == complaint


@pytest.mark.parametrize(
    "text",
    ["", "{", "hello", "[]", '"start"', "null", "1" * 5000, "[" * 100_000],
    ids=["nothing", "half", "words", "list", "string", "null", "huge number", "deep"],
)
def test_what_is_no_json_object_is_an_error(text: str) -> None:
    with pytest.raises(MessageError, match=r"^a text message must be one JSON object$"):
        decode_client(text)


@pytest.mark.parametrize("kind", ['"begin"', '"ready"', "null", "7", '["start"]', '{"start": 1}'])
def test_a_client_with_an_unknown_type_learns_the_known_ones(kind: str) -> None:
    with pytest.raises(MessageError, match=r"^unknown message type; expected one of: start, stop$"):
        decode_client(f'{{"type": {kind}}}')


def test_a_message_without_type_is_unknown() -> None:
    with pytest.raises(
        MessageError, match=r"^unknown message type; expected one of: ready, partial, final, er"
    ):
        decode_worker("{}")


@pytest.mark.parametrize(
    "text", ['{"type": "secret words"}', '{"type": "start", "names": ["secret words", 1]}', "secret words"]
)
def test_an_error_repeats_nothing_of_what_was_sent(text: str) -> None:
    with pytest.raises(MessageError) as error:
        decode_client(text)
    assert "secret" not in str(error.value)
