from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modal_whisper.errors import ModelUnavailableError, TranscriptionError
from modal_whisper.transcriber import Segment, WhisperTranscriber
from tests.end_to_end.clips import LEADER, MUTED, PASSWORD, WEASELS, error_rate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def ask(
    transcriber: WhisperTranscriber,
    pcm: bytes,
    language: str | None = "en",
    *,
    names: tuple[str, ...] = (),
    terms: tuple[str, ...] = (),
    cancelled: threading.Event | None = None,
) -> Iterator[Segment]:
    return transcriber.segments(
        pcm, language=language, names=names, terms=terms, cancelled=cancelled or threading.Event()
    )


# With the real model


def test_people_are_understood(whisper: WhisperTranscriber) -> None:
    segments = list(ask(whisper, LEADER.pcm, "es"))
    assert error_rate(LEADER.text, "".join(segment.text for segment in segments)) < 0.2
    assert {segment.language for segment in segments} == {"es"}


def test_the_language_is_detected_where_none_is_given_and_an_odd_byte_is_left_out(
    whisper: WhisperTranscriber,
) -> None:
    segments = list(ask(whisper, MUTED.pcm + b"\1", None))
    assert error_rate(MUTED.text, "".join(segment.text for segment in segments)) < 0.2
    assert {segment.language for segment in segments} == {"en"}


def test_names_and_terms_guide_the_spelling_even_beside_what_is_no_text(whisper: WhisperTranscriber) -> None:
    heard = "".join(segment.text for segment in ask(whisper, WEASELS.pcm, names=("\ud83d", "Weazels")))
    assert "Weazels" in heard


def test_a_transcription_stops_when_it_is_cancelled(whisper: WhisperTranscriber) -> None:
    cancelled = threading.Event()
    segments = ask(whisper, PASSWORD.pcm, cancelled=cancelled)
    assert next(segments).text
    cancelled.set()
    assert list(segments) == []


@pytest.mark.parametrize("pcm", [b"", b"\1", MUTED.pcm[:20]], ids=["nothing", "one byte", "ten samples"])
def test_hardly_any_audio_has_no_words(whisper: WhisperTranscriber, pcm: bytes) -> None:
    assert list(ask(whisper, pcm)) == []


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        ((), None),
        (("Anna",), " Anna."),
        (("Anna", "Jürgen Groß", " Li Wei "), " Anna, Jürgen Groß, Li Wei."),
    ],
)
def test_the_prompt_is_the_words_and_nothing_else(
    whisper: WhisperTranscriber, words: tuple[str, ...], prompt: str | None
) -> None:
    tokens = whisper._prompt(words)
    assert (tokens and whisper._whisper.hf_tokenizer.decode(tokens)) == prompt


def test_the_prompt_takes_the_first_words_and_has_a_bound(whisper: WhisperTranscriber) -> None:
    tokens = whisper._prompt([f"Name{number}" for number in range(1000)])
    assert tokens is not None
    assert 100 < len(tokens) <= 120
    assert whisper._whisper.hf_tokenizer.decode(tokens).startswith(" Name0, Name1, Name2,")


def test_one_word_of_any_length_is_left_out(whisper: WhisperTranscriber) -> None:
    assert whisper._prompt(["word" * 1000]) is None


