"""What a session asks of a Whisper model, wherever that model runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modal_whisper.errors import ModelUnavailableError

MAX_PASSAGE_SECONDS = 30.0
"""What a Whisper model hears at once. Source: openai/whisper, audio.py."""


class Priority(IntEnum):
    """Who goes first where several wait for one model; the least number does."""

    FINAL = 0
    """Somebody waits for the words."""
    SEGMENT = 1
    """Needed for certain, but the person is still speaking."""
    SPECULATION = 2
    """Perhaps thrown away: the person may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of speech and what is known of it."""

    pcm: bytes
    """16 kHz mono s16le, at most MAX_PASSAGE_SECONDS; an odd last byte is left out."""
    language: str | None = None
    """One of modal_whisper.languages.LANGUAGES; None to detect it."""
    languages: tuple[str, ...] = ()
    """Those to detect among; empty for all."""
    names: tuple[str, ...] = ()
    """Names that may occur, most important first."""
    terms: tuple[str, ...] = ()
    """Words of lower priority than the names."""
    context: str = ""
    """The words that were said just before."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a model made of a passage."""

    text: str
    """Empty where it heard no speech."""
    language: str | None
    """The language of the passage, given or detected."""
    model: str
    """The name of the model that wrote it."""
    work_ms: int = 0
    """How long it computed."""


class Job(Protocol):
    """A passage on its way through a model."""

    @property
    def is_done(self) -> bool:
        """Whether `result` returns, or raises, at once."""

    async def result(self) -> Transcript:
        """The words, once they are there; may be asked for more than once. Raises TranscriptionError."""

    def hurry(self, priority: Priority) -> None:
        """From now on it is as urgent as if submitted with that priority; it never becomes less so."""

    def cancel(self) -> None:
        """Nobody waits for it any more: it is not begun, and what is being computed is dropped."""


class Model(Protocol):
    """Turns passages into words, for many sessions at once; belongs to one event loop."""

    @property
    def name(self) -> str:
        """What it is called, such as "base"."""

    @property
    def ready(self) -> bool:
        """Whether a passage would be worked on at once."""

    @property
    def error(self) -> ModelUnavailableError | None:
        """Why it cannot work at present; None where nothing is known to be wrong."""

    def start_loading(self) -> None:
        """Get ready in the background, at no cost where it is ready or has failed just now."""

    async def wait_ready(self) -> None:
        """Return once it is ready; raises ModelUnavailableError if it cannot be."""

    def submit(self, passage: Passage, priority: Priority) -> Job:
        """Ask for the words of a passage; waits for the model where it still loads.

        Whoever asks must await the result or cancel the job. Raises OverloadedError where too many wait
        already.
        """

    async def close(self) -> None:
        """Stop all work; what waits for it fails."""
