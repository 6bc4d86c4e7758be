"""What the fuzzes share: a real server process, people who speak to it meanwhile, and the figures.

Run as a program it is that server: `stt-failover` with a local model that knows the recordings of the people
by their bytes, and that writes on SIGUSR2 how many tasks it has.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final
from unittest import mock

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient

from bench.common import print_machine, print_table
from modal_whisper.model import Passage, Transcript as Words
from tests import processes
from tests.end_to_end.clips import LEADER, MUTED, PASSWORD, WEASELS, Clip

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncIterator, Callable, Coroutine
    from random import Random

CLIPS: Final = (MUTED, WEASELS, PASSWORD, LEADER)
"""What the people say; nothing else makes the words that they wait for."""
PATIENCE: Final = 60.0
"""Seconds after which who waits has waited in vain."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_SECONDS: Final = 1.0
_TASKS_FILE: Final = "FUZZ_TASKS_FILE"
_TROUBLES: Final = (b"ERROR", b"CRITICAL", b"Traceback", b"never retrieved", b"never awaited")
_SPEED: Final = 4.0
"""Of the people, as a multiple of that of speech."""


class ByHeart:
    """A Transcriber that knows the words of CLIPS."""

    model = "by-heart"

    def fetch(self) -> None:
        """See WhisperTranscriber."""

    def load(self) -> None:
        """See Transcriber."""

    def transcribe(self, passage: Passage, _: threading.Event) -> Words:
        """See Transcriber."""
        known = (clip.text for clip in CLIPS if clip.is_all_in(passage.pcm))
        return Words(next(known, "something else"), passage.language or "en", self.model)


