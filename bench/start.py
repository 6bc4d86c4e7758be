"""How long the server takes from its start until it listens and answers Describe."""

from __future__ import annotations

import argparse
from statistics import median
from typing import Final

from bench.common import p95, print_machine, print_table, serving

_SERVERS: Final[dict[str, dict[str, str]]] = {
    "without the local model": {"LOCAL_ENABLED": "false", "ASSEMBLYAI_API_KEY": "any-key"},
    "with the local model": {},
}


def main() -> None:
    """Start the server many times, in turn without and with the local model."""
    parser = argparse.ArgumentParser(prog="script/bench start", description=__doc__)
    parser.add_argument("--starts", type=int, default=30, help="of each kind (default: %(default)s)")
    starts = parser.parse_args().starts
    print_machine()
    taken: dict[str, list[float]] = {name: [] for name in _SERVERS}
    for _ in range(1 + starts):
        for name, settings in _SERVERS.items():
            with serving(settings) as server:
                taken[name].append(server.start_seconds)
    rows = []
    for name, (first, *others) in taken.items():
        figures = (median(others), p95(others), max(others), first)
        rows.append([name, *(f"{seconds:.2f} s" for seconds in figures)])
    print_table(["server", "median", "p95", "slowest", "the first start, left out of these"], rows)


if __name__ == "__main__":
    main()
