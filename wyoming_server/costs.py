"""What the backends have cost today and this month, and whether that is enough for a day."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wyoming_server.events import BudgetReached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from wyoming_server.events import Listener

_SECONDS_AN_HOUR = 3600


@dataclass(slots=True)
class _Usage:
    day: date
    seconds: float = 0.0
    month_seconds: float = 0.0
    is_reported: bool = field(default=False)

    def turn_to(self, day: date) -> None:
        """Begin anew what is over."""
        if day == self.day:
            return
        if (day.year, day.month) != (self.day.year, self.day.month):
            self.month_seconds = 0.0
        self.day, self.seconds, self.is_reported = day, 0.0, False


class Costs:
    """Counts the billed seconds of every backend by the day and by the month, from nothing at each start.

    Args:
        prices: US dollars an hour, by backend; who is not in it is free.
        budget: US dollars a day that each backend may cost; None for any.
        today: the date by the household's calendar.
        listener: told once a day and backend when the budget is reached.
    """

    def __init__(
        self,
        prices: Mapping[str, float],
        *,
        budget: float | None,
        today: Callable[[], date],
        listener: Listener,
    ) -> None:
        self._prices = prices
        self._budget = budget
        self._today = today
        self._listener = listener
        self._usage: dict[str, _Usage] = {}

    def set_prices(self, prices: Mapping[str, float], budget: float | None) -> None:
        """What an hour costs from now on, and what a day may; what has been used stays counted."""
        self._prices, self._budget = prices, budget
        for usage in self._usage.values():
            usage.is_reported = False
        for backend in self._usage:
            self._report(backend)

    def add(self, backend: str, seconds: float) -> None:
        """A backend bills for so many seconds."""
        usage = self._usage_of(backend)
        usage.seconds += seconds
        usage.month_seconds += seconds
        self._report(backend)

    def seconds(self, backend: str) -> float:
        """What a backend has billed today."""
        return self._usage_of(backend).seconds

    def dollars(self, backend: str) -> float:
        """What that costs."""
        return self.price(backend, self.seconds(backend))

    def month_seconds(self, backend: str) -> float:
        """What a backend has billed since the month began, or the server was started."""
        return self._usage_of(backend).month_seconds

    def month_dollars(self, backend: str) -> float:
        """What that costs."""
        return self.price(backend, self.month_seconds(backend))

    def price(self, backend: str, seconds: float) -> float:
        """What so many seconds of a backend cost, in US dollars."""
        return self._prices.get(backend, 0.0) * seconds / _SECONDS_AN_HOUR

    def is_over_budget(self, backend: str) -> bool:
        """Whether a backend has cost what it may cost in a day."""
        dollars = self.dollars(backend)
        return self._budget is not None and dollars > 0 and dollars >= self._budget

    def _report(self, backend: str) -> None:
        usage = self._usage_of(backend)
        if self.is_over_budget(backend) and not usage.is_reported:
            usage.is_reported = True
            self._listener(BudgetReached(backend, self.dollars(backend)))

    def _usage_of(self, backend: str) -> _Usage:
        usage = self._usage.setdefault(backend, _Usage(self._today()))
        usage.turn_to(self._today())
        return usage
