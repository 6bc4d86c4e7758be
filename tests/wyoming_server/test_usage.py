"""Seconds by the day, over restarts and under clocks that jump."""

from __future__ import annotations

import json
import stat
from contextlib import suppress
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wyoming_server.usage import MAX_DAYS, Usage, UsageError, UsageFile

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 11, 24)
UNSET = date(1970, 1, 1)
BACKENDS = ("assemblyai", "whisper")
# A machine without a battery, years to both sides, months and days that meet.
DAYS = [
    *(UNSET, UNSET + timedelta(days=1), date(2025, 3, 1), date(2026, 10, 31), date(2026, 11, 1)),
    *(
        TODAY,
        TODAY + timedelta(days=1),
        date(2026, 11, 30),
        date(2026, 12, 1),
        date(2027, 11, 24),
        date(2038, 1, 19),
    ),
]


def used(*days: tuple[date, float]) -> Usage:
    usage = Usage()
    for day, seconds in days:
        usage.add(day, "assemblyai", seconds)
    return usage


def sums(usage: Usage, today: date) -> tuple[float, float]:
    """Of the day and of the month."""
    return usage.of_day(today, "assemblyai"), usage.of_month(today, "assemblyai")


def test_a_month_is_the_sum_of_its_days() -> None:
    usage = used((date(2026, 10, 31), 1), (date(2026, 11, 1), 2), (TODAY, 4), (TODAY, 8))
    assert sums(usage, TODAY) == (12, 14)
    assert sums(usage, date(2026, 10, 31)) == (1, 1)
    assert sums(usage, date(2027, 11, 24)) == (0, 0)
    assert usage.of_day(TODAY, "whisper") == 0


@pytest.mark.parametrize("wrong", [date(2027, 1, 1), date(2038, 1, 19), date(2026, 11, 23), date(2026, 6, 1)])
def test_a_clock_that_jumps_and_comes_back_loses_nothing_and_counts_nothing_twice(wrong: date) -> None:
    usage = used((date(2026, 11, 3), 100), (TODAY, 10), (wrong, 1))
    in_the_month = 111 if (wrong.year, wrong.month) == (2026, 11) else 110
    assert sums(usage, TODAY) == (10, in_the_month)
    usage.add(TODAY, "assemblyai", 5)
    assert sums(usage, TODAY) == (15, in_the_month + 5)


def test_until_the_clock_of_a_machine_without_a_battery_is_set_the_last_day_goes_on() -> None:
    usage = used((date(2026, 11, 3), 100), (TODAY, 10))
    assert sums(usage, UNSET) == (10, 110)
    usage.add(UNSET, "assemblyai", 1)
    assert sums(usage, TODAY) == (11, 111)
    assert sums(usage, TODAY + timedelta(days=1)) == (0, 111)


def test_the_last_day_is_not_one_that_a_clock_showed_by_mistake() -> None:
    usage = used((TODAY, 10), (date(2038, 1, 19), 1), (TODAY, 10))
    assert sums(Usage.from_text(usage.as_text()), UNSET) == (20, 20)


def test_a_clock_that_is_never_set_has_days_all_the_same() -> None:
    usage = used((UNSET, 1), (UNSET + timedelta(days=1), 2))
    assert sums(usage, UNSET + timedelta(days=1)) == (2, 3)
    assert sums(usage, UNSET + timedelta(days=40)) == (0, 0)


def test_it_never_grows_beyond_two_months_and_forgets_what_was_added_to_first() -> None:
    usage = used(*((TODAY + timedelta(days=number), 1.0) for number in range(500)))
    assert len(json.loads(usage.as_text())["days"]) == MAX_DAYS
    last = TODAY + timedelta(days=499)
    assert sums(usage, last) == (1, last.day)
    # Not what is oldest by date: the clock may show anything.
    for number in range(MAX_DAYS - 1):
        usage.add(date(2030, 1, 1) + timedelta(days=number), "assemblyai", 1)
    assert sums(usage, last) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "5", "null", '{"days": 5}', '{"days": [5]}', '{"days": [{}]}', "[" * 100_000),
        '{"days": [{"date": "yesterday", "seconds": {}}]}',
        '{"days": [{"date": 5, "seconds": {}}]}',
        '{"days": [{"date": "2026-11-24", "seconds": [1]}]}',
        *(
            f'{{"days": [{{"date": "2026-11-24", "seconds": {{"whisper": {value}}}}}]}}'
            for value in ("-1", "NaN", "Infinity", "1e300", '"5"', "null", "9" * 5000)
        ),
    ],
)
def test_what_is_no_usage_is_not_believed(text: str) -> None:
    with pytest.raises(UsageError):
        Usage.from_text(text)


