"""Recordings of people, to prove with that speech is understood; LICENCE.md names their source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Sample:
    """A WAV file, 16 kHz mono s16le, and what is said in it."""

    path: Path
    text: str
    language: str


def _sample(name: str, text: str, language: str = "en") -> Sample:
    return Sample(Path(__file__).with_name(f"{name}.wav"), text, language)


WEASELS: Final = _sample("weasels", "Weasels have eaten our phone system.")
"""3.0 s, one sentence, hard: the base model mishears a word of it."""
PASSWORD: Final = _sample("password", "That is not a valid password. Please try again.")
"""3.4 s, two sentences with a pause between them; what the self-check streams."""
MUTED: Final = _sample("muted", "The conference is now muted.")
"""1.9 s."""
LEADER: Final = _sample("leader_es", "La conferencia comenzará cuando llegue el líder.", "es")
"""3.8 s."""
