"""Many utterances with random faults, one after another: is one lost, does anything grow?

Sixteen people speak to the real server, built from its settings, over real sockets, several times as fast as
people do. The AssemblyAI emulator has a random fault in every third session, the worker's model fails now and
then; some people hang up in mid-sentence, some send rubbish. The models of worker and local backend know the
recordings by their bytes, so that right words mean that every byte was heard.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Final
from unittest import mock

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error

from bench.common import print_machine, print_table
from modal_whisper import model
from tests.emulators.assemblyai import (
    AssemblyAIEmulator,
    Close,
    DelayFinal,
    Drop,
    EmptyFinal,
    ErrorFrame,
    Fault,
    HttpStatus,
    Rules,
    Send,
    Stall,
    by_recording,
    script_for,
)
from tests.end_to_end.clips import LEADER, MUTED, PASSWORD, WEASELS, Clip
from tests.end_to_end.house import running_house
from tests.end_to_end.worker import WORKER_KEY, Witness, running_worker
from wyoming_server.events import Answered, AttemptStarted, BackendFailed, BreakerChanged

if TYPE_CHECKING:
    import threading

    from tests.end_to_end.house import House

_CLIPS: Final = (MUTED, WEASELS, PASSWORD, LEADER)
_KEY: Final = "any-key"
_PATIENCE: Final = 30.0
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_SECONDS: Final = 1.0
_REPAIR_SECONDS: Final = 2.0
"""Between two closings of all breakers, so that the faulty backends are asked again and again."""


class Model:
    """A Transcriber that knows the recordings by their bytes; `troubled` of its calls fail."""

    model = "scripted"

    def __init__(self, seconds: float, troubled: float, random: Random) -> None:
        self._seconds = seconds
        self._troubled = troubled
        self._random = random

    def fetch(self) -> None:
        """See WhisperTranscriber."""

    def load(self) -> None:
        """See Transcriber."""

    def transcribe(self, passage: model.Passage, cancelled: threading.Event) -> model.Transcript:
        """See Transcriber."""
        cancelled.wait(self._seconds)
        if self._random.random() < self._troubled:
            raise RuntimeError("out of memory")
        known = (clip.text for clip in _CLIPS if clip.is_all_in(passage.pcm))
        text = next(known, "something that nobody said")
        return model.Transcript(text, passage.language or "en", self.model)


@dataclass(slots=True)
class Tally:
    """What became of it all."""

    outcomes: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    spoken: float = 0.0
    """Seconds of audio."""
    samples: list[tuple[float, int, int, float]] = field(default_factory=list)
    """Seconds since the start, tasks, file descriptors, resident MB."""


def faults(random: Random) -> list[Fault]:
    """Those of one session."""
    if random.random() > 1 / 3:
        return []
    at = random.randrange(100, 1600)
    return [
        random.choice(
            [
                Fault("connect", HttpStatus(random.choice([403, 429, 500, 503]))),
                Fault("connect", Drop()),
                Fault("connect", Stall()),
                Fault("audio", Drop(), audio_ms=at),
                Fault("audio", Close(random.choice([1000, 1011, 1013])), audio_ms=at),
                Fault("audio", ErrorFrame(3005, "Session Cancelled"), audio_ms=at),
                Fault("audio", Stall(), audio_ms=at),
                Fault("audio", Send("{not json"), audio_ms=at),
                Fault("end", Stall()),
                Fault("end", EmptyFinal()),
                Fault("end", DelayFinal(3.0)),
                Fault("end", Drop()),
            ]
        )
    ]


async def soak(*, seconds_of_speech: float, speakers: int, speed: float, seed: int) -> Tally:
    """Let them speak until so much has been said."""
    random, tally = Random(seed), Tally()
    emulator = AssemblyAIEmulator(
        {_KEY},
        script=by_recording([(clip.pcm, script_for(clip.pcm, clip.text)) for clip in _CLIPS]),
        rules=Rules(throttle=None),
        faults=lambda _: faults(random),
    )
    local = Witness(Model(0.02, 0.0, random))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(emulator)
        worker = await stack.enter_async_context(running_worker(Witness(Model(0.02, 0.1, random))))
        stack.enter_context(
            # The one thing that is not as the settings make it: the local model.
            mock.patch("wyoming_server.build.WhisperTranscriber", return_value=local)
        )
        house = await stack.enter_async_context(
            running_house(
                {
                    "BACKENDS": "assemblyai,whisper,local",
                    "ASSEMBLYAI_API_KEY": _KEY,
                    "ASSEMBLYAI_STREAMING_URL": emulator.url,
                    "WHISPER_SERVICE_URL": worker.url,
                    "WHISPER_API_KEY": WORKER_KEY,
                }
            )
        )
        watching = asyncio.create_task(_watch(house, tally, emulator, [worker.heard, local.heard]))
        people = [Person(house.uri, Random(f"{seed}-{number}"), speed, tally) for number in range(speakers)]
        await asyncio.gather(*(person.speak_until(seconds_of_speech) for person in people))
        watching.cancel()
        await asyncio.wait([watching])
    return tally


class Person:
    """Speaks one sentence after another; hangs up or sends rubbish now and then."""

    def __init__(self, uri: str, random: Random, speed: float, tally: Tally) -> None:
        self._uri = uri
        self._random = random
        self._speed = speed
        self._tally = tally

    async def speak_until(self, seconds: float) -> None:
        """Until all together have spoken for so long."""
        while self._tally.spoken < seconds:
            async with AsyncClient.from_uri(self._uri, _PATIENCE, _PATIENCE) as client:
                for _ in range(self._random.choice([1, 1, 5])):
                    if not await self._say(client, self._random.choice(_CLIPS)):
                        break

    async def _say(self, client: AsyncClient, clip: Clip) -> bool:
        """Whether the connection can be used again."""
        random = self._random
        if random.random() < 0.05:
            await client.write_event(AudioStop().event())  # which is out of order, and answered by an error
            await client.read_event()
        leaves = random.random() < 0.1
        await client.write_event(Transcribe(language=clip.language).event())
        await client.write_event(AudioStart(16_000, 2, 1).event())
        size = random.choice([10, 20, 64]) * 32
        for at in range(0, len(clip.pcm), size):
            chunk = AudioChunk(16_000, 2, 1, clip.pcm[at : at + size])
            await client.write_event(chunk.event())
            self._tally.spoken += chunk.seconds
            await asyncio.sleep(chunk.seconds / self._speed)
            if leaves and random.random() < 0.05:
                self._tally.outcomes["left in mid-sentence"] += 1
                return False
        await client.write_event(AudioStop().event())
        self._tally.outcomes[await self._outcome(client, clip)] += 1
        return True

    async def _outcome(self, client: AsyncClient, clip: Clip) -> str:
        try:
            event = await client.read_event()
        except (TimeoutError, OSError):
            return "lost"
        if event is None:
            return "lost"
        if Error.is_type(event.type):
            return "error"
        return "right" if Transcript.from_event(event).text == clip.text else "wrong"


def _footprint() -> tuple[int, float]:
    """File descriptors, and resident MB."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return len(list(Path("/proc/self/fd").iterdir())), int(pages) * _PAGE_BYTES / 1e6


