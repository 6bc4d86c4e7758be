"""A trial takes as long as a person who speaks; on a virtual clock it takes no time at all."""

from __future__ import annotations

import asyncio

import pytest

from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final
from tests.virtual_clock import virtual_clock
from wyoming_server.trial import try_out


@virtual_clock
async def test_the_recording_is_spoken_at_the_speed_of_speech_and_the_clock_starts_at_its_end() -> None:
    quick = ScriptedBackend("quick", CONNECTED, Wait.AUDIO, 0.25, final("words"))
    verdicts = await try_out([quick], 30.0)
    assert [(item.ok, item.text) for item in verdicts] == [(True, "words")]
    assert verdicts[0].ms == pytest.approx(250, abs=1)
    assert asyncio.get_running_loop().time() == pytest.approx(3.7, abs=0.1)


@virtual_clock
async def test_nobody_waits_for_those_who_take_too_long() -> None:
    quick = ScriptedBackend("quick", CONNECTED, Wait.AUDIO, final("words"))
    stuck = ScriptedBackend("stuck", CONNECTED, Wait.FOREVER)
    verdicts = await try_out([stuck, quick], 10.0)
    assert [(item.backend, item.ok, item.code) for item in verdicts] == [
        ("stuck", False, "overdue"),
        ("quick", True, None),
    ]
    assert verdicts[0].message == "no words within 10 s"
    assert asyncio.get_running_loop().time() == 10.0
    assert stuck.asked[0].is_over


@virtual_clock
async def test_a_final_before_the_end_is_none() -> None:
    hasty = ScriptedBackend("hasty", CONNECTED, final("That"))
    (verdict,) = await try_out([hasty], 30.0)
    assert (verdict.ok, verdict.code) == (False, "internal")


@virtual_clock
async def test_nobody_to_try_takes_no_time() -> None:
    assert await try_out([], 30.0) == []
    assert asyncio.get_running_loop().time() == 0.0
