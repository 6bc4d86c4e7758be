from __future__ import annotations

import wave
from pathlib import Path

import pytest

from modal_whisper import samples
from modal_whisper.languages import LANGUAGES
from modal_whisper.speech import SAMPLE_RATE, SpeechDetector

SAMPLES = [value for value in vars(samples).values() if isinstance(value, samples.Sample)]
FOLDER = Path(samples.__file__).parent


def test_every_recording_in_the_folder_is_a_sample_with_its_licence_named() -> None:
    licence = (FOLDER / "LICENCE.md").read_text(encoding="utf-8")
    assert {sample.path for sample in SAMPLES} == set(FOLDER.glob("*.wav"))
    for sample in SAMPLES:
        assert f"`{sample.path.name}` | {sample.text}" in licence
    assert "Attribution-ShareAlike 3.0" in licence


@pytest.mark.parametrize(
    ("sample", "seconds"),
    [(samples.WEASELS, 3.0), (samples.PASSWORD, 3.4), (samples.MUTED, 1.9), (samples.LEADER, 3.8)],
    ids=lambda value: value.path.stem if isinstance(value, samples.Sample) else "",
)
def test_a_sample_is_speech_in_the_one_format_of_the_house(sample: samples.Sample, seconds: float) -> None:
    with wave.open(str(sample.path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 1, 2)
        assert file.getnframes() / SAMPLE_RATE == pytest.approx(seconds, abs=0.05)
        detector = SpeechDetector()
        detector.feed(file.readframes(file.getnframes()))
    assert detector.heard
    assert sample.language in LANGUAGES
