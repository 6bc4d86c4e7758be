"""Words made up where nobody spoke, and people not heard because they speak quietly: the worker and another.

The other one is wyoming-faster-whisper, with the same weights. Noise is cut into pieces of 2 s: the
recordings in the folder noise/ beside those of people, and silence, white and pink noise, hum and knocks,
generated at -70 to -20 dB of full scale, the same in every run. Then people say every clip, as recorded and
20 and 30 dB quieter.

Nobody speaks at the speed of speech here: audio is sent as fast as the line takes it, and the two are asked
in turn, clip by clip. All clips take about 15 minutes. Words are a text with a letter or a digit in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.common import print_machine, print_table
from bench.noises import noise_clips
from bench.peers import peer, worker
from bench.recordings import FOLDER_HELP, Clip, WordErrors, spoken_clips, spread, to_pcm
from modal_whisper.weights import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.peers import Answer, Service

_GAINS: Final = (0, -20, -30)
"""dB."""


async def _main(options: argparse.Namespace) -> None:
    model = find_model(options.model, options.models).resolve()
    noises = [(kind, pcm) for kind, pieces in noise_clips(options.speech / "noise").items() for pcm in pieces]
    noises = spread(noises, options.clips or len(noises))
    clips = spoken_clips(options.speech)
    clips = spread(clips, options.clips or len(clips))
    with ExitStack() as running:
        services = [
            running.enter_context(worker(model, shlex.split(options.worker))),
            running.enter_context(peer(model, shlex.split(options.peer))),
        ]
        for service in services:
            await service.warm_up()
        _print_noise(services, noises, await _in_turn(services, [pcm for _, pcm in noises]))
        rows = []
        for gain in _GAINS:
            heard = await _in_turn(services, [_quieter(clip.pcm, gain) for clip in clips])
            rows += [
                [f"{gain} dB", *_speech_row(service, clips, answers)]
                for service, answers in zip(services, heard, strict=True)
            ]
        seconds = sum(len(clip.pcm) for clip in clips) / 32_000
        print(f"Quiet speech: {len(clips)} clips, {seconds / 60:.1f} minutes, at each gain\n")
        print_table(["gain", "", "clips without words", "word errors", "per clip: median", "slowest"], rows)


async def _in_turn(services: Sequence[Service], sounds: Sequence[bytes]) -> list[list[Answer]]:
    """The answers of each service, in the order of the sounds."""
    heard: list[list[Answer]] = [[] for _ in services]
    for turn, sound in enumerate(sounds):
        for number in range(len(services)):
            at = (turn + number) % len(services)  # nobody always follows the other
            heard[at].append(await services[at].ask(sound, paced=False))
    return heard


def _print_noise(
    services: Sequence[Service], noises: Sequence[tuple[str, bytes]], heard: Sequence[Sequence[Answer]]
) -> None:
    kinds = [kind for kind, _ in noises]
    rows = []
    for kind in [*dict.fromkeys(kinds), "all"]:
        chosen = [number for number, other in enumerate(kinds) if kind in (other, "all")]
        row = [kind, str(len(chosen))]
        for answers in heard:
            of_kind = [answers[number] for number in chosen]
            made_up = sum(answer.has_words for answer in of_kind)
            row += [f"{made_up} ({made_up / len(chosen):.1%})", *_times(of_kind)]
        rows.append(row)
    print("Noise\n")
    columns = [
        column
        for service in services
        for column in (f"{service.name}: with words", "per clip: median", "slowest")
    ]
    print_table(["", "clips", *columns], rows)


def _speech_row(service: Service, clips: Sequence[Clip], answers: Sequence[Answer]) -> list[str]:
    words = WordErrors()
    for clip, answer in zip(clips, answers, strict=True):
        words.add(clip.text, answer.text)
    lost = sum(not answer.has_words for answer in answers)
    return [service.name, str(lost), str(words), *_times(answers)]


def _times(answers: Sequence[Answer]) -> list[str]:
    seconds = [answer.seconds for answer in answers]
    return [f"{median(seconds):.2f} s", f"{max(seconds):.2f} s"]


def _quieter(pcm: bytes, gain: float) -> bytes:
    return to_pcm(np.frombuffer(pcm, "<i2") / 32_768 * 10 ** (gain / 20))


def main() -> None:
    """Let both hear every clip, in turn, and count."""
    parser = argparse.ArgumentParser(prog="script/bench noise", description=__doc__)
    add = parser.add_argument
    add("--speech", type=Path, required=True, metavar="DIR", help=FOLDER_HELP)
    add(
        "--clips",
        type=int,
        metavar="N",
        help="of noise and of speech so many, spread over all (default: all)",
    )
    add("--model", default=DEFAULT_MODEL, help="a name or a folder, for both of them (default: %(default)s)")
    add(
        "--peer", default="", metavar="OPTIONS", help="more options for wyoming-faster-whisper, in one string"
    )
    add("--worker", default="", metavar="OPTIONS", help="more options for stt-failover-worker, in one string")
    models = os.environ.get("MODEL_DIR", "~/.cache/stt-failover/models")
    parser.set_defaults(models=Path(models).expanduser())
    options = parser.parse_args()
    print_machine()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left running
    asyncio.run(_main(options))


if __name__ == "__main__":
    main()
