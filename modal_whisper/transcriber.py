"""faster-whisper behind one small class; everything here blocks and belongs on a thread."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from modal_whisper.decoding import Decoder
from modal_whisper.errors import ModelUnavailableError, TranscriptionError
from modal_whisper.extras import require
from modal_whisper.model import Transcript
from modal_whisper.prompt import prompt
from modal_whisper.weights import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from modal_whisper.model import Passage

DEFAULT_BEAM_SIZE: Final = 5
"""With names in the prompt it gets far more commands right than 1 (bench/README.md)."""
_log = logging.getLogger(__name__)

_MOST_THREADS = 8
"""A container is often told of all cores of its machine, and may use but a few."""


class Transcriber(Protocol):
    """Turns audio into words, blocking; only ever called from one thread at a time."""

    @property
    def model(self) -> str:
        """The name of the model."""

    def load(self) -> None:
        """Make ready; raises ModelUnavailableError."""

    def transcribe(self, passage: Passage, cancelled: threading.Event) -> Transcript:
        """The words of a passage; gives up early, with whatever it has, once `cancelled` is set.

        Raises TranscriptionError.
        """


class WhisperTranscriber:
    """A Transcriber that runs faster-whisper on this machine.

    Args:
        model: a folder, or a name that find_model knows.
        directory: where fetched models are kept.
        device: cpu, cuda, or auto for what there is.
        compute_type: a CTranslate2 compute type; auto is int8 on a CPU and float16 on CUDA.
        beam_size: hypotheses followed at once; 1 is fastest.
        threads: CPU threads; 0 for as many as there are cores, up to 8.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        directory: Path,
        device: str = "auto",
        compute_type: str = "auto",
        beam_size: int = DEFAULT_BEAM_SIZE,
        threads: int = 0,
    ) -> None:
        self.model = model
        self._directory = directory
        self._device = device
        self._compute_type = compute_type
        self._beam_size = beam_size
        self._threads = threads
        self._decoder: Decoder | None = None
        self._tokenizer: Any = None
        self._takes_prompt = False
        self._folder: Path | None = None

    def fetch(self) -> None:
        """Have the model's files on this machine; raises ModelUnavailableError."""
        self._folder = find_model(self.model, self._directory)

    def load(self) -> None:
        """Load the model, fetched where it is not here yet; raises ModelUnavailableError."""
        folder = self._folder or find_model(self.model, self._directory)
        device = self._device
        if device == "auto":
            device = "cuda" if require("ctranslate2").get_cuda_device_count() else "cpu"
        compute_type = self._compute_type
        if compute_type in {"auto", "default"}:
            compute_type = "float16" if device == "cuda" else "int8"
        whisper_model = require("faster_whisper").WhisperModel
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # it tells of every utterance at INFO
        try:
            whisper = whisper_model(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=self._threads or _cores(),
                local_files_only=True,
            )
        except Exception as error:
            raise ModelUnavailableError(
                f"the Whisper model in {folder} could not be loaded: {error}"
            ) from error
        self._tokenizer = whisper.hf_tokenizer
        self._decoder = Decoder(whisper, beam_size=self._beam_size)
        self._takes_prompt = (
            bool(whisper.model.is_multilingual) and "distil" not in self.model.rsplit("/", 1)[-1]
        )
        _log.info("loaded the Whisper model %s (%s, %s)", self.model, device, compute_type)

    def transcribe(self, passage: Passage, cancelled: threading.Event) -> Transcript:
        """See Transcriber."""
        if self._decoder is None:
            raise ModelUnavailableError("the Whisper model is not loaded")
        np = require("numpy")
        samples = np.frombuffer(passage.pcm, "<i2", count=len(passage.pcm) // 2).astype(np.float32) / 32768
        language = passage.language
        if language and not self._decoder.knows(language):
            language = None  # what it hears instead comes closest
        # English-only and distilled models repeat the prompt or fall silent on it.
        words = [*passage.names, *passage.terms] if self._takes_prompt else []
        before = prompt(self._tokenizer, words, passage.context if self._takes_prompt else "")
        try:
            decoded = self._decoder.decode(
                samples,
                language=language,
                languages=passage.languages,
                prompt=before,
                is_cancelled=cancelled.is_set,
            )
        except (RuntimeError, ValueError) as error:
            raise TranscriptionError(f"the Whisper model failed: {error}") from error
        return Transcript(decoded.text, decoded.language, self.model)


def _cores() -> int:
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return min(cores, _MOST_THREADS)
