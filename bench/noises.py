"""What is no speech: recorded rooms in pieces, and generated silence, hiss, hum and knocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench.recordings import BYTES_PER_MS, RATE, hiss, read, to_pcm

if TYPE_CHECKING:
    from pathlib import Path

    Sound = np.ndarray[Any, np.dtype[np.float64]]

_SECONDS: Final = 2
_SAMPLES: Final = _SECONDS * RATE
_LEVELS: Final = range(-70, -15, 5)
"""Effective values, in dB of full scale."""
_HISSES: Final = 2
"""Of white noise at each level."""
_MAINS: Final = (50.0, 100.0)
_OVERTONES: Final = ((1, 1.0), (2, 0.5), (3, 0.25), (5, 0.1))
"""Of hum: multiples of its frequency, and how strong they are."""
_KNOCK_PEAKS: Final = (-40, -30, -20, -12, -6, -3)
"""In dB of full scale."""


def noise_clips(folder: Path) -> dict[str, list[bytes]]:
    """Pieces of 2 s by kind: of each recording in the folder, and generated ones, the same in every run."""
    clips = {file.stem: _pieces(read(file)) for file in sorted(folder.glob("*.wav"))}
    random = np.random.default_rng(1)
    time = np.arange(_SAMPLES) / RATE
    return clips | {
        "digital silence": [bytes(_SAMPLES * 2)],
        "white noise": [hiss(random, _SECONDS, level) for level in _LEVELS for _ in range(_HISSES)],
        "pink noise": [_at_level(_pink(random), level) for level in _LEVELS],
        "hum": [_at_level(_hum(time, mains), level) for mains in _MAINS for level in _LEVELS],
        "knocks": [to_pcm(_knocks(random, time) * 10 ** (peak / 20)) for peak in _KNOCK_PEAKS],
    }


def _pieces(pcm: bytes) -> list[bytes]:
    size = _SECONDS * 1000 * BYTES_PER_MS
    return [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]


def _at_level(sound: Sound, level: float) -> bytes:
    return to_pcm(sound / np.sqrt(np.mean(sound**2)) * 10 ** (level / 20))


def _pink(random: np.random.Generator) -> Sound:
    spectrum = np.fft.rfft(random.standard_normal(_SAMPLES))
    loudness = 1 / np.sqrt(np.maximum(np.arange(spectrum.size), 1))  # half the power at twice the frequency
    loudness[0] = 0
    sound: Sound = np.fft.irfft(spectrum * loudness, _SAMPLES)
    return sound


def _hum(time: Sound, mains: float) -> Sound:
    waves = [strength * np.sin(2 * np.pi * mains * multiple * time) for multiple, strength in _OVERTONES]
    sound: Sound = np.sum(waves, axis=0)
    return sound


def _knocks(random: np.random.Generator, time: Sound) -> Sound:
    """Three, with a peak of 1."""
    sound: Sound = np.zeros_like(time)
    for start in np.sort(random.uniform(0.2, 1.6, size=3)):
        since = np.maximum(time - start, 0)
        pitch = random.uniform(120, 400)
        sound += np.sin(2 * np.pi * pitch * since) * np.exp(-since / 0.03) * (time >= start)
    sound /= np.abs(sound).max()
    return sound
