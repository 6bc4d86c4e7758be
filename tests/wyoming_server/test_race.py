from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.sounds import silence
from tests.virtual_clock import virtual_clock
from tests.wyoming_server.racing import PIECE_MS, House, talk
from wyoming_server.breaker import State
from wyoming_server.errors import (
    AllFailedError,
    DeadlineError,
    DisconnectedError,
    NoWordsError,
    SignInRefusedError,
    UnreachableError,
)
from wyoming_server.events import Answered, BackendFailed, BreakerChanged
from wyoming_server.hedging import HedgeBudget, Strategy
from wyoming_server.trace import Outcome, Reason

if TYPE_CHECKING:
    from wyoming_server.backends.base import Hypothesis

STOP = 2.0
REFUSED = UnreachableError("refused")


def good(name: str, after: float = 0.2, **more: object) -> ScriptedBackend:
    """Connects at once, and answers so many seconds after the end."""
    return ScriptedBackend(name, CONNECTED, Wait.AUDIO, after, final(name), **more)  # type: ignore[arg-type]  # test only


def stalled(name: str, *shown: float | Hypothesis) -> ScriptedBackend:
    return ScriptedBackend(name, CONNECTED, *shown, Wait.FOREVER, streams=True)


@virtual_clock
async def test_a_healthy_first_is_asked_alone() -> None:
    backup = good("backup")
    result = await House(good("first"), backup).hear(STOP)
    assert (result.final.text, result.final.backend) == ("first", "first")
    assert result.at == pytest.approx(STOP + 0.2)
    assert result.started == {"first": Reason.FIRST}
    assert (backup.asked, backup.warmed_at) == ([], [])


@virtual_clock
async def test_no_connection_one_second_into_the_speech_starts_the_next() -> None:
    first, backup = ScriptedBackend("first", Wait.FOREVER), good("backup", 0.3)
    result = await House(first, backup).hear(STOP)
    assert result.started == {"first": Reason.FIRST, "backup": Reason.SLOW_CONNECT}
    assert backup.asked[0].at == pytest.approx(1.0, abs=0.3)  # what the detector needs to be sure
    assert result.at == pytest.approx(STOP + 0.3)
    assert bytes(backup.asked[0].received) == b"".join(talk(STOP))


@virtual_clock
async def test_nobody_hurries_before_the_person_speaks() -> None:
    first, backup = ScriptedBackend("first", Wait.FOREVER), good("backup")
    await House(first, backup).hear(6.0, pcm=talk(6.0, quiet=4.0))
    assert backup.asked[0].at == pytest.approx(5.0, abs=0.4)


@virtual_clock
async def test_whoever_is_next_warms_up_when_the_connection_is_slow_and_is_not_asked_if_it_comes() -> None:
    first = ScriptedBackend("first", 0.8, CONNECTED, Wait.END, 0.1, final("first"))
    backup, last = good("backup"), good("last")
    result = await House(first, backup, last).hear(STOP)
    assert result.final.backend == "first"
    assert [backup.warmed_at, last.warmed_at] == [[pytest.approx(0.3, abs=0.3)]] * 2
    assert backup.asked == []


@virtual_clock
async def test_three_seconds_of_speech_without_a_hypothesis_start_the_next() -> None:
    first, backup = stalled("first"), good("backup", 0.3)
    result = await House(first, backup).hear(5.0)
    assert result.started["backup"] is Reason.NO_PROGRESS
    assert backup.asked[0].at == pytest.approx(3.0, abs=0.4)
    assert result.at == pytest.approx(5.3)


@virtual_clock
async def test_each_hypothesis_is_progress() -> None:
    first = ScriptedBackend(
        "first", CONNECTED, 2.0, partial("a"), 2.0, partial("b"), Wait.END, 0.1, final("first"), streams=True
    )
    backup = good("backup")
    result = await House(first, backup).hear(6.0)
    assert result.final.backend == "first"
    assert backup.asked == []


