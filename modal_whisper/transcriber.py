"""faster-whisper behind one small class; everything here blocks and belongs on a thread."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from modal_whisper.errors import ModelUnavailableError, TranscriptionError
from modal_whisper.extras import require
from modal_whisper.weights import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)

# Whisper keeps at most 223 tokens of what comes before; names that fill them slow every step down.
_PROMPT_TOKENS = 120


@dataclass(frozen=True, slots=True)
class Segment:
    """A finished piece of the transcript."""

    text: str
    """As the model wrote it: with the space that parts it from the text before, where the script has one."""
    language: str
    """A Whisper language code: the one asked for, or what the model heard."""


class Transcriber(Protocol):
    """Turns audio into words, blocking; only ever called from one thread at a time."""

    @property
    def model(self) -> str:
        """The name of the model."""

    def load(self) -> None:
        """Make ready; raises ModelUnavailableError."""

    def segments(
        self,
        pcm: bytes,
        *,
        language: str | None,
        names: Sequence[str],
        terms: Sequence[str],
        cancelled: threading.Event,
    ) -> Iterator[Segment]:
        """The transcript of 16 kHz mono s16le audio, piece by piece; stops early once `cancelled` is set.

        `language` is one of modal_whisper.languages.LANGUAGES, or None to detect it. `names` and `terms` are
        words that may occur, most important first. Raises TranscriptionError.
        """


class WhisperTranscriber:
    """A Transcriber that runs faster-whisper on this machine.

    Args:
        model: a folder, or a name that find_model knows.
        directory: where fetched models are kept.
        device: cpu, cuda, or auto for what there is.
        compute_type: a CTranslate2 compute type; auto is int8 on a CPU and float16 on CUDA.
        beam_size: hypotheses followed at once; 1 is fastest.
        threads: CPU threads; 0 leaves it to CTranslate2.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        directory: Path,
        device: str = "auto",
        compute_type: str = "auto",
        beam_size: int = 1,
        threads: int = 0,
    ) -> None:
        self.model = model
        self._directory = directory
        self._device = device
        self._compute_type = compute_type
        self._beam_size = beam_size
        self._threads = threads
        self._whisper: Any = None

    def load(self) -> None:
        """Fetch the model where it is not here yet, and load it; raises ModelUnavailableError."""
        folder = find_model(self.model, self._directory)
        device = self._device
        if device == "auto":
            device = "cuda" if require("ctranslate2").get_cuda_device_count() else "cpu"
        compute_type = self._compute_type
        if compute_type in {"auto", "default"}:
            compute_type = "float16" if device == "cuda" else "int8"
        whisper_model = require("faster_whisper").WhisperModel
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # it tells of every utterance at INFO
        try:
            self._whisper = whisper_model(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=self._threads,
                local_files_only=True,
            )
        except Exception as error:
            raise ModelUnavailableError(
                f"the Whisper model in {folder} could not be loaded: {error}"
            ) from error
        _log.info("loaded the Whisper model %s (%s, %s)", self.model, device, compute_type)

    def segments(
        self,
        pcm: bytes,
        *,
        language: str | None,
        names: Sequence[str],
        terms: Sequence[str],
        cancelled: threading.Event,
    ) -> Iterator[Segment]:
        """See Transcriber. The audio may be of any length; an odd last byte is left out."""
        whisper = self._whisper
        if whisper is None:
            raise ModelUnavailableError("the Whisper model is not loaded")
        np = require("numpy")
        audio = np.frombuffer(pcm, "<i2", count=len(pcm) // 2).astype(np.float32) / 32768
        if whisper.hf_tokenizer.token_to_id(f"<|{language}|>") is None:
            language = None  # older models lack some, Cantonese for one: what they hear comes closest
        try:
            found, info = whisper.transcribe(
                audio,
                language=language,
                beam_size=self._beam_size,
                # The ladder of temperatures took up to 16 s over two seconds of noise, and gained no word.
                temperature=0.0,
                condition_on_previous_text=False,
                initial_prompt=self._prompt([*names, *terms]),
            )
            for segment in found:
                if cancelled.is_set():
                    return
                yield Segment(segment.text, info.language)
        except (RuntimeError, ValueError) as error:
            raise TranscriptionError(f"the Whisper model failed: {error}") from error

    def _prompt(self, words: Sequence[str]) -> list[int] | None:
        """The words as tokens that come before the transcript, as many as fit.

        Only words: with example commands in it, noise comes back as one of them. English-only and distilled
        models repeat the prompt or fall silent on it, so they get none.
        """
        if not self._whisper.model.is_multilingual or "distil" in self.model:
            return None
        tokens: list[int] = []
        for number, word in enumerate(words):
            text = word.strip().encode(errors="ignore").decode()  # without halves of surrogate pairs
            encoded = self._whisper.hf_tokenizer.encode(
                f"{',' if number else ''} {text}", add_special_tokens=False
            ).ids
            if len(tokens) + len(encoded) >= _PROMPT_TOKENS:
                break
            tokens += encoded
        return (
            [*tokens, *self._whisper.hf_tokenizer.encode(".", add_special_tokens=False).ids]
            if tokens
            else None
        )
