from __future__ import annotations

import asyncio

from bench.soak import soak


async def test_no_utterance_is_lost_and_nothing_is_left_while_things_go_wrong_at_random() -> None:
    before = asyncio.all_tasks()
    tally = await soak(seconds_of_speech=240.0, speakers=16, speed=4.0, seed=7)
    assert tally.outcomes["right"] > 50
    assert set(tally.outcomes) <= {"right", "left in mid-sentence"}, tally.outcomes
    assert asyncio.all_tasks() == before
