"""Word error rate: the server's local backend against faster-whisper called directly, on the same recordings.

The recordings are a folder with a manifest.jsonl, one clip a line: id, path (within the folder), lang, text,
seconds, kind, synthetic. Used are those in English, spoken by people, of which every word is known (their
kind is not "slots"). They are WAV files, 16 kHz, mono, 16-bit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
import wave
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from faster_whisper import WhisperModel
from whisper_normalizer.english import EnglishTextNormalizer

from bench.common import p95, print_machine, print_table
from modal_whisper.runner import ModelRunner
from modal_whisper.transcriber import WhisperTranscriber
from modal_whisper.weights import DEFAULT_MODEL, find_model
from wyoming_server.backends.base import Hypothesis, Request
from wyoming_server.backends.local import Local
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class _Heard:
    words: list[str]
    seconds: float


async def _main(options: argparse.Namespace) -> None:
    clips = _clips(options.speech)[: options.most]
    local = Local(ModelRunner(WhisperTranscriber(directory=options.models, device="cpu")))
    local.start()
    await local.wait_ready()
    folder = str(find_model(DEFAULT_MODEL, options.models))
    model = WhisperModel(folder, device="cpu", compute_type=options.compute_type)
    normalise = EnglishTextNormalizer()
    said: list[list[str]] = []
    served: list[_Heard] = []
    direct: list[_Heard] = []
    for clip in clips:
        pcm = _samples(options.speech / clip["path"])
        times = [time.perf_counter()]
        texts = [clip["text"], await _by_server(local, pcm)]
        times.append(time.perf_counter())
        texts.append(await asyncio.to_thread(_by_library, model, pcm))
        times.append(time.perf_counter())
        words = [normalise(text).split() for text in texts]
        said.append(words[0])
        served.append(_Heard(words[1], times[1] - times[0]))
        direct.append(_Heard(words[2], times[2] - times[1]))
        if options.show and words[1] != words[2]:
            print("\n    ".join([clip["id"], *(" ".join(line) for line in words)]), end="\n\n")
    await local.close()
    rows = [
        ["the server's local backend", *_figures(said, served)],
        ["faster-whisper called directly", *_figures(said, direct)],
    ]
    print_table(["", "word errors", "word error rate", "per clip: median", "p95"], rows)
    minutes = sum(clip["seconds"] for clip in clips) / 60
    difference = _rate(said, served) - _rate(said, direct)
    print(f"{len(clips)} clips, {minutes:.1f} minutes; difference {difference * 100:+.2f} points")


def _clips(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    clips = [json.loads(line) for line in lines]
    return [
        clip
        for clip in clips
        if (clip["lang"], clip["synthetic"]) == ("en", False) and clip["kind"] != "slots"
    ]


def _samples(path: Path) -> bytes:
    with wave.open(str(path), "rb") as file:
        if file.getparams()[:3] != (1, 2, 16_000):
            raise SystemExit(f"{path} is not 16 kHz, mono, 16-bit")
        return file.readframes(file.getnframes())


async def _by_server(local: Local, pcm: bytes) -> str:
    recording = Recording(max_seconds=600, clock=time.monotonic)
    recording.write(pcm)
    recording.end()
    text = ""
    async for progress in local.transcribe(recording, Request(language="en")):
        if isinstance(progress, Hypothesis):
            text = progress.text
    return text


def _by_library(model: WhisperModel, pcm: bytes) -> str:
    audio = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    segments, _ = model.transcribe(audio, language="en", beam_size=1)
    return "".join(segment.text for segment in segments)


def _figures(said: Sequence[list[str]], heard: Sequence[_Heard]) -> list[str]:
    seconds = [item.seconds for item in heard]
    errors = f"{_errors(said, heard)} of {sum(map(len, said))}"
    return [errors, f"{_rate(said, heard):.1%}", f"{median(seconds):.2f} s", f"{p95(seconds):.2f} s"]


def _rate(said: Sequence[list[str]], heard: Sequence[_Heard]) -> float:
    return _errors(said, heard) / sum(map(len, said))


def _errors(said: Sequence[list[str]], heard: Sequence[_Heard]) -> int:
    return sum(_distance(wanted, item.words) for wanted, item in zip(said, heard, strict=True))


def _distance(wanted: list[str], words: list[str]) -> int:
    """How many words must be changed, left out or put in to make the one text from the other."""
    row = list(range(len(words) + 1))
    for number, right in enumerate(wanted, 1):
        above, row[0] = row[0], number
        for at, word in enumerate(words, 1):
            above, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, above + int(word != right))
    return row[-1]


def main() -> None:
    """Let both hear every clip, in turn, and compare."""
    parser = argparse.ArgumentParser(prog="script/bench accuracy", description=__doc__)
    add = parser.add_argument
    add("--speech", type=Path, required=True, metavar="DIR", help="the folder of recordings")
    add("--most", type=int, metavar="N", help="take the first N clips only")
    add("--show", action="store_true", help="print the clips that the two hear differently")
    add("--compute-type", default="int8", help="of the direct call (default: %(default)s, the server's own)")
    models = os.environ.get("MODEL_DIR", "~/.cache/stt-failover/models")
    parser.set_defaults(models=Path(models).expanduser())
    options = parser.parse_args()
    print_machine()
    asyncio.run(_main(options))


if __name__ == "__main__":
    main()
