"""Audio for tests: 16 kHz, mono, s16le unless a test asks for something else."""

from __future__ import annotations

import functools
import math
import wave
from array import array
from typing import TYPE_CHECKING

from modal_whisper.samples import WEASELS

if TYPE_CHECKING:
    from modal_whisper.samples import Sample

BYTES_PER_MS = 32


def silence(ms: int) -> bytes:
    return bytes(ms * BYTES_PER_MS)


@functools.cache
def speech(ms: int | None = None, sample: Sample = WEASELS) -> bytes:
    """A person, from where the voice begins; at least 0.3 s are needed to be heard."""
    with wave.open(str(sample.path), "rb") as wav_file:
        pcm = wav_file.readframes(wav_file.getnframes())
    if ms is None:
        return pcm
    start = next(at for at in range(0, len(pcm), 320) if _loudest(pcm[at : at + 320]) > 2000)
    return pcm[start : start + ms * BYTES_PER_MS]


def _loudest(pcm: bytes) -> int:
    return max(abs(sample) for sample in array("h", pcm))


def tone(
    ms: int,
    *,
    hertz: float = 440.0,
    level: float = 0.5,
    rate: int = 16_000,
    width: int = 2,
    channels: int = 1,
) -> bytes:
    """The same sine in all channels, in the coding of WAV files: 8 bits unsigned, all else signed."""
    full = 2 ** (8 * width - 1) - 1
    samples = (
        round(level * full * math.sin(2 * math.pi * hertz * at / rate)) for at in range(rate * ms // 1000)
    )
    if width == 1:
        return b"".join(bytes([sample + 128]) * channels for sample in samples)
    return b"".join(sample.to_bytes(width, "little", signed=True) * channels for sample in samples)