@virtual_clock
async def test_a_pause_of_the_speaker_is_no_lack_of_progress() -> None:
    first = ScriptedBackend(
        "first", CONNECTED, 1.0, partial("turn on"), Wait.END, 0.1, final("first"), streams=True
    )
    backup = good("backup")
    pauses = [*talk(1.5), *[silence(PIECE_MS)] * 150]
    result = await House(first, backup).hear(10.5, pcm=pauses)
    assert result.final.backend == "first"
    assert backup.asked == []


@virtual_clock
async def test_a_backend_that_hears_only_whole_utterances_owes_no_progress() -> None:
    backup = good("backup")
    result = await House(good("first"), backup).hear(9.0)
    assert result.final.backend == "first"
    assert backup.asked == []


@virtual_clock
async def test_a_stall_after_the_end_costs_the_hedge_delay() -> None:
    first = stalled("first", partial("turn on"))
    result = await House(first, good("backup", 0.3)).hear(STOP)
    assert result.started["backup"] is Reason.HEDGE
    assert result.at == pytest.approx(STOP + 0.6 + 0.3)
    assert first.asked[0].is_over


@virtual_clock
async def test_the_hedge_delay_is_the_backends_own_p95() -> None:
    house = House(ScriptedBackend("first", CONNECTED, Wait.END, 0.4, final("first")), good("backup", 0.3))
    for _ in range(10):
        assert (await house.hear(STOP)).final.backend == "first"
    house.engine.backends[0].script = (CONNECTED, Wait.FOREVER)  # type: ignore[attr-defined]  # a ScriptedBackend
    assert (await house.hear(STOP)).at == pytest.approx(STOP + 0.4 + 0.3)


@virtual_clock
async def test_the_one_that_was_late_still_wins_if_it_is_sooner() -> None:
    backup = good("backup", 0.5)
    result = await House(ScriptedBackend("first", CONNECTED, Wait.END, 0.9, final("first")), backup).hear(
        STOP
    )
    assert (result.final.backend, result.at) == ("first", pytest.approx(STOP + 0.9))
    assert backup.asked[0].is_over
    assert [attempt.outcome for attempt in result.trace.attempts] == [Outcome.WON, Outcome.LOST]


@virtual_clock
async def test_everybody_has_been_started_a_second_and_a_half_after_the_stop() -> None:
    lame = [stalled(f"lame{number}") for number in range(3)]
    result = await House(*lame, good("last", 0.8)).hear(STOP)
    assert result.at == pytest.approx(STOP + 1.5 + 0.8)


@virtual_clock
async def test_failover_asks_the_next_only_when_one_has_failed() -> None:
    first = ScriptedBackend("first", CONNECTED, Wait.END, 1.9, DisconnectedError("dropped"))
    result = await House(first, good("backup", 0.3), strategy=Strategy.FAILOVER).hear_last(STOP)
    assert result.started["backup"] is Reason.FAILED
    assert result.at == pytest.approx(STOP + 1.9 + 0.3)


@virtual_clock
async def test_a_race_asks_everybody_at_once() -> None:
    backends = [good("slow", 0.9), good("quick", 0.1), good("middling", 0.5)]
    result = await House(*backends, strategy=Strategy.RACE).hear(STOP)
    assert result.final.backend == "quick"
    assert [backend.asked[0].at for backend in backends] == [0.0] * 3
    assert set(result.started.values()) == {Reason.FIRST, Reason.RACE}


@virtual_clock
async def test_losing_a_race_is_no_lateness() -> None:
    house = House(good("slow", 0.9), good("quick", 0.1), strategy=Strategy.RACE)
    for _ in range(5):
        await house.hear(STOP)
    assert not [event for event in house.events if isinstance(event, BreakerChanged)]


@virtual_clock
async def test_a_failure_while_a_backup_is_at_work_starts_nobody_else() -> None:
    first = ScriptedBackend("first", 1.5, REFUSED)
    backup, last = good("backup", 0.4), good("last")
    result = await House(first, backup, last).hear_last(STOP)
    assert result.final.backend == "backup"
    assert last.asked == []
    assert BackendFailed("first", REFUSED, "backup", pytest.approx(1.5, abs=0.07)) in result.events


