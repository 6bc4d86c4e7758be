"""Word error rate: the server's local backend against faster-whisper called directly, on the same recordings.

The recordings are a folder with a manifest.jsonl, one clip a line: id, path (within the folder), lang, text,
seconds, kind, synthetic. Used are those in English, spoken by people, of which every word is known (their
kind is not "slots"). They are WAV files, 16 kHz, mono, 16-bit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from faster_whisper import WhisperModel

from bench.common import p95, print_machine, print_table
from bench.recordings import BYTES_PER_MS, WordErrors, spoken_clips
from modal_whisper.runner import ModelRunner
from modal_whisper.transcriber import WhisperTranscriber
from modal_whisper.weights import DEFAULT_MODEL, find_model
from wyoming_server.backends.base import Hypothesis, Request
from wyoming_server.backends.local import Local
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence


async def _main(options: argparse.Namespace) -> None:
    clips = spoken_clips(options.speech)[: options.most]
    local = Local(ModelRunner(WhisperTranscriber(directory=options.models, device="cpu")))
    local.start()
    await local.wait_ready()
    folder = str(find_model(DEFAULT_MODEL, options.models))
    model = WhisperModel(folder, device="cpu", compute_type=options.compute_type)
    served, direct = WordErrors(), WordErrors()
    seconds: list[list[float]] = [[], []]
    for clip in clips:
        times = [time.perf_counter()]
        texts = [clip.text, await _by_server(local, clip.pcm)]
        times.append(time.perf_counter())
        texts.append(await asyncio.to_thread(_by_library, model, clip.pcm))
        times.append(time.perf_counter())
        for taken, (begin, end) in zip(seconds, pairwise(times), strict=True):
            taken.append(end - begin)
        served.add(texts[0], texts[1])
        direct.add(texts[0], texts[2])
        words = [served.words_of(text) for text in texts]
        if options.show and words[1] != words[2]:
            print("\n    ".join([clip.name, *(" ".join(line) for line in words)]), end="\n\n")
    await local.close()
    rows = [
        ["the server's local backend", *_figures(served, seconds[0])],
        ["faster-whisper called directly", *_figures(direct, seconds[1])],
    ]
    print_table(["", "word errors", "word error rate", "per clip: median", "p95"], rows)
    minutes = sum(len(clip.pcm) for clip in clips) / BYTES_PER_MS / 60_000
    difference = served.rate - direct.rate
    print(f"{len(clips)} clips, {minutes:.1f} minutes; difference {difference * 100:+.2f} points")


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
    segments, _ = model.transcribe(audio, language="en", beam_size=5)
    return "".join(segment.text for segment in segments)


def _figures(words: WordErrors, seconds: Sequence[float]) -> list[str]:
    errors = f"{words.errors} of {words.words}"
    return [errors, f"{words.rate:.1%}", f"{median(seconds):.2f} s", f"{p95(seconds):.2f} s"]


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