async def _watch(house: House, tally: Tally, emulator: AssemblyAIEmulator, kept: list[list[bytes]]) -> None:
    started = repaired = time.monotonic()
    while True:
        await asyncio.sleep(_SAMPLE_SECONDS)
        for pieces in kept:  # what the witnesses remember is not the server's
            pieces.clear()
        emulator.sessions[:] = [record for record in emulator.sessions if not record.closed.is_set()]
        tally.events.update(_name(event) for _, event in house.facts)
        house.facts.clear()
        tally.samples.append(
            (
                time.monotonic() - started,
                len(asyncio.all_tasks()),
                *_footprint(),
            )
        )
        if time.monotonic() - repaired > _REPAIR_SECONDS:
            repaired = time.monotonic()
            house.close_breakers()


def main() -> None:
    """Let them speak, then print the figures."""
    parser = argparse.ArgumentParser(prog="script/bench soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0, help="of speech in all (default: %(default)s)")
    parser.add_argument("--speakers", type=int, default=16, help="at once (default: %(default)s)")
    parser.add_argument(
        "--speed", type=float, default=5.0, help="times that of speech (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print_machine()
    started = time.monotonic()
    tally = asyncio.run(
        soak(
            seconds_of_speech=options.hours * 3600,
            speakers=options.speakers,
            speed=options.speed,
            seed=options.seed,
        )
    )
    print(f"{tally.spoken / 3600:.1f} h of speech in {(time.monotonic() - started) / 60:.1f} min.\n")
    print_table(["outcome", "utterances"], [[name, str(n)] for name, n in tally.outcomes.most_common()])
    print_table(
        ["in the server", "times"], [[name, str(n)] for name, n in tally.events.most_common() if name]
    )
    print()
    quarter = max(len(tally.samples) // 4, 1)
    first, last = tally.samples[:quarter], tally.samples[-quarter:]
    print_table(
        ["median of", "first quarter", "last quarter"],
        [
            [name, f"{median(item[at] for item in first):.0f}", f"{median(item[at] for item in last):.0f}"]
            for at, name in ((1, "tasks"), (2, "file descriptors"), (3, "resident MB, of server and bench"))
        ],
    )


def _name(event: object) -> str:
    match event:
        case Answered(backend):
            return f"answered by {backend or 'nobody'}"
        case AttemptStarted(_, reason):
            return f"asked: {reason}"
        case BackendFailed(backend):
            return f"{backend} failed"
        case BreakerChanged(backend, state):
            return f"breaker of {backend} {state}"
        case _:
            return ""


if __name__ == "__main__":
    main()
