from __future__ import annotations

import asyncio

import pytest

from bench.fault_kinds import AFTER, CONNECTING, LAST, cells
from bench.fault_scene import play

_REPRESENTATIVES = {
    ("refused", CONNECTING),
    ("unroutable", CONNECTING),
    ("TLS not trusted", CONNECTING),
    ("DNS: no such name", CONNECTING),
    ("HTTP 401", CONNECTING),
    ("HTTP 429", CONNECTING),
    ("HTTP 503", CONNECTING),
    ("Begin never", CONNECTING),
    ("close 1000", "mid-speech"),
    ("close 1011", LAST),
    ("error 1008", "first second"),
    ("error 3005", AFTER),
    ("reset", "mid-speech"),
    ("half-closed", "mid-speech"),
    ("one byte a second", "mid-speech"),
    ("stall", AFTER),
    ("stops reading", "mid-speech"),
    ("final with no words", AFTER),
    ("garbage JSON", "mid-speech"),
    ("finals out of order", AFTER),
    ("HTTP 503; worker: cold for 20 s", CONNECTING),
    ("reset; worker: out of memory", "mid-speech"),
    ("HTTP 503; worker: overloaded", CONNECTING),
    ("reset; worker: answers empty", AFTER),
    ("reset; worker: refused", "mid-speech"),
    ("stall; worker: stalls", AFTER),
}


@pytest.mark.usefixtures("soon_gives_up_on_endings")
async def test_whatever_goes_wrong_somebody_who_heard_every_byte_gives_the_words() -> None:
    matrix = [cell for cell in cells() if (cell.kind, cell.point) in _REPRESENTATIVES]
    assert len(matrix) == len(_REPRESENTATIVES)
    gate = asyncio.Semaphore(9)

    results = await asyncio.gather(*(play(cell, gate) for cell in matrix))

    assert {
        (cell.kind, cell.point): (result.answer.backend, result.are_words_right, result.is_complete)
        for cell, result in zip(matrix, results, strict=True)
    } == {(cell.kind, cell.point): (cell.backup, True, True) for cell in matrix}
