"""Time from audio-stop to the words, and how right they are: this project's worker and server, and another.

The other one is wyoming-faster-whisper, which most people with Home Assistant use. All three are processes on
this machine, with the same weights, all the time; they take turns, clip by clip, and whoever is asked has the
machine for itself. Everybody speaks at the speed of speech, in chunks of 10 ms, on a new connection for each
utterance: as Home Assistant does with the two that speak Wyoming, over /ws/stt with the worker.

The clips end a tenth of a second after the last that is loud in them; then come 0.7 s of noise at -70 dBFS,
which is how long Home Assistant waits before it ends an utterance, or nothing. The stopwatch starts when the
last samples are there to be sent. Where four speak at once, they begin together and each says another clip.

The default of 32 clips takes about 15 minutes, all of them four times as long. Word error rates of so few
clips are coarse: `script/bench noise` has those of all clips. The other one decodes with beam 5, its default;
`--peer "--beam-size 1"` changes that.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shlex
import signal
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.common import p95, print_machine, print_table
from bench.peers import peer, server, worker
from bench.recordings import FOLDER_HELP, WordErrors, hiss, spoken_clips, spread, without_silence
from modal_whisper.weights import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.peers import Answer, Service

_SILENCE_SECONDS: Final = 0.7
_SILENCE_LEVEL: Final = -70.0
_PAUSE: Final = 0.3
"""Between two turns, so that the threads of the one have come to rest before the other begins."""


@dataclass(frozen=True, slots=True)
class _Scenario:
    title: str
    silence: bool
    speakers: int


_SCENARIOS: Final = (
    _Scenario("One speaker, 0.7 s of silence at the end", silence=True, speakers=1),
    _Scenario("One speaker, no silence at the end", silence=False, speakers=1),
    _Scenario("Four speakers at once, 0.7 s of silence at the end", silence=True, speakers=4),
)


async def _main(options: argparse.Namespace) -> None:
    random = np.random.default_rng(1)
    model = find_model(options.model, options.models).resolve()
    clips = spread(spoken_clips(options.speech), options.clips)
    clips = [replace(clip, pcm=without_silence(clip.pcm)) for clip in clips]
    seconds = sum(len(clip.pcm) for clip in clips) / 32_000
    print(f"{len(clips)} clips, {seconds:.0f} s of speech\n", flush=True)
    with ExitStack() as running:
        services = [
            running.enter_context(peer(model, shlex.split(options.peer))),
            running.enter_context(worker(model, shlex.split(options.worker))),
            running.enter_context(server(model)),
        ]
        for service in services:
            await service.warm_up()
        at_rest = [service.memory()[0] for service in services]
        for scenario in _SCENARIOS:
            if scenario.silence:
                sounds = [clip.pcm + hiss(random, _SILENCE_SECONDS, _SILENCE_LEVEL) for clip in clips]
            else:
                sounds = [clip.pcm for clip in clips]
            heard = await _take_turns(services, sounds, scenario.speakers)
            print(f"{scenario.title}\n")
            _print_heard(services, [clip.text for clip in clips], heard)
        memory = [
            [service.name, f"{rest:.0f} MB", f"{service.memory()[1]:.0f} MB"]
            for service, rest in zip(services, at_rest, strict=True)
        ]
    print_table(["resident memory", "before the first clip", "the most, loading included"], memory)


async def _take_turns(
    services: Sequence[Service], sounds: Sequence[bytes], speakers: int
) -> list[list[Answer]]:
    """The answers of each service, in the order of the sounds; so many speak at once.

    The last sounds are left out where too few are left for all speakers.
    """
    heard: list[list[Answer]] = [[] for _ in services]
    for turn in range(len(sounds) // speakers):
        said = sounds[turn * speakers : (turn + 1) * speakers]
        for number in range(len(services)):
            at = (turn + number) % len(services)  # nobody always follows the same one
            gc.collect()
            heard[at] += await asyncio.gather(*(services[at].ask(sound, paced=True) for sound in said))
            await asyncio.sleep(_PAUSE)
    return heard


def _print_heard(services: Sequence[Service], said: Sequence[str], heard: Sequence[Sequence[Answer]]) -> None:
    rows = []
    theirs = [answer.seconds for answer in heard[0]]
    for service, answers in zip(services, heard, strict=True):
        words = WordErrors()
        for text, answer in zip(said, answers, strict=False):  # the last may be left out
            words.add(text, answer.text)
        ours = [answer.seconds for answer in answers]
        middle, high = median(ours), p95(ours)
        shares = f"{middle / median(theirs):.3f}", f"{high / p95(theirs):.3f}"
        rows.append([service.name, f"{middle * 1000:.0f} ms", f"{high * 1000:.0f} ms", *shares, str(words)])
    print_table(["audio-stop to words", "median", "p95", "median: ratio", "p95: ratio", "word errors"], rows)


def main() -> None:
    """Let all hear every clip, in turn, and compare."""
    parser = argparse.ArgumentParser(prog="script/bench side_by_side", description=__doc__)
    add = parser.add_argument
    add("--speech", type=Path, required=True, metavar="DIR", help=FOLDER_HELP)
    add("--clips", type=int, default=32, metavar="N", help="how many, spread over all (default: %(default)s)")
    add("--model", default=DEFAULT_MODEL, help="a name or a folder, for all of them (default: %(default)s)")
    add(
        "--peer", default="", metavar="OPTIONS", help="more options for wyoming-faster-whisper, in one string"
    )
    add("--worker", default="", metavar="OPTIONS", help="more options for stt-failover-worker, in one string")
    models = os.environ.get("MODEL_DIR", "~/.cache/stt-failover/models")
    parser.set_defaults(models=Path(models).expanduser())
    options = parser.parse_args()
    most_speakers = max(scenario.speakers for scenario in _SCENARIOS)
    if options.clips < most_speakers:
        parser.error(f"it takes {most_speakers} clips at least")
    print_machine()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left running
    gc.disable()  # a pause of the stopwatch is no delay of a service
    asyncio.run(_main(options))


if __name__ == "__main__":
    main()
