from __future__ import annotations

import io
import struct
import wave

import pytest

from custom_components.stt_failover.wav import HeaderSkipper

_PCM = bytes(range(200))


def _wav(pcm: bytes = _PCM) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(pcm)
    return file.getvalue()


def _fed(data: bytes, size: int) -> bytes:
    skipper = HeaderSkipper()
    return b"".join(skipper.feed(data[at : at + size]) for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 3, 7, 12, 43, 44, 45, 4096])
def test_header_of_a_wav_file_is_skipped_however_it_is_cut(size: int) -> None:
    assert _fed(_wav(), size) == _PCM


@pytest.mark.parametrize("size", [1, 3, 320])
@pytest.mark.parametrize("pcm", [_PCM, b"RI", b"RIFF1234WAV3" + _PCM, b"RIFFWAVE"], ids=len)
def test_bare_samples_pass_unchanged_however_they_are_cut(pcm: bytes, size: int) -> None:
    if len(pcm) < 12:
        pcm = pcm.ljust(12, b"\1")
    assert _fed(pcm, size) == pcm


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_other_chunks_before_the_samples_are_skipped_with_their_padding(size: int) -> None:
    wav = _wav()
    odd = struct.pack("<4sI", b"LIST", 5) + b"data!" + b"\0"
    assert _fed(wav[:36] + odd + wav[36:], size) == _PCM


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_comes_after_the_samples_is_left_out(size: int) -> None:
    assert _fed(_wav() + b"LIST\4\0\0\0abcd", size) == _PCM


@pytest.mark.parametrize("announced", [0, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_header_written_before_the_length_was_known_leaves_everything(announced: int) -> None:
    wav = _wav()
    assert _fed(wav[:40] + struct.pack("<I", announced) + wav[44:], 50) == _PCM
