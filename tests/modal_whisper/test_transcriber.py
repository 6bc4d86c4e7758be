from __future__ import annotations

import logging
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modal_whisper.decoding import Decoded
from modal_whisper.errors import ModelUnavailableError, TranscriptionError
from modal_whisper.model import Passage, Transcript
from modal_whisper.transcriber import WhisperTranscriber
from tests.end_to_end.clips import LEADER, MUTED, WEASELS, error_rate

if TYPE_CHECKING:
    from pathlib import Path


def ask(
    transcriber: WhisperTranscriber,
    pcm: bytes,
    language: str | None = "en",
    *,
    cancelled: threading.Event | None = None,
    **known: Any,
) -> Transcript:
    passage = Passage(pcm=pcm, language=language, **known)
    return transcriber.transcribe(passage, cancelled or threading.Event())


# With the real model


def test_people_are_understood(whisper: WhisperTranscriber) -> None:
    transcript = ask(whisper, LEADER.pcm, "es")
    assert error_rate(LEADER.text, transcript.text) < 0.2
    assert (transcript.language, transcript.model) == ("es", "base")


def test_the_language_is_detected_where_none_is_given_and_an_odd_byte_is_left_out(
    whisper: WhisperTranscriber,
) -> None:
    transcript = ask(whisper, MUTED.pcm + b"\1", None)
    assert error_rate(MUTED.text, transcript.text) < 0.2
    assert transcript.language == "en"


def test_names_and_terms_guide_the_spelling_even_beside_what_is_no_text(whisper: WhisperTranscriber) -> None:
    names = ("\ud83d", "<|endoftext|>", "Weazels")
    assert "Weazels" in ask(whisper, WEASELS.pcm, names=names).text


def test_one_that_is_cancelled_beforehand_has_no_words(whisper: WhisperTranscriber) -> None:
    cancelled = threading.Event()
    cancelled.set()
    assert ask(whisper, MUTED.pcm, cancelled=cancelled).text == ""


@pytest.mark.parametrize("pcm", [b"", b"\1", MUTED.pcm[:20]], ids=["nothing", "one byte", "ten samples"])
def test_hardly_any_audio_has_no_words(whisper: WhisperTranscriber, pcm: bytes) -> None:
    assert ask(whisper, pcm).text == ""


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

    is_multilingual = True

    def __init__(self, folder: str, **options: Any) -> None:
        self.options = {"folder": folder, **options}
        self.model = SimpleNamespace(is_multilingual=self.is_multilingual)
        self.hf_tokenizer = SimpleNamespace(
            token_to_id={"<|endoftext|>": 1000}.get,
            encode=lambda text, add_special_tokens: SimpleNamespace(ids=[ord(letter) for letter in text]),
        )


