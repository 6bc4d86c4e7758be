"""One backend at work on one utterance, where the race does not show it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from tests.fake_backends import ScriptedBackend, Wait
from wyoming_server.attempt import Attempt, Member
from wyoming_server.backends.base import Request
from wyoming_server.health import Health
from wyoming_server.recording import Recording
from wyoming_server.trace import Reason

if TYPE_CHECKING:
    import pytest


async def test_a_backend_that_had_no_turn_to_give_up_in_a_busy_process_is_called_no_defect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    backend = ScriptedBackend("slow", Wait.FOREVER, cleaning_up=0.001)
    health = Health("slow", clock=loop.time, chance=lambda: 0.5, listener=lambda _: None)
    recording = Recording(max_seconds=60.0, clock=loop.time)
    attempt = Attempt(Member(backend, health), Reason.FIRST, recording, Request())
    attempt.start(lambda *_: None)
    await asyncio.sleep(0)
    loop.call_soon(time.sleep, 0.2)
    await attempt.cancel(0.1)
    assert backend.asked[0].is_over
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
