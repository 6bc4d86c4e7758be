"""What the server adds between the last sample and the transcript, and what its speakers cost.

The same sentence is said to the AssemblyAI emulator directly and through the server, in turn, by so many
people at once.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import mean, median
from typing import TYPE_CHECKING, Final

import psutil

from bench.common import Helper, p95, print_machine, print_table, serving
from bench.service import KEY, emulate
from bench.speakers import Phase, speak

if TYPE_CHECKING:
    from bench.common import Server
    from bench.speakers import Heard

_ROUNDS: Final = {1: 10, 16: 6, 100: 4}
_OTHER_ROUNDS: Final = 4
_DELAYS: Final = (
    *("speakers", "utterances", "directly: median", "p95", "through the server: median", "p95"),
    *("**added: median**", "**p95**", "CPU of server", "emulator", "speakers"),
)
_MEMORY: Final = ("speakers at once", "resident", "more than at rest, each")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="script/bench latency", description=__doc__)
    add = parser.add_argument
    add("--speakers", type=int, nargs="+", default=list(_ROUNDS), metavar="N", help="default: 1 16 100")
    add("--rounds", type=int, help="with each number of speakers (default: 10 with 1, 6 with 16, else 4)")
    add("--utterances", type=int, default=6, help="of each speaker in each round (default: %(default)s)")
    add("--chunk-ms", type=int, default=10, help="default: %(default)s, as Home Assistant sends them")
    options = parser.parse_args()
    print_machine()
    cores = sorted(os.sched_getaffinity(0))
    for_server, for_others = cores[:1], cores[1:] or cores
    service, speakers = Helper(emulate, for_others[:1]), Helper(speak, for_others[-1:])
    url = service.pipe.recv()
    settings = {
        "LOCAL_ENABLED": "false",
        "ASSEMBLYAI_API_KEY": KEY,
        "ASSEMBLYAI_STREAMING_URL": url,
        "ASSEMBLYAI_SYNC_URL": "http://127.0.0.1:9",  # nobody: what is measured is the first backend alone
        "MAX_CONNECTIONS": "5000",
    }
    delays, memory = [], []
    with serving(settings, for_server) as server:
        bench = _Bench(server, service, speakers, url, options.chunk_ms)
        time.sleep(1)
        at_rest = bench.memory()
        bench.run(1, 1, through_server=True)  # the first utterance is slower: not everything is loaded yet
        for number in options.speakers:
            rounds = options.rounds or _ROUNDS.get(number, _OTHER_ROUNDS)
            delays.append(bench.compare(number, rounds, options.utterances))
            each = (bench.most_memory - at_rest) / number
            memory.append([str(number), f"{bench.most_memory:.1f} MB", f"{each * 1000:.0f} kB"])
    service.stop()
    speakers.stop()
    print_table(_DELAYS, delays)
    print_table(_MEMORY, [["none yet", f"{at_rest:.1f} MB", ""], *memory])


class _Bench:
    """The processes under measurement."""

    def __init__(self, server: Server, service: Helper, speakers: Helper, url: str, chunk_ms: int) -> None:
        self._port = server.port
        self._speakers = speakers
        self._url = url
        self._chunk_ms = chunk_ms
        self._processes = [psutil.Process(server.pid), psutil.Process(service.pid)]
        self.most_memory = 0.0
        """In megabytes, in the latest comparison."""

    def memory(self) -> float:
        """What the server keeps resident, in megabytes."""
        return float(self._processes[0].memory_info().rss) / 1e6

    def run(self, speakers: int, utterances: int, *, through_server: bool) -> tuple[Heard, list[float]]:
        """One phase: what was heard, and the shares of a core that server, emulator and speakers took."""
        phase = Phase(
            speakers=speakers,
            utterances=utterances,
            chunk_ms=self._chunk_ms,
            service=self._url,
            port=self._port if through_server else None,
        )
        before, began = self._cpu_seconds(), time.perf_counter()
        self._speakers.pipe.send(phase)
        while not self._speakers.pipe.poll(0.25):
            self.most_memory = max(self.most_memory, self.memory())
        heard = self._speakers.pipe.recv()
        took = time.perf_counter() - began
        shares = [(after - start) / took for start, after in zip(before, self._cpu_seconds(), strict=True)]
        return heard, [*shares, heard.cpu_share]

    def compare(self, speakers: int, rounds: int, utterances: int) -> list[str]:
        """Directly and through the server, in turn; a row of the table."""
        self.most_memory = 0.0
        direct: list[float] = []
        served: list[float] = []
        shares: list[list[float]] = []
        for _ in range(rounds):
            direct += self.run(speakers, utterances, through_server=False)[0].delays
            heard, cpu = self.run(speakers, utterances, through_server=True)
            served += heard.delays
            shares.append(cpu)
        # Pairs: the same speaker, the same utterance, the same round.
        added = [longer - shorter for longer, shorter in zip(served, direct, strict=True)]
        figures = [figure for values in (direct, served, added) for figure in (median(values), p95(values))]
        return [
            *(str(speakers), str(len(added))),
            *(f"{seconds * 1000:.2f} ms" for seconds in figures),
            *(f"{mean(column):.0%}" for column in zip(*shares, strict=True)),
        ]

    def _cpu_seconds(self) -> list[float]:
        return [sum(process.cpu_times()[:2]) for process in self._processes]


if __name__ == "__main__":
    main()
