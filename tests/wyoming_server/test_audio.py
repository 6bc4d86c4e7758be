from __future__ import annotations

import io
import itertools
import math
import struct
import wave
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.sounds import tone
from wyoming_server import audio as audio_module
from wyoming_server.audio import AudioFormat, AudioInput
from wyoming_server.errors import ClientError

HOUSE = AudioFormat(16_000, 2, 1)
RATES = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000]


def samples(pcm: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(pcm) // 2}h", pcm)


def in_one_go(audio_format: AudioFormat, pcm: bytes) -> bytes:
    return AudioInput(audio_format).convert(pcm)


def in_pieces(audio_format: AudioFormat, pcm: bytes, sizes: list[int]) -> bytes:
    audio = AudioInput(audio_format)
    out, at, number = b"", 0, 0
    while at < len(pcm):
        size = sizes[number % len(sizes)]
        out += audio.convert(pcm[at : at + size])
        at, number = at + size, number + 1
    return out


def assert_is_tone(pcm: bytes, *, hertz: float, level: float, ms: int) -> None:
    """Measured as a person with a meter would: its length, its loudness, how often it crosses zero."""
    heard = samples(pcm)
    assert len(heard) == pytest.approx(ms * 16, abs=20)
    middle = heard[160:-160]
    rms = math.sqrt(sum(value * value for value in middle) / len(middle)) / 32767
    assert rms * math.sqrt(2) == pytest.approx(level, rel=0.05)
    rises = sum(before < 0 <= after for before, after in itertools.pairwise(middle))
    assert rises / (len(middle) / 16_000) == pytest.approx(hertz, rel=0.03)


def test_audio_in_the_format_of_the_house_passes_unchanged() -> None:
    pcm = tone(100)
    assert in_one_go(HOUSE, pcm) == pcm
    assert in_pieces(HOUSE, pcm, [320]) == pcm


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_tone_stays_the_same_tone_in_every_format(rate: int, width: int, channels: int) -> None:
    pcm = tone(200, rate=rate, width=width, channels=channels)
    converted = in_pieces(AudioFormat(rate, width, channels), pcm, [960])
    assert_is_tone(converted, hertz=440, level=0.5, ms=200)


@pytest.mark.parametrize("width", [1, 3, 4])
def test_other_widths_differ_from_16_bits_by_rounding_alone(width: int) -> None:
    expected = samples(tone(50, width=2))
    told = samples(in_one_go(AudioFormat(16_000, width, 1), tone(50, width=width)))
    step = 256 if width == 1 else 2
    assert len(told) == len(expected)
    assert all(abs(a - b) <= step for a, b in zip(told, expected, strict=True))


def test_8_bits_are_unsigned_as_in_wav_files() -> None:
    told = samples(in_one_go(AudioFormat(16_000, 1, 1), bytes([0, 64, 128, 192, 255])))
    assert told == (-32768, -16384, 0, 16384, 32512)


def test_loud_stereo_is_not_clipped() -> None:
    loud = tone(100, level=0.95)
    assert_is_tone(
        in_one_go(AudioFormat(16_000, 2, 2), tone(100, level=0.95, channels=2)), hertz=440, level=0.95, ms=100
    )
    stereo = in_one_go(AudioFormat(16_000, 2, 2), tone(100, level=0.95, channels=2))
    assert all(abs(a - b) <= 1 for a, b in zip(samples(stereo), samples(loud), strict=True))


@pytest.mark.parametrize("side", [0, 1])
def test_a_voice_on_one_side_of_stereo_is_heard(side: int) -> None:
    frames = [(value, 0) if side == 0 else (0, value) for value in samples(tone(100))]
    pcm = b"".join(struct.pack("<2h", *frame) for frame in frames)
    assert_is_tone(in_one_go(AudioFormat(16_000, 2, 2), pcm), hertz=440, level=0.25, ms=100)


def test_of_many_channels_the_first_is_taken() -> None:
    frames = [(value, -value, 7, 0, 99, 3) for value in samples(tone(100))]
    pcm = b"".join(struct.pack("<6h", *frame) for frame in frames)
    assert in_one_go(AudioFormat(16_000, 2, 6), pcm) == tone(100)


@given(
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=8),
    rate=st.sampled_from([8_000, 16_000, 22_050, 48_000]),
    width=st.integers(1, 4),
    channels=st.integers(1, 3),
    has_header=st.booleans(),
)
def test_pieces_of_any_size_give_the_same_audio(
    sizes: list[int], rate: int, width: int, channels: int, *, has_header: bool
) -> None:
    pcm = tone(40, rate=rate, width=width, channels=channels)
    announced = AudioFormat(rate, width, channels)
    if has_header:
        pcm = wav_header(rate, width, channels) + pcm
        announced = HOUSE
    assert in_pieces(announced, pcm, sizes) == in_one_go(announced, pcm)