@given(st.text())
def test_no_text_does_worse_than_to_be_refused(text: str) -> None:
    with suppress(UsageError):
        Usage.from_text(text)


class Household(RuleBasedStateMachine):
    """A server that is used, saved, restarted and killed while its clock shows what it likes.

    The model is a list of what was used, and of how much of that was saved.
    """

    def __init__(self) -> None:
        super().__init__()
        self.usage = Usage()
        self.saved = self.usage.as_text()
        self.added: list[tuple[date, str, float]] = []
        self.saved_until = 0
        self.clock = TODAY

    @rule(day=st.sampled_from(DAYS))
    def jump(self, day: date) -> None:
        self.clock = day

    @rule(backend=st.sampled_from(BACKENDS), seconds=st.integers(0, 10_000))
    def use(self, backend: str, seconds: int) -> None:
        self.usage.add(self.clock, backend, seconds)
        self.added.append((self.day, backend, seconds))

    @rule()
    def save(self) -> None:
        self.saved, self.saved_until = self.usage.as_text(), len(self.added)

    @rule()
    def kill_and_restart(self) -> None:
        self.usage = Usage.from_text(self.saved)
        del self.added[self.saved_until :]

    @property
    def day(self) -> date:
        """What counts as today."""
        is_set = self.clock.year >= 2026
        is_known = bool(self.added) and self.added[-1][0].year >= 2026
        return self.added[-1][0] if is_known and not is_set else self.clock

    @invariant()
    def every_second_counts_once(self) -> None:
        for backend in BACKENDS:
            mine = [(day, seconds) for day, name, seconds in self.added if name == backend]
            today = sum(seconds for day, seconds in mine if day == self.day)
            month = sum(
                seconds for day, seconds in mine if (day.year, day.month) == (self.day.year, self.day.month)
            )
            assert self.usage.of_day(self.clock, backend) == today
            assert self.usage.of_month(self.clock, backend) == month


TestHousehold = Household.TestCase
TestHousehold.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# The file


def test_it_lies_beside_the_settings_and_those_of_two_servers_apart(tmp_path: Path) -> None:
    names = ["settings.json", "kitchen.json", "usage.json", "settings"]
    paths = [UsageFile(tmp_path / name).path.name for name in names]
    assert paths == ["usage.json", "kitchen.usage.json", "usage.usage.json", "usage.json"]


def test_what_was_written_is_read_by_its_owner_only(tmp_path: Path) -> None:
    file = UsageFile(tmp_path / "conf" / "settings.json")
    assert file.read().as_text() == Usage().as_text()
    usage = used((TODAY, 0.1), (UNSET, 1e-9), (TODAY, 0.2))
    assert file.write(usage.as_text())
    assert file.read().as_text() == usage.as_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert list(file.path.parent.iterdir()) == [file.path]


def test_it_is_json_that_a_person_can_read() -> None:
    assert json.loads(used((TODAY, 12.5)).as_text()) == {
        "days": [{"date": "2026-11-24", "seconds": {"assemblyai": 12.5}}]
    }


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"\0" * 100])
def test_a_damaged_file_is_one_line_and_counts_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    file = UsageFile(tmp_path / "settings.json")
    file.path.write_bytes(content)
    assert file.read().as_text() == Usage().as_text()
    assert caplog.messages == [f"cannot read {file.path} (it holds no usage); costs begin at zero"]
    assert file.path.read_bytes() == content


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = UsageFile(tmp_path / "settings.json")
    file.path.mkdir()
    assert file.read().as_text() == Usage().as_text()
    assert caplog.messages == [f"cannot read {file.path} (Is a directory); costs begin at zero"]


def test_a_file_that_cannot_be_written_is_told_once_until_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = UsageFile(tmp_path / "settings.json")
    line = f"cannot write {file.path} (Is a directory); costs since the last time are lost at a restart"
    for _ in range(2):
        file.path.mkdir()
        assert [file.write("a"), file.write("b")] == [False, False]
        file.path.rmdir()
        assert file.write("c")
        file.path.unlink()
    assert caplog.messages == [line, line]
