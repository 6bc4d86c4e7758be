"""What a shorter window, a wider beam and names cost and gain: the real model, without anything around it.

The recordings are a folder with a manifest.jsonl, see `accuracy`. Used are those by people of which every
word is known, in every language with at least 20 of them. Chinese is counted in characters, in one script.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final
from unittest import mock

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from bench.common import p95, print_machine, print_table
from bench.recordings import FOLDER_HELP, distance, read, spread
from modal_whisper.model import Passage
from modal_whisper.scripts import written_as
from modal_whisper.transcriber import WhisperTranscriber

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAST_CLIPS: Final = 20
_HOME: Final = """
Anna, Bathroom, Hallway, Stairs, Basement, Attic, Guest Room, Terrace, Balcony, Dishwasher, Washing
Machine, Dryer, Coffee Machine, Thermostat, Doorbell, Living Room, Kitchen, Office, Bed Light, Mood
Lighting, EcoBee, Garage Door, Front Door, Porch Light, Fan, TV, Shopping List, Driveway, Carport,
Sprinkler, Aquarium, Christmas Tree, Ceiling Lamp, Floor Lamp, Reading Lamp, Desk Lamp, Blinds,
Curtains, Heater, Vacuum, Speaker, Radio
"""
_NAMES: Final = tuple(name.strip() for name in _HOME.split(","))
"""Of a home as it may be; a quarter of them occur in the recordings."""


class _Clip:
    def __init__(self, folder: Path, line: dict[str, str]) -> None:
        self.pcm = read(folder / line["path"])
        self.language = line["lang"]
        self.kind = line["kind"]
        self.words = _words(line["text"], self.language)


def _words(text: str, language: str) -> list[str]:
    if language == "en":
        return list(EnglishTextNormalizer()(text).split())
    plain = BasicTextNormalizer(remove_diacritics=True)(written_as(language, text))
    return list(plain.replace(" ", "")) if language == "zh" else list(plain.split())


def _clips(folder: Path, most: int) -> dict[str, list[_Clip]]:
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for line in map(json.loads, (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()):
        if not line["synthetic"] and line["kind"] != "slots":
            found[line["lang"]].append(line)
    return {
        language: [_Clip(folder, line) for line in spread(lines, most)]
        for language, lines in sorted(found.items())
        if len(lines) >= _LEAST_CLIPS
    }


class _Tally:
    def __init__(self) -> None:
        self.errors = self.words = self.exact = self.clips = 0
        self.seconds: list[float] = []

    def add(self, clip: _Clip, text: str, seconds: float) -> None:
        errors = distance(clip.words, _words(text, clip.language))
        self.errors += errors
        self.words += len(clip.words)
        self.exact += not errors
        self.clips += 1
        self.seconds.append(seconds)

    @property
    def figures(self) -> list[str]:
        return [
            f"{self.errors / self.words:.1%}",
            f"{self.exact / self.clips:.0%}",
            f"{median(self.seconds):.2f} s",
            f"{p95(self.seconds):.2f} s",
        ]


def _hear(
    model: WhisperTranscriber,
    clips: Sequence[_Clip],
    *,
    names: tuple[str, ...] = (),
    among: tuple[str, ...] | None = None,
) -> tuple[_Tally, int]:
    """The tally, and how many clips were taken for the right language; `among` is None where it is given."""
    tally, right = _Tally(), 0
    for clip in clips:
        started = time.perf_counter()
        language = clip.language if among is None else None
        passage = Passage(pcm=clip.pcm, language=language, languages=among or (), names=names)
        heard = model.transcribe(passage, threading.Event())
        tally.add(clip, heard.text, time.perf_counter() - started)
        right += heard.language == clip.language
    return tally, right


def _model(folder: Path, beam_size: int) -> WhisperTranscriber:
    model = WhisperTranscriber(directory=folder, device="cpu", beam_size=beam_size)
    model.load()
    return model


def _print_windows(models: Path, clips: dict[str, list[_Clip]]) -> None:
    rows = []
    for language, spoken in clips.items():
        for frames in (3000, 1500):
            for beam in (1, 5):
                with mock.patch("modal_whisper.decoding._LEAST_FRAMES", frames):
                    tally, _ = _hear(_model(models, beam), spoken)
                rows.append([language, str(len(spoken)), f"{frames / 100:g} s", str(beam), *tally.figures])
    print_table(["language", "clips", "window", "beam", "errors", "exact", "per clip: median", "p95"], rows)


def _print_names(models: Path, clips: list[_Clip]) -> None:
    commands = [clip for clip in clips if clip.kind == "command"]
    others = [clip for clip in clips if clip.kind != "command"]
    rows = []
    for beam in (1, 5):
        model = _model(models, beam)
        for title, spoken in (("commands", commands), ("other speech", others)):
            for names in ((), _NAMES):
                tally, _ = _hear(model, spoken, names=names)
                row = [title, str(len(spoken)), str(beam), f"{len(names)} names" if names else "none"]
                rows.append([*row, *tally.figures])
    print_table(["English", "clips", "beam", "told", "errors", "exact", "per clip: median", "p95"], rows)


def _print_languages(models: Path, clips: dict[str, list[_Clip]]) -> None:
    model = _model(models, 5)
    every = [clip for spoken in clips.values() for clip in spoken]
    rows = []
    for title, among in (("given", None), ("detected among all", ()), ("detected among these", tuple(clips))):
        tally, right = _hear(model, every, among=among)
        rows.append([title, f"{right / len(every):.1%}", *tally.figures])
    print_table(["language", "right", "errors", "exact", "per clip: median", "p95"], rows)


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(prog="script/bench decoding", description=__doc__)
    parser.add_argument("--speech", type=Path, required=True, metavar="DIR", help=FOLDER_HELP)
    parser.add_argument(
        "--clips", type=int, default=1000, metavar="N", help="take N of each language; with names, all"
    )
    models = os.environ.get("MODEL_DIR", "~/.cache/stt-failover/models")
    parser.set_defaults(models=Path(models).expanduser())
    options = parser.parse_args()
    print_machine()
    clips = _clips(options.speech, options.clips)
    _print_windows(options.models, clips)
    _print_names(options.models, _clips(options.speech, 1000)["en"])
    _print_languages(options.models, clips)


if __name__ == "__main__":
    main()