def test_half_a_sample_waits_for_its_other_half() -> None:
    audio = AudioInput(HOUSE)
    assert audio.convert(b"\1") == b""
    assert audio.leftover_bytes == 1
    assert audio.convert(b"\2\3") == b"\1\2"
    assert audio.leftover_bytes == 1
    assert audio.convert(b"") == b""
    assert audio.convert(b"\4") == b"\3\4"
    assert audio.leftover_bytes == 0


def test_nothing_comes_of_nothing() -> None:
    assert in_one_go(HOUSE, b"") == b""


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rate", [0, 999, 192_001, -16_000, "16000", 16_000.0, None, True]),
        ("width", [0, 5, -2, "2", 2.0, None, True]),
        ("channels", [0, 33, -1, "1", 1.0, None, True]),
    ],
)
def test_a_format_that_cannot_be_is_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(
            ClientError, match=rf"^{name} of audio must be a whole number from \d+ to \d+$"
        ) as caught:
            AudioFormat(**({"rate": 16_000, "width": 2, "channels": 1} | {name: value}))
        assert caught.value.code == "bad-audio"


@pytest.mark.parametrize(("rate", "width", "channels"), [(1000, 1, 1), (192_000, 4, 32)])
def test_the_most_and_the_least_that_can_be_is_converted(rate: int, width: int, channels: int) -> None:
    pcm = bytes(rate // 10 * width * channels)
    assert len(in_one_go(AudioFormat(rate, width, channels), pcm)) == pytest.approx(3200, abs=64)


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt(rate: int, width: int, channels: int, *, tag: int = 1, extension: bytes = b"") -> bytes:
    frame = width * channels
    return chunk(
        b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, width * 8) + extension
    )


def wav_header(
    rate: int = 16_000, width: int = 2, channels: int = 1, *, extra: bytes = b"", data_size: int = 0xFFFFFFFF
) -> bytes:
    body = b"WAVE" + fmt(rate, width, channels) + extra + b"data" + struct.pack("<I", data_size)
    return b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + body


@pytest.mark.parametrize(("rate", "width", "channels"), [(16_000, 2, 1), (44_100, 1, 2), (48_000, 3, 1)])
def test_the_header_of_a_wav_file_is_skipped_and_believed_more_than_what_was_announced(
    rate: int, width: int, channels: int
) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setframerate(rate)
        writer.setsampwidth(width)
        writer.setnchannels(channels)
        writer.writeframes(tone(200, rate=rate, width=width, channels=channels))
    assert_is_tone(in_one_go(HOUSE, file.getvalue()), hertz=440, level=0.5, ms=200)


@pytest.mark.parametrize("piece", [1, 3, 4, 7, 11, 12, 43, 44, 45, 10_000])
def test_a_header_may_be_split_anywhere(piece: int) -> None:
    assert in_pieces(HOUSE, wav_header() + tone(10), [piece]) == tone(10)


@pytest.mark.parametrize("data_size", [0, 1, 0xFFFFFFFF])
def test_the_size_that_a_header_gives_for_its_audio_is_not_believed(data_size: int) -> None:
    assert in_one_go(HOUSE, wav_header(data_size=data_size) + tone(10)) == tone(10)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"LIST", b"INFOISFT\6\0\0\0Lavf60"),
        chunk(b"odd ", b"abc"),
        chunk(b"JUNK", bytes(30_000)) + chunk(b"fact", b"\0\0\0\0"),
        chunk(b"none", b""),
        chunk(b"bext", b"data" * 50),
    ],
)
@pytest.mark.parametrize("piece", [5, 10_000])
def test_chunks_in_front_of_the_audio_are_skipped(extra: bytes, piece: int) -> None:
    assert in_pieces(HOUSE, wav_header(extra=extra) + tone(10), [piece]) == tone(10)