class FakeDecoder:
    """Takes what Decoder takes; knows English and German."""

    def __init__(self, whisper: FakeModel, *, beam_size: int) -> None:
        self.whisper = whisper
        self.beam_size = beam_size
        self.asked: dict[str, Any] = {}
        self.fault: Exception | None = None

    def knows(self, language: str) -> bool:
        return language in {"en", "de"}

    def decode(self, samples: np.ndarray[Any, Any], **asked: Any) -> Decoded:
        assert samples.dtype == np.float32
        self.asked = {"samples": samples.tolist(), **asked}
        if self.fault:
            raise self.fault
        return Decoded("Hello.", asked["language"] or "nl")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The NVIDIA cards of this machine."""
    found: list[str] = []
    modules = {
        "ctranslate2": SimpleNamespace(get_cuda_device_count=lambda: len(found)),
        "faster_whisper": SimpleNamespace(WhisperModel=FakeModel),
    }
    monkeypatch.setattr("modal_whisper.transcriber.require", lambda name: modules.get(name, np))
    monkeypatch.setattr("modal_whisper.transcriber.find_model", lambda name, folder: folder / name)
    monkeypatch.setattr("modal_whisper.transcriber.Decoder", FakeDecoder)
    return found


def loaded(folder: Path, model: str = "base", **options: Any) -> tuple[WhisperTranscriber, Any]:
    """With its decoder."""
    transcriber = WhisperTranscriber(model, directory=folder, **options)
    transcriber.load()
    return transcriber, transcriber._decoder


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
    _, decoder = loaded(tmp_path, "tiny", threads=3, **options)
    assert decoder.whisper.options == {
        "folder": str(tmp_path / "tiny"),
        "device": device,
        "compute_type": compute_type,
        "cpu_threads": 3,
        "local_files_only": True,
    }
    assert caplog.messages == [f"loaded the Whisper model tiny ({device}, {compute_type})"]


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (8, 8), (64, 8)])
def test_there_are_as_many_threads_as_cores_within_reason(
    cores: int, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    _, decoder = loaded(tmp_path)
    assert decoder.whisper.options["cpu_threads"] == threads


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(("cores", "threads"), [(None, 1), (4, 4)])
def test_where_the_system_does_not_say_which_cores_it_may_use_all_count(
    cores: int | None, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    _, decoder = loaded(tmp_path)
    assert decoder.whisper.options["cpu_threads"] == threads


def test_before_it_is_loaded_it_can_do_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="not loaded"):
        ask(WhisperTranscriber(directory=tmp_path), MUTED.pcm)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(("options", "beam_size"), [({}, 5), ({"beam_size": 1}, 1)])
def test_the_beam_is_as_wide_as_is_asked_for(options: dict[str, Any], beam_size: int, tmp_path: Path) -> None:
    _, decoder = loaded(tmp_path, **options)
    assert decoder.beam_size == beam_size


@pytest.mark.usefixtures("gpus")
def test_the_decoder_is_given_all_that_is_known_of_the_passage(tmp_path: Path) -> None:
    transcriber, decoder = loaded(tmp_path)
    cancelled = threading.Event()
    transcript = ask(
        transcriber,
        b"\x00\x40\x00\x80\x07",
        "de",
        languages=("de", "fr"),
        names=("A",),
        terms=("b",),
        context="c",
        cancelled=cancelled,
    )
    assert transcript == Transcript("Hello.", "de", "base")
    is_cancelled = decoder.asked.pop("is_cancelled")
    assert decoder.asked == {
        "samples": [0.5, -1.0],
        "language": "de",
        "languages": ("de", "fr"),
        "prompt": [ord(letter) for letter in " A, b. c"],
    }
    assert not is_cancelled()
    cancelled.set()
    assert is_cancelled()


@pytest.mark.usefixtures("gpus")
def test_a_language_that_the_model_lacks_is_left_to_its_ear(tmp_path: Path) -> None:
    transcriber, decoder = loaded(tmp_path)
    assert ask(transcriber, bytes(64), "yue").language == "nl"
    assert decoder.asked["language"] is None


@pytest.mark.parametrize("flaw", ["it knows English only", "it is distilled"])
@pytest.mark.usefixtures("gpus")
def test_a_model_that_takes_no_prompt_gets_none(
    flaw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_distilled = flaw == "it is distilled"
    monkeypatch.setattr(FakeModel, "is_multilingual", is_distilled)
    transcriber, decoder = loaded(tmp_path, "distil-large-v3" if is_distilled else "base.en", device="cpu")
    ask(transcriber, bytes(64), names=("Anna",), terms=("light",), context="Hello.")
    assert decoder.asked["prompt"] == []


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("fault", [RuntimeError("CUDA out of memory"), ValueError("bad shape")])
def test_a_fault_of_the_model_is_an_error(fault: Exception, tmp_path: Path) -> None:
    transcriber, decoder = loaded(tmp_path)
    decoder.fault = fault
    with pytest.raises(TranscriptionError, match=f"^the Whisper model failed: {fault}$"):
        ask(transcriber, bytes(64))


@pytest.mark.usefixtures("gpus")
def test_what_faster_whisper_says_of_every_utterance_stays_out_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="faster_whisper")
    loaded(tmp_path)
    assert not logging.getLogger("faster_whisper").isEnabledFor(logging.INFO)