@dataclass(slots=True)
class Tally:
    """What was sent and what became of it."""

    events: Counter[str] = field(default_factory=Counter)
    """What strangers have sent, by kind."""
    answers: Counter[str] = field(default_factory=Counter)
    """What was said to them, where they listened."""
    strangers: Counter[str] = field(default_factory=Counter)
    """How their connections ended."""
    people: Counter[str] = field(default_factory=Counter)
    """What became of the utterances of those who behave."""
    samples: list[tuple[int, int, float]] = field(default_factory=list)
    """Tasks, file descriptors and resident MB of the server, a sample a second."""
    log_bytes: int = 0
    troubles: list[str] = field(default_factory=list)
    """The lines of the server's log that tell of a defect."""

    def report(self, seconds: float) -> None:
        """Print the figures."""
        total = self.events.total()
        print(f"{total:,} events in {seconds:.0f} s ({total / seconds:,.0f} a second).\n")
        for head, counter in (
            (("strangers sent", "events"), self.events),
            (("the server said to them", "times"), self.answers),
            (("their connections ended", "times"), self.strangers),
            (("people who spoke meanwhile", "utterances"), self.people),
        ):
            print_table(head, [[name, f"{times:,}"] for name, times in counter.most_common()])
        quarter = max(len(self.samples) // 4, 1)
        first, last = self.samples[:quarter], self.samples[-quarter:]
        print_table(
            ["of the server, median of", "first quarter", "last quarter"],
            [
                [name, *(f"{median(item[at] for item in part):.0f}" for part in (first, last))]
                for at, name in enumerate(("tasks", "file descriptors", "resident MB"))
            ],
        )
        print(f"{len(self.troubles)} errors in the {self.log_bytes / 1e6:.1f} MB of the server's log.")
        for line in self.troubles[:20]:
            print(line)

    def read_log(self, server: Served) -> None:
        """Look through the log of a server that has ended."""
        file = server.process._stderr  # noqa: SLF001 - it may be larger than what the tests look at
        file.seek(0)
        for line in file:
            self.log_bytes += len(line)
            if any(word in line for word in _TROUBLES):
                self.troubles.append(line.decode().rstrip())
        if server.exit_code != 0:
            self.troubles.append(f"it ended with {server.exit_code}")


class Served:
    """The server process of a fuzz."""

    def __init__(self, process: processes.Process, tasks_file: Path) -> None:
        self.process = process
        self.exit_code: int | None = None
        """Known once it has ended."""
        self._tasks_file = tasks_file

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process._process.pid  # noqa: SLF001 - the tests' own helper

    async def tasks(self) -> int:
        """How many tasks its event loop has."""
        self._tasks_file.unlink(missing_ok=True)
        self.process.send(signal.SIGUSR2)
        give_up_at = time.monotonic() + PATIENCE
        while not self._tasks_file.exists():
            if time.monotonic() > give_up_at or not self.process.is_running:
                raise SystemExit(f"the server does not tell its tasks; its log:\n{self.process.log[-5000:]}")
            await asyncio.sleep(0.01)
        return int(self._tasks_file.read_text(encoding="ascii"))

    @property
    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def resident(self) -> float:
        """Its memory, in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * _PAGE_BYTES / 1e6

    async def sample(self) -> tuple[int, int, float]:
        """Tasks, file descriptors, resident MB."""
        return await self.tasks(), self.descriptors, self.resident


@asynccontextmanager
async def served(**settings: str) -> AsyncIterator[Served]:
    """The server behind a port of its own, stopped in the end; settings by their upper-case names."""
    port = processes.free_port()
    with tempfile.TemporaryDirectory() as folder:
        tasks_file = Path(folder, "tasks")
        process = processes.Process(
            [sys.executable, "-m", "bench.fuzz"],
            {
                "URI": f"tcp://127.0.0.1:{port}",
                "BACKENDS": "local",
                "PYTHONPATH": str(processes.PROJECT),
                _TASKS_FILE: str(tasks_file),
                **settings,
            },
            port=port,
        )
        try:
            await asyncio.to_thread(process.wait_listening)
            server = Served(process, tasks_file)
            yield server
        finally:
            code = await asyncio.to_thread(process.stop)
        server.exit_code = code


async def watch(server: Served, tally: Tally) -> None:
    """Take samples until cancelled."""
    while True:
        tally.samples.append(await server.sample())
        await asyncio.sleep(_SAMPLE_SECONDS)


async def speak(uri: str, random: Random, tally: Tally) -> None:
    """Say one sentence after another, each on a connection of its own, until cancelled."""
    while True:
        tally.people[await say(uri, random.choice(CLIPS))] += 1


async def say(uri: str, clip: Clip, speed: float = _SPEED) -> str:
    """What becomes of one utterance: right, wrong, or why there was no transcript."""
    try:
        async with asyncio.timeout(PATIENCE), AsyncClient.from_uri(uri) as client:
            await client.write_event(Transcribe(language=clip.language).event())
            await client.write_event(AudioStart(16_000, 2, 1).event())
            for at in range(0, len(clip.pcm), 2048):
                chunk = AudioChunk(16_000, 2, 1, clip.pcm[at : at + 2048])
                await client.write_event(chunk.event())
                await asyncio.sleep(chunk.seconds / speed)
            await client.write_event(AudioStop().event())
            event = await client.read_event()
    except TimeoutError:
        return "unanswered"
    except OSError as error:
        return f"unanswered ({type(error).__name__})"
    if event is None:
        return "unanswered (closed)"
    if not Transcript.is_type(event.type):
        return f"error ({event.data.get('code')})"
    return "right" if Transcript.from_event(event).text == clip.text else "wrong"


def measure(
    name: str,
    doc: str | None,
    fuzz: Callable[..., Coroutine[None, None, Tally]],
    *,
    events: int,
    strangers: int,
    people: int,
) -> None:
    """Let them come as the command line says, by default these, then print the figures."""
    parser = argparse.ArgumentParser(prog=f"script/bench {name}", description=doc)
    for option, default, text in (
        ("--events", events, "in all"),
        ("--strangers", strangers, "at once"),
        ("--people", people, "who speak meanwhile"),
        ("--seed", 1, "of what is random"),
    ):
        parser.add_argument(option, type=int, default=default, help=f"{text} (default: %(default)s)")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print_machine()
    started = time.monotonic()
    tally = asyncio.run(fuzz(**vars(options)))
    tally.report(time.monotonic() - started)


def main() -> None:
    """Be the server."""
    from wyoming_server.__main__ import console  # noqa: PLC0415 - what fuzzes does not need it

    signal.signal(signal.SIGUSR2, _tell_tasks)
    with mock.patch("wyoming_server.build.WhisperTranscriber", return_value=ByHeart()):
        console()


def _tell_tasks(*_: object) -> None:
    path = Path(os.environ[_TASKS_FILE])
    new = path.with_suffix(".new")
    new.write_text(str(len(asyncio.all_tasks())), encoding="ascii")
    new.rename(path)


if __name__ == "__main__":
    main()
