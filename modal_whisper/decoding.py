"""From a passage's samples to its words: one pass of a Whisper model, no longer than the passage needs.

Whisper pads everything to 30 s, and for a command of two seconds that padding is most of the work. It hears
as well with half of it (bench/README.md has the table), as long as a text that runs away is written once more
with the whole of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from modal_whisper.languages import codes
from modal_whisper.repetition import loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

_FRAMES_PER_SECOND: Final = 100
_ALL_FRAMES: Final = 3000
"""What a Whisper model was trained on: 30 s."""
_LEAST_FRAMES: Final = 1500
"""With fewer it does not see the end of the speech and repeats itself."""
_SPARE_FRAMES: Final = 350
"""Silence after the speech, for the same reason."""
_SPEECH: Final = 0.3
"""Up to this probability that nobody speaks, somebody does."""
_NOISE: Final = 0.92
"""From here on, that probability and half of what the model doubts its words make noise.

Of 342 clips of noise and 882 of speech, half of those 25 dB quieter, it takes one of noise for speech and
none of speech for noise; the probability alone, from 0.5 on, nine and three. Whisper base, bench/README.md.
"""

_FREE_TOKENS: Final = 8
_TOKENS_A_SECOND: Final = 6
_MOST_TOKENS_A_SECOND: Final = 30
"""In the languages below, whose every letter takes Whisper's vocabulary one to three tokens."""
_DENSE: Final = codes("am as bn bo gu hi hy ka km kn lo ml mr my ne pa sa si ta te th yi")
_MOST_TOKENS: Final = 200
"""As many as fit behind the longest prompt."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a model made of some audio."""

    text: str
    """Empty where it heard no speech."""
    language: str | None
    """Its code, given or detected; None where it was cancelled before that."""


@dataclass(frozen=True, slots=True)
class _Written:
    tokens: list[int]
    no_speech: float
    """The probability that nobody speaks."""
    log_probability: float
    """Of the tokens, on average."""

    @property
    def is_noise(self) -> bool:
        return self.no_speech > _SPEECH and self.no_speech - self.log_probability / 2 > _NOISE


class Decoder:
    """Runs one CTranslate2 Whisper model; everything blocks.

    Args:
        whisper: a faster_whisper.WhisperModel.
        beam_size: hypotheses followed at once.
    """

    def __init__(self, whisper: Any, *, beam_size: int) -> None:
        self._model = whisper.model
        self._tokenizer = whisper.hf_tokenizer
        self._extract = whisper.feature_extractor
        self._beam_size = beam_size

    def knows(self, language: str) -> bool:
        """Whether the model was trained on a language; older ones lack some, Cantonese for one."""
        return bool(self._model.is_multilingual) and self._token(f"<|{language}|>") is not None

    def decode(
        self,
        samples: np.ndarray[Any, Any],
        *,
        language: str | None,
        languages: Sequence[str],
        prompt: Sequence[int],
        is_cancelled: Callable[[], bool],
    ) -> Decoded:
        """The words in 16 kHz mono float samples, at most 30 s of them.

        `language` is one that the model knows, or None to detect it, among `languages` where there are any.
        `prompt` has the tokens that come before, at most 223. Once `is_cancelled` the text is empty. Raises
        RuntimeError and ValueError, as CTranslate2 does.
        """
        seconds = len(samples) / 16_000
        frames = min(max(_LEAST_FRAMES, int(seconds * _FRAMES_PER_SECOND) + _SPARE_FRAMES), _ALL_FRAMES)
        mel = self._extract(samples)[:, :_ALL_FRAMES]
        encoded = self._encode(mel, frames)
        if is_cancelled():
            return Decoded("", language)
        if language is None:
            language = self._detect(encoded, languages) if self._model.is_multilingual else "en"
        # Without timestamps it is better on short speech, and leaves whole sentences out of long speech.
        plain, timed = self._task(language), self._task(language, timed=True)
        task = timed if frames > _LEAST_FRAMES else plain
        is_plain = not prompt and task is plain
        cap = _cap(seconds, _MOST_TOKENS_A_SECOND if language in _DENSE else _TOKENS_A_SECOND)
        if not is_plain and self._is_noise(encoded, plain, cap):
            return Decoded("", language)
        written = self._write(encoded, task, prompt, cap)
        if is_plain and written.is_noise:
            return Decoded("", language)
        tokens = written.tokens
        if (len(tokens) >= cap or loop(tokens) is not None) and not is_cancelled():
            cap = _cap(seconds, _MOST_TOKENS_A_SECOND)
            tokens = self._write(self._encode(mel, _ALL_FRAMES), timed, prompt, cap).tokens
            tokens = tokens[: loop(tokens)]
        return Decoded(self._tokenizer.decode(tokens, skip_special_tokens=True).strip(), language)

    def _encode(self, mel: np.ndarray[Any, Any], frames: int) -> Any:
        import ctranslate2  # noqa: PLC0415 - of the worker extra; whoever made the model has it
        import numpy as np  # noqa: PLC0415 - likewise

        # With silence as this microphone hears it: zeros are louder, and quiet speech broke off before them.
        padded = np.full((1, mel.shape[0], frames), mel.min(), dtype=np.float32)
        padded[0, :, : min(frames, mel.shape[1])] = mel[:, :frames]
        return self._model.encode(ctranslate2.StorageView.from_array(padded))

    def _detect(self, encoded: Any, languages: Sequence[str]) -> str:
        found: list[str] = [token[2:-2] for token, _ in self._model.detect_language(encoded)[0]]
        return next((code for code in found if code in languages), found[0])

    def _task(self, language: str | None, *, timed: bool = False) -> list[int]:
        names = ["<|startoftranscript|>"]
        if self._model.is_multilingual:
            names += [f"<|{language}|>", "<|transcribe|>"]
        if not timed:
            names.append("<|notimestamps|>")
        return [self._token(name) for name in names]

    def _is_noise(self, encoded: Any, task: list[int], cap: int) -> bool:
        """Asked plainly: with a prompt or timestamps noise looks like speech. Mostly a single step tells."""
        first = self._write(encoded, task, (), 1, beam_size=1)
        return first.no_speech > _SPEECH and self._write(encoded, task, (), cap).is_noise

    def _write(
        self, encoded: Any, task: list[int], prompt: Sequence[int], cap: int, beam_size: int = 0
    ) -> _Written:
        before = [self._token("<|startofprev|>"), *prompt, *task] if prompt else task
        (result,) = self._model.generate(
            encoded,
            [before],
            beam_size=beam_size or self._beam_size,
            # CTranslate2 writes half as many tokens, or as many as are left behind what comes before.
            max_length=max(2 * cap, len(before) + cap),
            return_no_speech_prob=True,
            return_scores=True,
            suppress_blank=True,
            suppress_tokens=[-1],
        )
        end_of_text = self._token("<|endoftext|>")  # those from here on are timestamps
        tokens = [token for token in result.sequences_ids[0] if token < end_of_text]
        return _Written(tokens, result.no_speech_prob, result.scores[0])

    def _token(self, name: str) -> int:
        token: int = self._tokenizer.token_to_id(name)
        return token


def _cap(seconds: float, tokens_a_second: int) -> int:
    return min(_FREE_TOKENS + int(tokens_a_second * seconds), _MOST_TOKENS)
