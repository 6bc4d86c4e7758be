"""How long each backend has worked on which day: kept over restarts, without a word that was spoken."""

from __future__ import annotations

import json
import logging
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from modal_whisper.errors import SttError
from wyoming_server.atomic import replace_file

if TYPE_CHECKING:
    from pathlib import Path

_LOGGER = logging.getLogger(__name__)

MAX_DAYS: Final = 62
"""Two months; what more there is comes from a clock that jumps."""
_FIRST_DAY: Final = date(2026, 1, 1)
"""No clock that has been set shows an earlier one: this server is younger."""
_MAX_SECONDS: Final = 1e9


class UsageError(SttError):
    """The text tells no usage."""


class Usage:
    """Seconds by day and backend, days in the order in which they were last added to.

    Each day has a sum of its own, so that a clock that jumps to another day, month or year and back loses
    nothing and counts nothing twice. While a clock that was not set yet shows the distant past, as after the
    start of a machine without a battery, the day that was added to last goes on.
    """

    def __init__(self) -> None:
        self._days: dict[date, dict[str, float]] = {}

    def add(self, today: date, backend: str, seconds: float) -> None:
        """Count these seconds; `today` is what the clock shows."""
        day = self.day(today)
        sums = self._days.pop(day, {})
        sums[backend] = sums.get(backend, 0.0) + seconds
        self._days[day] = sums
        while len(self._days) > MAX_DAYS:
            del self._days[next(iter(self._days))]

    def day(self, today: date) -> date:
        """The day that counts where the clock shows `today`."""
        latest = next(reversed(self._days), today)
        return latest if today < _FIRST_DAY <= latest else today

    def of_day(self, today: date, backend: str) -> float:
        """The seconds of a backend on that day."""
        return self._days.get(self.day(today), {}).get(backend, 0.0)

    def of_month(self, today: date, backend: str) -> float:
        """The seconds of a backend in the month of that day."""
        day = self.day(today)
        return sum(
            sums.get(backend, 0.0)
            for other, sums in self._days.items()
            if (other.year, other.month) == (day.year, day.month)
        )

    @property
    def backends(self) -> set[str]:
        """Everybody who has worked on any day."""
        return {backend for sums in self._days.values() for backend in sums}

    def as_text(self) -> str:
        """What `from_text` reads."""
        days = [{"date": day.isoformat(), "seconds": sums} for day, sums in self._days.items()]
        return json.dumps({"days": days}, indent=2) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Usage:
        """The usage that was written so; raises UsageError."""
        usage = cls()
        try:
            for item in json.loads(text)["days"]:
                sums = {str(name): _checked(seconds) for name, seconds in item["seconds"].items()}
                usage._days[date.fromisoformat(item["date"])] = sums
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError("it holds no usage") from error
        return usage


class UsageFile:
    """Where the usage is kept: beside the settings file at `settings_path`."""

    def __init__(self, settings_path: Path) -> None:
        stem = settings_path.stem
        # Other settings files in the same folder belong to other servers.
        self.path = settings_path.with_name("usage.json" if stem == "settings" else f"{stem}.usage.json")
        self._is_failing = False

    def read(self) -> Usage:
        """The usage that is kept; none where that cannot be read, and the log says so."""
        try:
            return Usage.from_text(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Usage()
        except (OSError, UnicodeDecodeError, UsageError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it holds no usage"
            _LOGGER.warning("cannot read %s (%s); costs begin at zero", self.path, reason)
            return Usage()

    def write(self, text: str) -> bool:
        """Keep it; False where that is not possible, which the log says once until it works again."""
        try:
            replace_file(self.path, text.encode())
        except OSError as error:
            if not self._is_failing:
                _LOGGER.warning(
                    "cannot write %s (%s); costs since the last time are lost at a restart",
                    self.path,
                    error.strerror,
                )
            self._is_failing = True
            return False
        self._is_failing = False
        return True


def _checked(seconds: Any) -> float:
    if not isinstance(seconds, int | float) or not 0 <= seconds <= _MAX_SECONDS:
        raise ValueError
    return float(seconds)