def test_model_files_that_are_none_are_an_error_that_names_the_folder(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    transcriber = WhisperTranscriber(str(tmp_path), directory=tmp_path, device="cpu")
    with pytest.raises(ModelUnavailableError) as error:
        transcriber.load()
    assert str(error.value).startswith(f"the Whisper model in {tmp_path} could not be loaded: ")
    assert "\n" not in str(error.value)


# With a fake of faster-whisper


class FakeModel:
    """What the transcriber uses of faster_whisper.WhisperModel."""

    def __init__(self, folder: str, **options: Any) -> None:
        self.options = {"folder": folder, **options}
        self.asked: dict[str, Any] = {}
        self.model = SimpleNamespace(is_multilingual=True)
        self.hf_tokenizer = SimpleNamespace(
            token_to_id={"<|en|>": 1, "<|de|>": 2}.get,
            encode=lambda text, add_special_tokens: SimpleNamespace(ids=[ord(letter) for letter in text]),
        )
        self.heard: list[str | Exception] = [" Hello.", " World."]

    def transcribe(self, audio: Any, **options: Any) -> tuple[Iterator[Any], Any]:
        self.asked = {"audio": [float(sample) for sample in audio], **options}
        return self._found(), SimpleNamespace(language=options["language"] or "nl")

    def _found(self) -> Iterator[Any]:
        for text in self.heard:
            if isinstance(text, Exception):
                raise text
            yield SimpleNamespace(text=text)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The machine's, none unless the test puts one in; with it comes the fake model."""
    found: list[str] = []
    modules = {
        "ctranslate2": SimpleNamespace(get_cuda_device_count=lambda: len(found)),
        "faster_whisper": SimpleNamespace(WhisperModel=FakeModel),
    }
    monkeypatch.setattr("modal_whisper.transcriber.require", lambda name: modules.get(name, np))
    monkeypatch.setattr("modal_whisper.transcriber.find_model", lambda name, folder: folder / name)
    return found


@pytest.fixture
def transcriber(gpus: list[str], tmp_path: Path) -> WhisperTranscriber:
    loaded = WhisperTranscriber(directory=tmp_path, device="cpu")
    loaded.load()
    return loaded


@pytest.mark.parametrize(
    ("options", "has_gpu", "device", "compute_type"),
    [
        ({}, False, "cpu", "int8"),
        ({}, True, "cuda", "float16"),
        ({"device": "cpu"}, True, "cpu", "int8"),
        ({"device": "cuda"}, False, "cuda", "float16"),
        ({"compute_type": "float32"}, True, "cuda", "float32"),
        ({"compute_type": "default"}, False, "cpu", "int8"),
    ],
)
def test_the_device_and_the_precision_fit_the_machine(
    gpus: list[str],
    options: dict[str, str],
    *,
    has_gpu: bool,
    device: str,
    compute_type: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="modal_whisper")
    gpus += ["a GPU"] * has_gpu
    transcriber = WhisperTranscriber("tiny", directory=tmp_path, threads=3, **options)
    transcriber.load()
    assert transcriber._whisper.options == {
        "folder": str(tmp_path / "tiny"),
        "device": device,
        "compute_type": compute_type,
        "cpu_threads": 3,
        "local_files_only": True,
    }
    assert caplog.messages == [f"loaded the Whisper model tiny ({device}, {compute_type})"]


def test_before_it_is_loaded_it_can_do_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="not loaded"):
        list(ask(WhisperTranscriber(directory=tmp_path), MUTED.pcm))


def test_the_model_is_asked_plainly(transcriber: WhisperTranscriber) -> None:
    list(ask(transcriber, b"\x00\x40\x00\x80\x07", "de", names=("A",), terms=("b",)))
    assert transcriber._whisper.asked == {
        "audio": [0.5, -1.0],
        "language": "de",
        "beam_size": 1,
        "temperature": 0.0,
        "condition_on_previous_text": False,
        "initial_prompt": [ord(letter) for letter in " A, b."],
    }


def test_a_language_that_the_model_lacks_is_left_to_its_ear(transcriber: WhisperTranscriber) -> None:
    assert [segment.language for segment in ask(transcriber, bytes(64), "yue")] == ["nl", "nl"]
    assert transcriber._whisper.asked["language"] is None


@pytest.mark.parametrize("flaw", ["it knows English only", "it is distilled"])
def test_a_model_that_takes_no_prompt_gets_none(transcriber: WhisperTranscriber, flaw: str) -> None:
    if flaw == "it is distilled":
        transcriber.model = "distil-large-v3"
    else:
        transcriber._whisper.model.is_multilingual = False
    list(ask(transcriber, bytes(64), names=("Anna",)))
    assert transcriber._whisper.asked["initial_prompt"] is None


def test_one_that_is_cancelled_beforehand_says_nothing(transcriber: WhisperTranscriber) -> None:
    cancelled = threading.Event()
    cancelled.set()
    assert list(ask(transcriber, bytes(64), cancelled=cancelled)) == []


@pytest.mark.parametrize("fault", [RuntimeError("CUDA out of memory"), ValueError("bad shape")])
def test_a_fault_of_the_model_is_an_error_after_what_was_heard(
    transcriber: WhisperTranscriber, fault: Exception
) -> None:
    transcriber._whisper.heard = [" Hello.", fault]
    segments = ask(transcriber, bytes(64))
    assert next(segments) == Segment(" Hello.", "en")
    with pytest.raises(TranscriptionError, match=f"^the Whisper model failed: {fault}$"):
        next(segments)


def test_what_faster_whisper_says_of_every_utterance_stays_out_of_the_log(
    transcriber: WhisperTranscriber, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="faster_whisper")
    transcriber.load()
    assert not logging.getLogger("faster_whisper").isEnabledFor(logging.INFO)
