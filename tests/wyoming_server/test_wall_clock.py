"""The clock on the wall jumps (summer time, a battery that is empty): who looks at it, and for what."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
_WALL = {
    ("time", "time"),
    ("datetime", "now"),
    ("datetime", "today"),
    ("date", "today"),
    ("time", "localtime"),
}
_USES = {
    "wyoming_server/build.py": 1,  # the day of the costs
    "wyoming_server/house.py": 2,  # the dates of the traces, the hours of the day
    "modal_whisper/weights.py": 1,  # what an aborted fetch has left is an hour old
}


def looks(code: str) -> int:
    """How often it asks the clock on the wall."""
    return sum(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in _WALL
        for node in ast.walk(ast.parse(code))
    )


def test_nothing_but_days_and_dates_goes_by_the_clock_on_the_wall() -> None:
    files = [*PROJECT.glob("wyoming_server/**/*.py"), *PROJECT.glob("modal_whisper/**/*.py")]
    found = {str(file.relative_to(PROJECT)): looks(file.read_text(encoding="utf-8")) for file in files}
    assert {name: count for name, count in found.items() if count} == _USES


@pytest.mark.parametrize("code", ["time.time()", "f = datetime.now", "date.today()"])
def test_a_look_at_the_clock_on_the_wall_is_found(code: str) -> None:
    assert looks(code) == 1