@virtual_clock
async def test_partials_are_those_of_one_backend_until_it_falls_away() -> None:
    first = ScriptedBackend(
        "first", 1.2, CONNECTED, partial("f1"), 0.2, partial("f2"), 0.2, DisconnectedError("dropped")
    )
    backup = ScriptedBackend(
        "backup", CONNECTED, partial("b1"), 0.35, partial("b2"), 0.5, partial("b3"), Wait.END, final("backup")
    )
    result = await House(first, backup).hear_last(3.0)
    assert result.partials == ["b1", "f1", "f2", "b3"]


@virtual_clock
async def test_an_empty_final_after_speech_asks_the_next() -> None:
    deaf = ScriptedBackend("deaf", CONNECTED, Wait.END, 0.1, final(""))
    result = await House(deaf, good("backup", 0.3)).hear(STOP)
    assert result.final.text == "backup"
    assert isinstance(next(e for e in result.events if isinstance(e, BackendFailed)).error, NoWordsError)


@virtual_clock
async def test_an_empty_final_is_nothing_that_a_breaker_remembers() -> None:
    house = House(ScriptedBackend("deaf", CONNECTED, Wait.END, 0.1, final("")), good("backup", 0.3))
    for _ in range(5):
        await house.hear(STOP)
    assert not [event for event in house.events if isinstance(event, BreakerChanged)]


@virtual_clock
async def test_a_backend_known_bad_costs_the_next_utterance_nothing() -> None:
    first = ScriptedBackend("first", 0.5, REFUSED, probes=[REFUSED])
    house = House(first, good("backup", 0.3))
    await house.hear(STOP)
    result = await house.hear(STOP)
    assert result.started == {"backup": Reason.FIRST}
    assert result.at == pytest.approx(STOP + 0.3)
    assert len(first.asked) == 1
    await house.engine.close()


@virtual_clock
async def test_a_probe_in_the_background_brings_it_back() -> None:
    first = ScriptedBackend("first", 0.5, REFUSED, probes=[None])
    house = House(first, good("backup", 0.3))
    await house.hear(STOP)
    await asyncio.sleep(10)
    first.script = (CONNECTED, Wait.END, final("first"))
    assert (await house.hear(STOP)).final.backend == "first"
    states = [event.state for event in house.events if isinstance(event, BreakerChanged)]
    assert states == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    await house.engine.close()


@virtual_clock
async def test_a_refused_sign_in_stays_out_until_somebody_says_otherwise() -> None:
    first = ScriptedBackend("first", SignInRefusedError("1008"))
    house = House(first, good("backup", 0.3))
    await house.hear(STOP)
    await asyncio.sleep(100_000)
    await house.hear(STOP)
    assert len(first.asked) == 1
    house.engine.close_breakers()
    first.script = (CONNECTED, Wait.END, final("first"))
    assert (await house.hear(STOP)).final.backend == "first"


@virtual_clock
async def test_who_is_known_bad_is_the_last_resort_and_no_hedge() -> None:
    first = ScriptedBackend("first", 0.1, REFUSED, probes=[REFUSED])
    backup = ScriptedBackend("backup", CONNECTED, Wait.END, 3.0, final("backup"))
    house = House(first, backup)
    await house.hear(STOP)
    result = await house.hear(STOP)
    assert (result.final.backend, len(first.asked)) == ("backup", 1)
    backup.script = (CONNECTED, Wait.END, DisconnectedError("dropped"))
    first.script = (CONNECTED, Wait.END, 0.5, final("first"))
    result = await house.hear(STOP)
    assert (result.final.backend, result.started["first"]) == ("first", Reason.FAILED)
    await house.engine.close()


