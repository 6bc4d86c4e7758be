from __future__ import annotations

import math
from array import array
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given, strategies as st

from tests.emulators.assemblyai import Script, script_for, voiced_spans

if TYPE_CHECKING:
    from tests.emulators_checks.conftest import Recording


def tone(length_ms: int) -> bytes:
    return array("h", (int(5000 * math.sin(at / 10)) for at in range(length_ms * 16))).tobytes()


def hush(length_ms: int) -> bytes:
    return bytes(length_ms * 32)


def test_voiced_spans_are_where_it_is_loud() -> None:
    pcm = hush(400) + tone(600) + hush(800) + tone(400) + hush(300)

    assert voiced_spans(pcm) == [(400, 1000), (1800, 2200)]


def test_short_pauses_are_bridged_and_clicks_are_nobody() -> None:
    pcm = hush(400) + tone(300) + hush(100) + tone(300) + hush(400) + tone(40) + hush(400)

    assert voiced_spans(pcm) == [(400, 1100)]


def test_silence_has_no_spans() -> None:
    assert voiced_spans(b"") == []
    assert voiced_spans(hush(1000)) == []
    assert voiced_spans(array("h", [3, -3] * 8000).tobytes()) == []


def test_words_fill_the_spans_by_their_letters() -> None:
    pcm = hush(400) + tone(600) + hush(800) + tone(400) + hush(300)
    script = script_for(pcm, "abc cd. ef gh")

    assert [(word.text, word.start_ms, word.end_ms, word.sentence_end) for word in script.words] == [
        ("abc", 400, 700, False),
        ("cd.", 700, 1000, True),
        ("ef", 1800, 2000, False),
        ("gh", 2000, 2200, True),
    ]


def test_a_recording_gives_its_words_while_it_runs(recording: Recording) -> None:
    script = script_for(recording.pcm, recording.text, language="en")
    spans = voiced_spans(recording.pcm)

    assert script.text == recording.text
    assert script.language == "en"
    assert script.words[0].start_ms >= spans[0][0] > 0
    assert script.words[-1].end_ms <= spans[-1][1] < len(recording.pcm) / 32
    assert script.words[-1].sentence_end


def test_no_words_and_no_voice() -> None:
    assert script_for(tone(500), "  ") == Script.empty()
    assert [(word.start_ms, word.end_ms) for word in script_for(hush(900), "ab cd").words] == [
        (0, 450),
        (450, 900),
    ]


@given(
    texts=st.lists(st.text("abc.", min_size=1, max_size=12), min_size=1, max_size=12),
    spans=st.lists(st.tuples(st.integers(15, 40), st.integers(13, 50)), min_size=1, max_size=4),
)
def test_words_keep_their_order_and_never_overlap(texts: list[str], spans: list[tuple[int, int]]) -> None:
    pcm = b"".join(hush(pause * 20) + _TONE[: voice * 640] for pause, voice in spans)
    script = script_for(pcm, " ".join(texts))

    assert [word.text for word in script.words] == texts
    assert all(word.start_ms < word.end_ms for word in script.words)
    assert all(one.end_ms <= other.start_ms for one, other in pairwise(script.words))
    assert script.words[-1].end_ms <= len(pcm) / 32


_TONE = tone(1000)
