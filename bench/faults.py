"""Whatever goes wrong with a backend, over real sockets: who answers, what gets lost, and what it costs.

Prints a line for each kind of fault and the point at which it comes, and a summary.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.common import print_machine, print_table
from bench.fault_kinds import baselines, cells
from bench.fault_scene import play

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.fault_kinds import Cell
    from bench.fault_scene import Result

_IN_TIME: Final = 3.0
_CLOSE: Final = 0.05
_HEDGE: Final = 0.6
_HEAD: Final = (
    "fault",
    "point",
    "words right",
    "every byte",
    "answered by",
    "after audio-stop",
    "backup alone",
    "difference",
)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="script/bench faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="utterances for each cell (default: 5)")
    parser.add_argument("--at-once", type=int, default=12, help="how many people speak at once (default: 12)")
    parser.add_argument("--only", default="", help="only the kinds with this in their names")
    options = parser.parse_args()
    logging.disable()  # everybody complains about the faults that we make
    print_machine()
    asyncio.run(_measure(options.runs, options.at_once, options.only))


async def _measure(runs: int, at_once: int, only: str) -> None:
    matrix = [cell for cell in cells() if only in cell.kind]
    results: dict[Cell, list[Result]] = defaultdict(list)
    gate = asyncio.Semaphore(at_once)
    places = asyncio.Semaphore(3 * at_once)  # who has answered may take seconds to tidy up

    async def add(cell: Cell) -> None:
        async with places:
            results[cell].append(await play(cell, gate))

    turns = [cell for cell in matrix for _ in range(runs)]
    turns += [cell for cell in baselines() for _ in range(3 * runs)]
    random.Random(1).shuffle(turns)
    async with asyncio.TaskGroup() as group:
        for cell in turns:
            group.create_task(add(cell))
    alone = {cell.baseline: _median(results[cell]) for cell in baselines()}
    print_table(_HEAD, [_row(cell, results[cell], alone[cell.baseline]) for cell in matrix])
    _sum_up(matrix, results, alone)


def _row(cell: Cell, results: list[Result], alone: float) -> list[str]:
    after = _median(results)
    return [
        cell.kind,
        cell.point,
        _share(result.are_words_right for result in results),
        _share(result.is_complete for result in results),
        ", ".join(sorted({result.answer.backend or str(result.answer.error) for result in results})),
        f"{after * 1000:.0f} ms",
        f"{alone * 1000:.0f} ms",
        f"{(after - alone) * 1000:+.0f} ms",
    ]


def _sum_up(
    matrix: list[Cell], results: dict[Cell, list[Result]], alone: dict[tuple[str, bool], float]
) -> None:
    every = [(cell, result) for cell in matrix for result in results[cell]]
    answered = sum(result.are_words_right and result.is_complete for _, result in every)
    print(f"kinds: {len({cell.kind for cell in matrix})}, cells: {len(matrix)}, utterances: {len(every)}")
    print(f"answered with the right words, every byte heard: {answered} ({answered / len(every):.2%})")
    costs = {cell: _median(results[cell]) - alone[cell.baseline] for cell in matrix}
    _sum_up_costs("faults that show before audio-stop", [cell for cell in matrix if cell.shows], costs, 0.0)
    _sum_up_costs("other faults", [cell for cell in matrix if not cell.shows], costs, _HEDGE)
    cell, slowest = max(every, key=lambda item: item[1].answer.seconds_after_stop)
    late = sum(result.answer.seconds_after_stop > _IN_TIME for _, result in every)
    print(f"slowest: {slowest.answer.seconds_after_stop:.2f} s ({cell.kind}, {cell.point}); over 3 s: {late}")


def _sum_up_costs(title: str, matrix: list[Cell], costs: dict[Cell, float], allowed: float) -> None:
    if not matrix:
        return
    limit = allowed + _CLOSE
    within = sum(costs[cell] <= limit for cell in matrix)
    worst = max(matrix, key=costs.__getitem__)
    print(
        f"{title}: {within} of {len(matrix)} cells within {limit * 1000:.0f} ms of the backup alone; "
        f"worst: {worst.kind}, {worst.point} ({costs[worst] * 1000:+.0f} ms)"
    )


def _median(results: list[Result]) -> float:
    return median(result.answer.seconds_after_stop for result in results)


def _share(values: Iterable[bool]) -> str:
    found = list(values)
    return "yes" if all(found) else f"{sum(found)} of {len(found)}"


if __name__ == "__main__":
    main()
