"""WAV files: the header that comes first in a stream, and whole files as the audio that the server takes."""

from __future__ import annotations

import struct
import wave
from typing import TYPE_CHECKING, Final

from wyoming.audio import AudioChunk, AudioChunkConverter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE: Final = 16_000
WIDTH: Final = 2
CHANNELS: Final = 1

_MAX_CHANNELS: Final = 2
_FRAMES_AT_ONCE: Final = 4096
_RIFF_BYTES: Final = 12
_CHUNK_HEAD_BYTES: Final = 8


class HeaderSkipper:
    """Takes bytes of a WAV file or of bare samples, however they are cut, and gives the samples."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._is_wav = False
        self._is_in_samples = False
        self._to_skip = 0
        self._samples_left: int | None = None

    def feed(self, data: bytes) -> bytes:
        """The samples in `data`; empty while the header is still coming, or after the last sample."""
        if self._is_in_samples:
            return self._samples(data)
        self._head += data
        return self._scan()

    def _scan(self) -> bytes:
        head = self._head
        if not self._is_wav:
            if not (b"RIFF".startswith(head[:4]) and b"WAVE".startswith(head[8:_RIFF_BYTES])):
                self._is_in_samples = True
                return bytes(head)
            if len(head) < _RIFF_BYTES:
                return b""
            self._is_wav = True
            del head[:_RIFF_BYTES]
        while True:
            skipped = min(self._to_skip, len(head))
            del head[:skipped]
            self._to_skip -= skipped
            if len(head) < _CHUNK_HEAD_BYTES:
                return b""
            kind, size = struct.unpack_from("<4sI", head)
            del head[:_CHUNK_HEAD_BYTES]
            if kind == b"data":
                self._is_in_samples = True
                self._samples_left = size or None  # 0: written before the length was known
                return self._samples(bytes(head))
            self._to_skip = size + size % 2

    def _samples(self, data: bytes) -> bytes:
        if self._samples_left is None:
            return data
        samples = data[: self._samples_left]
        self._samples_left -= len(samples)
        return samples


class WavError(Exception):
    """A file holds no audio that can be sent; `key` says why, for a translation."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def read_pcm(path: str | Path, *, max_seconds: float) -> bytes:
    """A WAV file of integer samples, any rate, one channel or two, as 16 kHz, mono, 16-bit. Blocks.

    Raises WavError: `cannot_read`, `not_wav`, `no_audio` or `too_long`.
    """
    converter = AudioChunkConverter(rate=RATE, width=WIDTH, channels=CHANNELS)
    try:
        with wave.open(str(path)) as file:
            if file.getnchannels() > _MAX_CHANNELS:
                raise WavError("not_wav")
            if file.getnframes() > max_seconds * file.getframerate():
                raise WavError("too_long")
            pieces = [converter.convert(chunk).audio for chunk in _chunks(file)]
    except OSError:
        raise WavError("cannot_read") from None
    except wave.Error, EOFError, ValueError, ZeroDivisionError, struct.error:
        raise WavError("not_wav") from None
    if not (pcm := b"".join(pieces)):
        raise WavError("no_audio")
    return pcm


def _chunks(file: wave.Wave_read) -> Iterator[AudioChunk]:
    rate, width, channels = file.getframerate(), file.getsampwidth(), file.getnchannels()
    while samples := file.readframes(_FRAMES_AT_ONCE):
        whole = len(samples) - len(samples) % (width * channels)
        yield AudioChunk(rate=rate, width=width, channels=channels, audio=samples[:whole])