def test_a_header_in_many_pieces_is_not_read_from_its_beginning_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = 0

    class Counting(struct.Struct):
        def unpack_from(self, *arguments: Any) -> tuple[Any, ...]:
            nonlocal read
            read += 1
            return super().unpack_from(*arguments)

    monkeypatch.setattr(audio_module, "_CHUNK_HEADER", Counting("<4sI"))
    audio = AudioInput(HOUSE)
    assert audio.convert(b"RIFF\0\0\0\0WAVE" + b"LIST\0\0\0\0" * 1000) == b""
    for _ in range(1000):
        assert audio.convert(b"\0") == b""
    assert read < 4000


def test_a_header_without_a_format_leaves_what_was_announced() -> None:
    header = b"RIFF\0\0\0\0WAVEdata\0\0\0\0"
    announced, pcm = AudioFormat(16_000, 4, 1), tone(10, width=4)
    assert in_one_go(announced, header + pcm) == in_one_go(announced, pcm)


def extensible(sub_format: int) -> bytes:
    extension = struct.pack("<HHIH14s", 22, 16, 4, sub_format, b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71")
    return b"RIFF\0\0\0\0WAVE" + fmt(16_000, 2, 1, tag=0xFFFE, extension=extension) + b"data\0\0\0\0"


@pytest.mark.parametrize("piece", [1, 10_000])
def test_the_long_form_of_a_header_is_read(piece: int) -> None:
    assert in_pieces(HOUSE, extensible(1) + tone(10), [piece]) == tone(10)
    with pytest.raises(ClientError, match="not PCM"):
        in_pieces(HOUSE, extensible(3) + tone(10), [piece])


def test_a_long_form_that_is_short_is_read_as_far_as_it_goes() -> None:
    header = b"RIFF\0\0\0\0WAVE" + fmt(16_000, 2, 1, tag=0xFFFE) + b"data\0\0\0\0"
    assert in_one_go(HOUSE, header + tone(10)) == tone(10)


@pytest.mark.parametrize("tag", [0, 2, 3, 6, 7, 0x55])
def test_a_wav_file_that_is_no_pcm_is_refused(tag: int) -> None:
    header = b"RIFF\0\0\0\0WAVE" + fmt(16_000, 4, 1, tag=tag) + b"data\0\0\0\0"
    with pytest.raises(ClientError, match="the WAV file is not PCM") as caught:
        in_one_go(HOUSE, header + tone(10))
    assert caught.value.code == "bad-audio"


@pytest.mark.parametrize(
    ("rate", "width", "channels"),
    [(0, 2, 1), (4_000_000, 2, 1), (16_000, 8, 1), (16_000, 2, 0), (16_000, 0, 1)],
)
def test_a_header_with_impossible_figures_is_refused(rate: int, width: int, channels: int) -> None:
    with pytest.raises(ClientError, match="of audio must be a whole number"):
        in_one_go(HOUSE, wav_header(rate, width, channels))


@pytest.mark.parametrize("size", [65 * 1024, 0xFFFFFFFF])
def test_a_header_that_never_comes_to_the_audio_is_refused_at_64_kib(size: int) -> None:
    with pytest.raises(ClientError, match="the WAV header has no data chunk"):
        in_one_go(HOUSE, wav_header(extra=chunk(b"JUNK", b"", size)) + tone(10))


def test_a_header_of_endless_small_chunks_is_refused_at_64_kib() -> None:
    audio = AudioInput(HOUSE)
    audio.convert(b"RIFF\0\0\0\0WAVE")
    with pytest.raises(ClientError, match="the WAV header has no data chunk"):  # noqa: PT012 - at some piece
        for _ in range(66):
            audio.convert(chunk(b"JUNK", bytes(1016)))


@pytest.mark.parametrize("start", [b"R", b"RI", b"RIFX", b"RIFF\0\0\0\0AVI LIST", b"RI\0\0", b"FRIFF"])
def test_audio_that_only_begins_like_a_header_is_audio(start: bytes) -> None:
    pcm = start + b"\0" * (16 - len(start)) + tone(10)
    assert in_one_go(HOUSE, pcm) == pcm
    assert in_pieces(HOUSE, pcm, [1]) == pcm


def test_a_header_in_the_middle_is_audio() -> None:
    pcm = tone(10) + wav_header() + tone(10)
    assert in_pieces(HOUSE, pcm, [320]) == pcm


@pytest.mark.parametrize("length", [0, 3, 12, 20, 43, 44])
def test_a_header_alone_is_no_audio(length: int) -> None:
    audio = AudioInput(HOUSE)
    assert audio.convert(wav_header()[:length]) == b""
    assert audio.leftover_bytes == (length if length < 44 else 0)
