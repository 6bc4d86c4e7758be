"""What is said into the browser's microphone."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING, Final

from tests.end_to_end.clips import PASSWORD, Clip, silence

if TYPE_CHECKING:
    from pathlib import Path

_BEFORE_SECONDS: Final = 0.5
_AFTER_SECONDS: Final = 1.0
SAID: Final = Clip(
    silence(_BEFORE_SECONDS) + PASSWORD.pcm + silence(_AFTER_SECONDS), PASSWORD.text, PASSWORD.language
)
"""Two sentences with a pause between them, so that the local model has partials, too."""


def microphone(path: Path, said: Clip = SAID) -> None:
    """Write it as the browser wants it."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(said.pcm)
