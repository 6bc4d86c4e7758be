"""Any PCM that a client sends, turned into the one format of the house: 16 kHz, mono, s16le."""

from __future__ import annotations

import audioop
import struct
from array import array
from dataclasses import dataclass
from typing import Final

from wyoming.audio import AudioChunk, AudioChunkConverter

from modal_whisper.speech import SAMPLE_RATE
from wyoming_server.errors import ClientError

_RIFF_BYTES: Final = 12
_CHUNK_HEADER: Final = struct.Struct("<4sI")
_WAV_FORMAT: Final = struct.Struct("<HHIIHH")
_MAX_WAV_HEADER_BYTES: Final = 64 * 1024
_PCM: Final = 1
_EXTENSIBLE: Final = 0xFFFE
_EXTENSION: Final = struct.Struct("<24xH")
_STEREO: Final = 2


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What the samples of a client look like; raises ClientError for what cannot be converted."""

    rate: int
    width: int
    """Bytes a sample."""
    channels: int

    def __post_init__(self) -> None:
        for name, low, high in (("rate", 1000, 192_000), ("width", 1, 4), ("channels", 1, 32)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:  # True is an int, but no number
                raise ClientError("bad-audio", f"{name} of audio must be a whole number from {low} to {high}")

    @property
    def frame_bytes(self) -> int:
        """The bytes of one sample of all channels."""
        return self.width * self.channels


class AudioInput:
    """The audio of one utterance on its way in: bytes of any number, a WAV header skipped.

    Home Assistant passes on what was posted to its REST view, so that a WAV header can stand in front and a
    piece can end in the middle of a sample; the rest of a sample waits for the next piece.
    """

    def __init__(self, announced: AudioFormat) -> None:
        self._format = announced
        self._to_16_bits = AudioChunkConverter(width=2)
        self._resample = AudioChunkConverter(SAMPLE_RATE)
        self._pending = b""
        self._is_at_start = True
        self._header_read = 0  # bytes of a WAV header that are known already

    @property
    def leftover_bytes(self) -> int:
        """Bytes of a sample whose rest has not come."""
        return len(self._pending)

    def convert(self, pcm: bytes) -> bytes:
        """What can be told so far in the format of the house; possibly nothing."""
        self._pending += pcm
        if self._is_at_start:
            if self._may_be_wav_header():
                return b""
            self._is_at_start = False
        whole = len(self._pending) - len(self._pending) % self._format.frame_bytes
        piece, self._pending = self._pending[:whole], self._pending[whole:]
        rate, width, channels = self._format.rate, self._format.width, self._format.channels
        pcm = self._to_16_bits.convert(AudioChunk(rate, width, channels, piece)).audio
        return self._resample.convert(AudioChunk(rate, 2, 1, _mono(pcm, channels))).audio

    def _may_be_wav_header(self) -> bool:
        """Drop a complete WAV header and take its format; True while more bytes are needed to tell."""
        head = self._pending
        if not (b"RIFF".startswith(head[:4]) and b"WAVE".startswith(head[8:_RIFF_BYTES])):
            return False
        position = self._header_read or _RIFF_BYTES
        while len(head) >= position + _CHUNK_HEADER.size:
            self._header_read = position
            name, size = _CHUNK_HEADER.unpack_from(head, position)
            position += _CHUNK_HEADER.size
            if name == b"data":
                self._pending = head[position:]
                return False
            if name == b"fmt " and len(head) >= position + _WAV_FORMAT.size:
                tag, channels, rate, _, _, bits = _WAV_FORMAT.unpack_from(head, position)
                if tag == _EXTENSIBLE and len(head) >= position + _EXTENSION.size <= position + size:
                    (tag,) = _EXTENSION.unpack_from(head, position)
                if tag not in (_PCM, _EXTENSIBLE):
                    raise ClientError("bad-audio", "the WAV file is not PCM")
                self._format = AudioFormat(rate, bits // 8, channels)
            position += size + size % 2
        if position > _MAX_WAV_HEADER_BYTES:
            raise ClientError("bad-audio", "the WAV header has no data chunk")
        return True


def _mono(pcm: bytes, channels: int) -> bytes:
    """One channel of 16-bit samples."""
    if channels == 1:
        return pcm
    if channels == _STEREO:  # the converter would add them up, which clips what is loud in both
        return audioop.tomono(pcm, 2, 0.5, 0.5)
    return array("h", pcm)[::channels].tobytes()  # microphone arrays put what they make of it all first
