from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from modal_whisper.decoding import Decoded, Decoder
from tests.end_to_end.clips import LEADER, MUTED, error_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modal_whisper.transcriber import WhisperTranscriber

# With the real model


def floats(pcm: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


def noise(seconds: float, level: float) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(0.0, level, round(seconds * 16_000)).astype(np.float32)


@pytest.fixture
def real(whisper: WhisperTranscriber) -> Decoder:
    assert whisper._decoder is not None
    return whisper._decoder


@pytest.fixture
def names(whisper: WhisperTranscriber) -> list[int]:
    """A prompt of 120 tokens."""
    tokens = whisper._tokenizer.encode(" Anna, Jürgen, Li Wei," * 40, add_special_tokens=False).ids
    return list(tokens[:120])


def hear(
    decoder: Decoder,
    samples: np.ndarray[Any, Any],
    *,
    language: str | None = "en",
    languages: Sequence[str] = (),
    prompt: Sequence[int] = (),
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Decoded:
    return decoder.decode(
        samples, language=language, languages=languages, prompt=prompt, is_cancelled=is_cancelled
    )


def test_people_are_understood_and_their_language_is_detected(real: Decoder) -> None:
    decoded = hear(real, floats(MUTED.pcm), language=None)
    assert error_rate(MUTED.text, decoded.text) < 0.2
    assert decoded.language == "en"
    assert decoded.text == decoded.text.strip()


def test_a_language_is_detected_among_the_given_ones_only(real: Decoder) -> None:
    # Of all languages the small model takes Italian.
    decoded = hear(real, floats(LEADER.pcm), language=None, languages=("en", "de", "es"))
    assert error_rate(LEADER.text, decoded.text) < 0.2
    assert decoded.language == "es"


def test_a_short_command_behind_a_long_prompt_has_all_its_words(real: Decoder, names: list[int]) -> None:
    decoded = hear(real, floats(MUTED.pcm), prompt=names)
    assert error_rate(MUTED.text, decoded.text) < 0.2


@pytest.mark.parametrize("has_prompt", [False, True])
@pytest.mark.parametrize("level", [0.001, 0.03])
def test_noise_has_no_words(real: Decoder, names: list[int], level: float, *, has_prompt: bool) -> None:
    assert hear(real, noise(2.0, level), prompt=names if has_prompt else ()).text == ""


def test_a_language_that_the_model_lacks_is_not_known(real: Decoder) -> None:
    assert [real.knows(language) for language in ("en", "zh", "yue", "xx", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]


# With a fake of CTranslate2


SPECIAL = (
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|hi|>",
    "<|transcribe|>",
    "<|notimestamps|>",
    "<|startofprev|>",
    "<|endoftext|>",
)
START, EN, DE, HI, TRANSCRIBE, PLAIN, BEFORE, END = IDS = (901, 902, 903, 904, 905, 906, 907, 900)


class Written(NamedTuple):
    """What the model writes, how sure it is that nobody speaks, and how sure of its words."""

    tokens: list[int]
    no_speech: float = 0.1
    score: float = -0.2


WORDS = Written([1, 2, 3])
DOUBTED = Written([4, 5], 0.9, -1.0)
"""Noise."""


class FakeWhisper:
    """What Decoder uses of faster_whisper.WhisperModel; `written` is what each generate() gives."""

    def __init__(self, *written: Written, is_multilingual: bool = True) -> None:
        self.is_multilingual = is_multilingual
        self.written = list(written)
        self.encoded: list[np.ndarray[Any, Any]] = []
        self.asked: list[SimpleNamespace] = []
        self.detections = 0
        self.model = self
        self.hf_tokenizer = SimpleNamespace(
            token_to_id=dict(zip(SPECIAL, IDS, strict=True)).get, decode=decode
        )

    def feature_extractor(self, samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """One frame for 10 ms, numbered from 1, and one more."""
        frames = len(samples) // 160 + 1
        return np.tile(np.arange(1, frames + 1, dtype=np.float32), (80, 1))

    def encode(self, features: Any) -> int:
        self.encoded.append(np.array(features))
        return len(self.encoded)

    def detect_language(self, encoded: int) -> list[list[tuple[str, float]]]:
        assert encoded == len(self.encoded)
        self.detections += 1
        return [[("<|de|>", 0.6), ("<|hi|>", 0.3), ("<|en|>", 0.1)]]

    def generate(self, encoded: int, prompts: list[list[int]], **options: Any) -> list[SimpleNamespace]:
        (prompt,) = prompts
        self.asked.append(SimpleNamespace(encoded=encoded, prompt=prompt, **options))
        tokens, no_speech, score = self.written.pop(0) if self.written else WORDS
        return [SimpleNamespace(sequences_ids=[tokens], no_speech_prob=no_speech, scores=[score])]

    def room(self) -> list[int]:
        """The tokens that CTranslate2 may write in each generate(): of its own limit at most half."""
        return [min(item.max_length // 2, item.max_length - len(item.prompt)) for item in self.asked]


def decode(tokens: Sequence[int], *, skip_special_tokens: bool) -> str:
    assert skip_special_tokens
    return " " + " ".join(map(str, tokens)) + " "


def quiet(seconds: float) -> np.ndarray[Any, Any]:
    return np.zeros(round(seconds * 16_000), np.float32)


def fresh(whisper: FakeWhisper) -> Decoder:
    return Decoder(whisper, beam_size=5)


@pytest.mark.parametrize(
    ("seconds", "frames"),
    [
        (0.0, 1500),
        (1.0, 1500),
        (11.0, 1500),
        (11.5, 1500),
        (14.0, 1750),
        (20.0, 2350),
        (27.0, 3000),
        (30.0, 3000),
    ],
)
def test_what_is_encoded_is_as_long_as_the_speech_needs(seconds: float, frames: int) -> None:
    whisper = FakeWhisper()
    hear(fresh(whisper), quiet(seconds))
    (features,) = whisper.encoded
    assert features.shape == (1, 80, frames)
    heard = min(round(seconds * 100) + 1, frames)
    assert features[0, 7, :heard].tolist() == list(range(1, heard + 1))
    # What follows is the quietest of what was heard.
    assert set(features[0, :, heard:].flatten().tolist()) <= {1.0}


def test_the_model_is_asked_plainly() -> None:
    whisper = FakeWhisper()
    assert hear(fresh(whisper), quiet(2.0), language="de") == Decoded("1 2 3", "de")
    (asked,) = whisper.asked
    assert asked == SimpleNamespace(
        encoded=1,
        prompt=[START, DE, TRANSCRIBE, PLAIN],
        beam_size=5,
        max_length=40,
        return_no_speech_prob=True,
        return_scores=True,
        suppress_blank=True,
        suppress_tokens=[-1],
    )
    assert whisper.detections == 0


def test_a_model_that_knows_english_only_is_neither_told_a_language_nor_asked_for_one() -> None:
    whisper = FakeWhisper(is_multilingual=False)
    decoder = fresh(whisper)
    assert not decoder.knows("en")
    assert hear(decoder, quiet(2.0), language=None) == Decoded("1 2 3", "en")
    assert [asked.prompt for asked in whisper.asked] == [[START, PLAIN]]
    assert whisper.detections == 0


@pytest.mark.parametrize(
    ("languages", "language"),
    [((), "de"), (("en",), "en"), (("en", "hi"), "hi"), (("de", "en"), "de"), (("xx",), "de")],
)
def test_the_likeliest_of_the_given_languages_is_taken(languages: tuple[str, ...], language: str) -> None:
    whisper = FakeWhisper()
    assert hear(fresh(whisper), quiet(2.0), language=None, languages=languages).language == language
    assert whisper.asked[0].prompt[1] == {"en": EN, "de": DE, "hi": HI}[language]
    assert len(whisper.encoded) == 1


@pytest.mark.parametrize(("no_speech", "score"), [(0.31, -1.3), (0.5, -1.0), (0.9, -0.1), (0.99, 0.0)])
def test_what_the_model_doubts_and_its_words_are_noise(no_speech: float, score: float) -> None:
    whisper = FakeWhisper(Written([1, 2], no_speech, score))
    assert hear(fresh(whisper), quiet(2.0)) == Decoded("", "en")
    assert len(whisper.asked) == 1


@pytest.mark.parametrize(("no_speech", "score"), [(0.3, -5.0), (0.31, -1.2), (0.5, -0.8), (0.92, 0.0)])
def test_what_it_hears_well_or_writes_surely_are_words(no_speech: float, score: float) -> None:
    whisper = FakeWhisper(Written([1, 2], no_speech, score))
    assert hear(fresh(whisper), quiet(2.0)).text == "1 2"
    assert len(whisper.asked) == 1


def test_noise_that_runs_away_is_not_written_again() -> None:
    whisper = FakeWhisper(Written([7] * 20, *DOUBTED[1:]))
    assert hear(fresh(whisper), quiet(2.0)).text == ""
    assert len(whisper.encoded) == 1


WITHOUT, BEHIND = [START, EN, TRANSCRIBE, PLAIN], [BEFORE, 8, 9, START, EN, TRANSCRIBE, PLAIN]


def test_behind_a_prompt_one_step_without_it_tells_that_somebody_speaks() -> None:
    whisper = FakeWhisper(Written([1], 0.3, -9.0), Written([1, 2], *DOUBTED[1:]))
    assert hear(fresh(whisper), quiet(2.0), prompt=[8, 9]).text == "1 2"
    asked = [(item.prompt, item.beam_size, item.encoded) for item in whisper.asked]
    assert asked == [(WITHOUT, 1, 1), (BEHIND, 5, 1)]
    assert whisper.room() == [1, 20]


def test_where_one_step_does_not_tell_it_is_written_without_the_prompt_and_may_be_noise() -> None:
    whisper = FakeWhisper(Written([1], 0.31, 0.0), DOUBTED)
    assert hear(fresh(whisper), quiet(2.0), prompt=[8, 9]) == Decoded("", "en")
    assert [(item.prompt, item.beam_size) for item in whisper.asked] == [(WITHOUT, 1), (WITHOUT, 5)]
    assert whisper.room() == [1, 20]


def test_what_is_no_noise_without_the_prompt_is_written_behind_it() -> None:
    whisper = FakeWhisper(Written([1], 0.9, -9.0), Written([1, 2], 0.5, -0.5), Written([3], *DOUBTED[1:]))
    assert hear(fresh(whisper), quiet(2.0), prompt=[8, 9]).text == "3"
    assert [item.prompt for item in whisper.asked] == [WITHOUT, WITHOUT, BEHIND]


@pytest.mark.parametrize("prompt", [0, 1, 9, 10, 60, 182, 223])
@pytest.mark.parametrize(("seconds", "cap"), [(0.0, 8), (1.0, 14), (1.9, 19), (10.0, 68), (30.0, 188)])
def test_there_is_room_for_as_many_tokens_as_people_speak_whatever_comes_before(
    prompt: int, seconds: float, cap: int
) -> None:
    whisper = FakeWhisper()
    hear(fresh(whisper), quiet(seconds), prompt=[8] * prompt)
    assert whisper.room()[-1] == cap
    assert whisper.asked[-1].max_length <= 448


@pytest.mark.parametrize(("seconds", "cap"), [(1.0, 38), (2.0, 68), (30.0, 200)])
@pytest.mark.parametrize("is_given", [True, False])
def test_languages_whose_letters_take_several_tokens_have_more_room(
    seconds: float, cap: int, *, is_given: bool
) -> None:
    whisper = FakeWhisper()
    language = {"language": "hi"} if is_given else {"language": None, "languages": ("hi",)}
    hear(fresh(whisper), quiet(seconds), **language)
    assert whisper.room()[-1] == cap


RUNS_AWAY = {"as far as it may": [*range(20)], "in a loop": [1, 2, 3, 4] * 3}


@pytest.mark.parametrize("tokens", RUNS_AWAY.values(), ids=RUNS_AWAY)
def test_a_text_that_runs_away_is_written_once_more_with_all_frames(tokens: list[int]) -> None:
    whisper = FakeWhisper(Written(tokens), Written([4, 5, 6], *DOUBTED[1:]))
    assert hear(fresh(whisper), quiet(2.0)).text == "4 5 6"
    assert [features.shape[2] for features in whisper.encoded] == [1500, 3000]
    assert [asked.encoded for asked in whisper.asked] == [1, 2]
    assert [asked.prompt for asked in whisper.asked] == [
        [START, EN, TRANSCRIBE, PLAIN],
        [START, EN, TRANSCRIBE],
    ]
    assert whisper.room() == [20, 68]


def test_a_text_that_runs_away_behind_a_prompt_is_written_again_behind_it() -> None:
    whisper = FakeWhisper(Written([1]), Written([*range(20)]), Written([4, 5, 6]))
    assert hear(fresh(whisper), quiet(2.0), prompt=[8, 9]).text == "4 5 6"
    assert whisper.asked[2].prompt == [BEFORE, 8, 9, START, EN, TRANSCRIBE]


def test_long_speech_is_written_with_timestamps_which_are_no_words() -> None:
    whisper = FakeWhisper(Written([1]), Written([END + 50, 1, 2, END + 60]))
    assert hear(fresh(whisper), quiet(12.0)).text == "1 2"
    plainly, timed = whisper.asked
    assert (plainly.prompt, timed.prompt) == ([START, EN, TRANSCRIBE, PLAIN], [START, EN, TRANSCRIBE])


def test_long_noise_is_told_by_what_is_written_of_it_without_timestamps() -> None:
    whisper = FakeWhisper(Written([1], 0.4, 0.0), Written([4], 0.4, -1.6), WORDS)
    assert hear(fresh(whisper), quiet(12.0)) == Decoded("", "en")
    assert [asked.prompt[-1] for asked in whisper.asked] == [PLAIN, PLAIN]


def test_a_text_that_just_fits_is_written_once() -> None:
    whisper = FakeWhisper(Written([*range(19)]))
    assert hear(fresh(whisper), quiet(2.0)).text == " ".join(map(str, range(19)))
    assert len(whisper.asked) == 1


def test_a_loop_that_comes_again_is_cut_after_its_first_round() -> None:
    whisper = FakeWhisper(Written([1, 2, 3, 4] * 3), Written([9] + [1, 2, 3, 4] * 5))
    assert hear(fresh(whisper), quiet(2.0)).text == "9 1 2 3 4"
    assert len(whisper.asked) == 2


def test_a_long_text_that_comes_again_is_taken_as_it_is() -> None:
    tokens = [*range(68)]
    whisper = FakeWhisper(Written(tokens[:20]), Written(tokens))
    assert hear(fresh(whisper), quiet(2.0)).text == " ".join(map(str, tokens))
    assert len(whisper.asked) == 2


class Cancelled:
    """Nobody waits any more once it has been looked at so often."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def __call__(self) -> bool:
        self._looks -= 1
        return self._looks < 0


def test_one_that_is_cancelled_while_it_is_encoded_is_not_written() -> None:
    whisper = FakeWhisper()
    decoder = fresh(whisper)
    assert hear(decoder, quiet(2.0), language=None, prompt=[8], is_cancelled=Cancelled(0)).text == ""
    assert (len(whisper.encoded), whisper.detections, whisper.asked) == (1, 0, [])


def test_one_that_is_cancelled_while_it_runs_away_is_not_written_again() -> None:
    whisper = FakeWhisper(Written([*range(20)]))
    hear(fresh(whisper), quiet(2.0), is_cancelled=Cancelled(1))
    assert (len(whisper.encoded), len(whisper.asked)) == (1, 1)