@virtual_clock
async def test_who_is_known_bad_is_asked_beside_one_that_hangs_while_there_is_time() -> None:
    first = ScriptedBackend("first", 0.1, REFUSED, probes=[1000.0])
    house = House(first, good("backup"))
    await house.hear(STOP)
    house.engine.backends[1].script = (CONNECTED, Wait.FOREVER)  # type: ignore[attr-defined]  # a ScriptedBackend
    first.script = (CONNECTED, Wait.END, 0.5, final("first"))
    result = await house.hear(STOP)
    assert (result.final.text, result.at) == ("first", pytest.approx(STOP + 4.0 + 0.5))
    await house.engine.close()


@virtual_clock
async def test_where_one_is_known_bad_those_behind_it_warm_up_at_once() -> None:
    first = ScriptedBackend("first", 0.1, REFUSED, probes=[REFUSED])
    backup, last = good("backup"), good("last")
    house = House(first, backup, last)
    await house.hear(STOP)
    begun = asyncio.get_running_loop().time()
    await house.hear(STOP)
    assert last.warmed_at[-1] == begun
    await house.engine.close()


@virtual_clock
async def test_lateness_three_times_in_a_row_is_an_outage() -> None:
    first = stalled("first")
    house = House(first, good("backup", 0.3))
    for _ in range(3):
        assert (await house.hear(STOP)).final.backend == "backup"
    assert (await house.hear(STOP)).started == {"backup": Reason.FIRST}
    await house.engine.close()


@virtual_clock
async def test_without_budget_a_punctual_backend_gets_more_time_but_no_user_is_left_alone() -> None:
    house = House(stalled("first"), good("backup", 0.3), budget=HedgeBudget(0.0))
    delays = []
    for _ in range(5):
        delays.append((await house.hear(STOP)).at - STOP)
        house.engine.close_breakers()  # and so it counts as well again
    assert delays == pytest.approx([0.9, 0.9, 0.9, 1.8, 1.8])


@virtual_clock
async def test_hedges_against_a_backend_that_is_late_again_are_free() -> None:
    house = House(stalled("first"), good("backup", 0.3), budget=HedgeBudget(0.0))
    delays = [(await house.hear(STOP)).at - STOP for _ in range(2)]
    house.engine.close_breakers()
    delays += [(await house.hear(STOP)).at - STOP for _ in range(2)]
    assert delays == pytest.approx([0.9] * 4)  # two of the three saved hedges are spent


@virtual_clock
async def test_who_is_over_budget_is_asked_after_the_others() -> None:
    house = House(good("paid"), good("free"), prices={"paid": 3600.0}, daily=10.0)
    house.costs.add("paid", 10)
    assert (await house.hear(STOP)).started == {"free": Reason.FIRST}
    await asyncio.sleep(86_400)
    assert (await house.hear(STOP)).started == {"paid": Reason.FIRST}


@virtual_clock
async def test_silence_is_answered_at_once_with_nothing() -> None:
    first = stalled("first")
    result = await House(first, good("backup")).hear(STOP, pcm=[silence(PIECE_MS)] * 33)
    assert (result.final.text, result.final.backend, result.at) == ("", "", STOP)
    assert first.asked[0].is_over


@virtual_clock
async def test_if_all_fail_the_reasons_are_told() -> None:
    result = await House(ScriptedBackend("a", REFUSED), ScriptedBackend("b", 0.5, REFUSED)).hear_last(STOP)
    assert isinstance(result.error, AllFailedError)
    assert set(result.error.causes) == {"a", "b"}
    assert result.trace.error == "all-backends-failed"


@virtual_clock
async def test_nobody_by_the_deadline_is_an_error_then() -> None:
    result = await House(stalled("a"), stalled("b")).hear(STOP)
    assert isinstance(result.error, DeadlineError)
    assert result.at == pytest.approx(STOP + 8.0)


