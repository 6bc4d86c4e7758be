from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.fake_backends import ScriptedBackend
from tests.virtual_clock import virtual_clock
from wyoming_server.errors import BackendError, RateLimitedError, SignInRefusedError, UnreachableError
from wyoming_server.health import Health
from wyoming_server.recovery import Recovery

if TYPE_CHECKING:
    from wyoming_server.events import Event

REFUSED = UnreachableError("refused")


class Patient:
    """A backend under recovery; `outcomes` are those of its probes, None for well, the last one for ever."""

    def __init__(self, *outcomes: BaseException | float | None) -> None:
        loop = asyncio.get_running_loop()
        self.backend = ScriptedBackend("cloud", probes=outcomes)
        self.events: list[Event] = []
        self.health = Health("cloud", clock=loop.time, chance=lambda: 0.5, listener=self.events.append)
        self.recovery = Recovery(self.backend, self.health)

    def fail(self, error: BackendError) -> None:
        self.health.failed(error)
        self.recovery.watch()


@virtual_clock
async def test_it_probes_until_one_goes_well() -> None:
    patient = Patient(REFUSED, REFUSED, None)
    patient.fail(REFUSED)
    await asyncio.sleep(100)
    assert patient.backend.probed_at == [5.0, 15.0, 35.0]
    assert patient.health.is_closed
    await patient.recovery.close()


@virtual_clock
async def test_a_refused_sign_in_is_left_alone() -> None:
    patient = Patient(None)
    patient.fail(SignInRefusedError("1008"))
    await asyncio.sleep(10_000)
    assert patient.backend.probed_at == []
    assert not patient.health.is_closed
    await patient.recovery.close()


@virtual_clock
async def test_failures_meanwhile_start_no_second_probe() -> None:
    patient = Patient(REFUSED)
    for _ in range(3):
        patient.fail(REFUSED)
    assert len(asyncio.all_tasks()) == 2
    await asyncio.sleep(4)
    patient.fail(REFUSED)  # of the same outage: 5 s from now on
    await asyncio.sleep(4)
    assert patient.backend.probed_at == []
    await asyncio.sleep(2)
    assert patient.backend.probed_at == [9.0]
    await patient.recovery.close()


@virtual_clock
async def test_a_probe_that_hangs_is_given_up() -> None:
    patient = Patient(1000.0, None)
    patient.fail(REFUSED)
    await asyncio.sleep(14)
    assert not patient.health.is_closed
    await asyncio.sleep(12)  # 5 s, 10 s of hanging, 10 s
    assert patient.backend.probed_at == [5.0, 25.0]
    assert patient.health.is_closed
    await patient.recovery.close()


@virtual_clock
async def test_a_defect_in_a_probe_does_not_end_the_watch() -> None:
    patient = Patient(ZeroDivisionError(), None)
    patient.fail(REFUSED)
    await asyncio.sleep(100)
    assert patient.health.is_closed
    await patient.recovery.close()


@virtual_clock
async def test_who_recovers_otherwise_is_not_probed() -> None:
    patient = Patient(None)
    patient.fail(REFUSED)
    await asyncio.sleep(1)
    patient.health.recovered()
    await asyncio.sleep(100)
    assert patient.backend.probed_at == []
    await patient.recovery.close()


@virtual_clock
async def test_it_watches_again_after_a_recovery() -> None:
    patient = Patient(None)
    for _ in range(2):
        patient.fail(REFUSED)
        await asyncio.sleep(10)
        assert patient.health.is_closed
    assert patient.backend.probed_at == [5.0, 15.0]
    await patient.recovery.close()


@virtual_clock
async def test_closing_ends_a_probe_under_way() -> None:
    patient = Patient(1000.0)
    patient.fail(REFUSED)
    await asyncio.sleep(6)
    await patient.recovery.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_clock
async def test_a_probe_that_is_due_sooner_than_the_one_before_is_not_kept_waiting() -> None:
    patient = Patient(None)
    patient.fail(RateLimitedError("429", 300.0))
    await asyncio.sleep(1)
    patient.health.recovered()
    patient.recovery.watch()
    patient.fail(REFUSED)
    await asyncio.sleep(10)
    assert patient.backend.probed_at == [6.0]
    await patient.recovery.close()


@virtual_clock
async def test_a_probe_cancelled_from_within_does_not_end_the_watch() -> None:
    patient = Patient(asyncio.CancelledError(), None)
    patient.fail(REFUSED)
    await asyncio.sleep(100)
    assert patient.health.is_closed
    await patient.recovery.close()
