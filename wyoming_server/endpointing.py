"""The server's own judgement of when a person has stopped, for clients that do not tell.

It goes by the audio, never by a clock: audio that comes faster than it was spoken is judged the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from modal_whisper.speech import BYTES_PER_SECOND, FRAME_MS

if TYPE_CHECKING:
    from wyoming_server.recording import Recording

_SILENCE_MS: Final = 500
"""Home Assistant waits for 700. Speech is heard some 180 ms longer than it lasts, so that pauses of 0.6 s
mostly survive. 4 of 446 recordings of people hold a longer one; at 400 ms it would be 9, at 700 still 2."""
_LEAST_MS: Final = 1200
"""From the first sound to the end: a click, the rest of a wake word or one word may come before the command.
Four of the recordings begin with such a sound and up to 0.9 s of silence."""
_TURN_SILENCE_MS: Final = 350
"""Where a service takes what was said for a whole sentence; by then it has told of more, if there is any."""
_NOBODY_MS: Final = 15_000
"""Without any speech; Home Assistant gives up after as long."""
_FRAME_BYTES: Final = BYTES_PER_SECOND * FRAME_MS // 1000


class Endpointer:
    """Writes into a recording, and ends it when the person has stopped.

    What comes after that is dropped, as a recording drops it. Where somebody goes on speaking, or a noise
    passes for speech, the recording's own limit is the end.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._turn_end_ms: int | None = None

    def write(self, pcm: bytes) -> None:
        """Append audio, a whole number of samples."""
        for at in range(0, len(pcm), _FRAME_BYTES):
            self._recording.write(pcm[at : at + _FRAME_BYTES])
            self._look()

    def end_turn(self) -> None:
        """A service has words for everything that was heard so far, and takes them for all."""
        self._turn_end_ms = self._recording.speech.speech_end_ms
        self._look()

    def _look(self) -> None:
        speech = self._recording.speech
        start_ms, end_ms = speech.speech_start_ms, speech.speech_end_ms
        if start_ms is None or end_ms is None:
            needed_ms = _NOBODY_MS
        elif end_ms == self._turn_end_ms:
            needed_ms = _TURN_SILENCE_MS
        else:
            needed_ms = max(_SILENCE_MS, _LEAST_MS - (end_ms - start_ms))
        if speech.silence_ms >= needed_ms:
            self._recording.end()