@virtual_clock
async def test_the_trace_tells_it_all() -> None:
    first = ScriptedBackend(
        "first", 0.25, CONNECTED, 0.5, partial("turn"), 0.25, DisconnectedError("dropped")
    )
    backup = ScriptedBackend("backup", 0.1, CONNECTED, Wait.AUDIO, 0.4, final("backup"))
    house = House(first, backup, good("last"), prices={"first": 3600.0, "backup": 7200.0})
    result = await house.hear_last(STOP)
    trace = result.trace
    assert trace.audio_seconds == pytest.approx(STOP, abs=0.07)
    assert trace.last_speech == pytest.approx(STOP, abs=0.3)
    assert (trace.ended, trace.answered, trace.backend, trace.error) == (STOP, STOP + 0.4, "backup", None)
    lost, won = trace.attempts
    assert (lost.backend, lost.reason, lost.outcome, lost.error) == (
        "first",
        Reason.FIRST,
        Outcome.FAILED,
        "disconnected",
    )
    assert (lost.started, lost.connected, lost.first_partial, lost.final) == (0.0, 0.25, 0.75, None)
    assert lost.over == 1.0
    assert (won.backend, won.reason, won.outcome) == ("backup", Reason.FAILED, Outcome.WON)
    assert (won.started, won.connected, won.first_partial) == (1.0, pytest.approx(1.1), None)
    assert won.final == won.over == pytest.approx(STOP + 0.4)
    assert won.bytes_read == len(b"".join(talk(STOP)))
    assert won.dollars == pytest.approx(2 * 1.3)
    assert next(event for event in result.events if isinstance(event, Answered)).ms == pytest.approx(400)


@virtual_clock
async def test_a_hedge_that_fails_is_followed_at_once_though_the_late_one_is_still_at_it() -> None:
    last = good("last", 0.3)
    result = await House(stalled("first"), ScriptedBackend("backup", REFUSED), last).hear_last(STOP)
    assert result.started["last"] is Reason.FAILED
    assert result.at == pytest.approx(STOP + 0.6 + 0.3)


class GrantsLater(HedgeBudget):
    """Denies the first hedge only."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self._asked = 0

    def spend(self) -> bool:
        self._asked += 1
        return self._asked > 1


@virtual_clock
async def test_a_hedge_that_was_denied_against_one_backend_is_not_denied_against_the_next() -> None:
    first = ScriptedBackend("first", CONNECTED, Wait.END, 0.7, REFUSED)
    house = House(first, stalled("backup"), good("last", 0.1), budget=GrantsLater())
    assert (await house.hear_last(STOP)).at == pytest.approx(STOP + 0.7 + 0.6 + 0.1)


@virtual_clock
async def test_a_backup_is_measured_from_when_it_was_asked() -> None:
    house = House(stalled("first"), good("backup", 0.35))
    for _ in range(10):
        await house.hear(STOP)
        house.engine.close_breakers()
    assert house.engine._members[1].health.p95 == pytest.approx(0.35)


@virtual_clock
async def test_who_was_late_and_wins_after_all_is_not_late() -> None:
    first = ScriptedBackend("first", CONNECTED, Wait.END, 0.9, final("first"))
    house = House(first, good("backup", 0.5))
    for _ in range(4):
        assert (await house.hear(STOP)).final.backend == "first"
    assert not [event for event in house.events if isinstance(event, BreakerChanged)]
    assert house.engine._members[0].health.is_punctual


@virtual_clock
async def test_every_utterance_earns_its_share_of_a_hedge() -> None:
    house = House(stalled("first"), good("backup", 0.3), budget=HedgeBudget(1.0))
    delays = []
    for _ in range(6):
        delays.append((await house.hear(STOP)).at - STOP)
        house.engine.close_breakers()
    assert delays == pytest.approx([0.9] * 6)


@virtual_clock
async def test_who_is_over_budget_is_still_asked_before_who_is_known_bad() -> None:
    broken = ScriptedBackend("broken", SignInRefusedError("1008"))
    house = House(broken, good("paid"), prices={"paid": 3600.0}, daily=10.0)
    await house.hear(STOP)
    house.costs.add("paid", 10)
    assert (await house.hear(STOP)).started == {"paid": Reason.FIRST}
