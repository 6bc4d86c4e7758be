from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING

import pytest

from modal_whisper.speech import BYTES_PER_SECOND, FRAME_MS, SAMPLE_RATE, SpeechDetector, quietest_ms
from tests.end_to_end.clips import LEADER, MUTED, PASSWORD, WEASELS, silence

if TYPE_CHECKING:
    from tests.end_to_end.clips import Clip

FRAME_BYTES = BYTES_PER_SECOND * FRAME_MS // 1000


class PlainVad:
    """Takes a frame for speech if its first byte is not zero."""

    def __init__(self, mode: int) -> None:
        pass

    def is_speech(self, frame: bytes, rate: int) -> bool:
        assert (len(frame), rate) == (FRAME_BYTES, SAMPLE_RATE)
        return frame[0] != 0


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> SpeechDetector:
    """One whose frames are marked as speech or silence by the test."""
    monkeypatch.setattr("modal_whisper.speech.webrtcvad.Vad", PlainVad)
    return SpeechDetector()


def frames(pattern: str) -> bytes:
    """A frame of 30 ms for each letter, speech where it is an s."""
    return b"".join((b"\1" if letter == "s" else b"\0") * FRAME_BYTES for letter in pattern)


def facts(detector: SpeechDetector) -> tuple[bool, int | None, int | None, int, int]:
    return (
        detector.heard,
        detector.speech_start_ms,
        detector.speech_end_ms,
        detector.silence_ms,
        detector.audio_ms,
    )


def heard_in(pcm: bytes, piece: int = 3200) -> SpeechDetector:
    detector = SpeechDetector()
    for at in range(0, len(pcm), piece):
        detector.feed(pcm[at : at + piece])
    return detector


def test_before_any_audio_nobody_has_spoken() -> None:
    assert facts(SpeechDetector()) == (False, None, None, 0, 0)


def test_seven_frames_in_a_row_are_speech_and_it_began_with_the_first(detector: SpeechDetector) -> None:
    detector.feed(frames("..ssssss"))
    assert facts(detector) == (False, None, None, 240, 240)
    detector.feed(frames("s"))
    assert facts(detector) == (True, 60, 270, 0, 270)


def test_frames_with_gaps_between_them_are_no_speech(detector: SpeechDetector) -> None:
    detector.feed(frames("ssssss." * 20))
    assert facts(detector) == (False, None, None, 4200, 4200)


def test_silence_is_counted_from_the_end_of_the_latest_speech(detector: SpeechDetector) -> None:
    detector.feed(frames("sssssss...."))
    assert facts(detector) == (True, 0, 210, 120, 330)


def test_after_a_pause_three_frames_are_enough(detector: SpeechDetector) -> None:
    detector.feed(frames("sssssss...ss"))
    assert facts(detector) == (True, 0, 210, 150, 360)
    detector.feed(frames("...sss"))
    assert facts(detector) == (True, 0, 540, 0, 540)


def test_speech_goes_on_with_every_frame(detector: SpeechDetector) -> None:
    detector.feed(frames("sssssssssss"))
    assert facts(detector) == (True, 0, 330, 0, 330)


def test_what_does_not_fill_a_frame_waits(detector: SpeechDetector) -> None:
    audio = frames("sssssss")
    detector.feed(audio[:-1])
    assert detector.audio_ms == 180
    detector.feed(b"")
    assert not detector.heard
    detector.feed(audio[-1:])
    assert facts(detector) == (True, 0, 210, 0, 210)


@pytest.mark.parametrize("piece", [1, 37, 320, 960, 961, 1_000_000])
def test_the_size_of_the_pieces_makes_no_difference(piece: int) -> None:
    pcm = silence(0.3) + MUTED.pcm + silence(0.5)
    assert facts(heard_in(pcm, piece)) == facts(heard_in(pcm))


@pytest.mark.parametrize("decibel", [0, -30, -44])
@pytest.mark.parametrize("clip", [WEASELS, PASSWORD, MUTED, LEADER], ids=lambda clip: clip.text[:12])
def test_people_are_heard_from_near_and_far(clip: Clip, decibel: int) -> None:
    samples = array("h", clip.pcm)
    quieter = array("h", (round(sample * 10 ** (decibel / 20)) for sample in samples))
    assert heard_in(quieter.tobytes()).heard


def test_speech_is_found_where_it_is() -> None:
    detector = heard_in(silence(1.0) + MUTED.pcm + silence(1.5))
    assert detector.speech_start_ms is not None
    assert detector.speech_end_ms is not None
    assert 950 <= detector.speech_start_ms <= 1300
    assert 2300 <= detector.speech_end_ms <= 3000
    assert detector.silence_ms == detector.audio_ms - detector.speech_end_ms


@pytest.mark.parametrize("level", [0, 1, 6])
def test_a_quiet_room_is_no_speech(level: int) -> None:
    room = random.Random(1)
    noise = array("h", (room.randint(-level, level) for _ in range(10 * SAMPLE_RATE)))
    assert not heard_in(noise.tobytes()).heard


def loud(*levels: int) -> bytes:
    """A frame of 30 ms for each level."""
    return b"".join(array("h", [level, -level] * (FRAME_BYTES // 4)).tobytes() for level in levels)


@pytest.mark.parametrize(
    ("levels", "middle"),
    [((9, 9, 3, 9), 75), ((1, 9, 9), 15), ((9, 9, 1), 75), ((9, 2, 9, 2), 45), ((32_767, 32_766), 45)],
)
def test_the_quietest_place_is_the_middle_of_the_first_quietest_frame(
    levels: tuple[int, ...], middle: int
) -> None:
    assert quietest_ms(loud(*levels)) == middle


def test_what_fills_no_frame_is_not_looked_at_and_an_odd_byte_neither() -> None:
    assert quietest_ms(loud(9, 3, 9) + bytes(FRAME_BYTES - 1)) == 45


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1])
def test_where_there_is_no_whole_frame_one_can_cut_at_once(size: int) -> None:
    assert quietest_ms(bytes(size)) == 0
