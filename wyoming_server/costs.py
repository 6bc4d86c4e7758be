"""What the backends have cost today and this month, and whether that is enough for a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wyoming_server.events import BudgetReached
from wyoming_server.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from wyoming_server.events import Listener

_SECONDS_AN_HOUR = 3600


class Costs:
    """Counts the billed seconds of every backend by the day and by the month.

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
        self._usage = Usage()
        self._reported: dict[str, date] = {}

    def restore(self, usage: Usage) -> None:
        """Go on from what was used before the server was started."""
        self._usage = usage
        self._report_all()

    @property
    def usage(self) -> Usage:
        """All that has been used, for `restore`."""
        return self._usage

    def set_prices(self, prices: Mapping[str, float], budget: float | None) -> None:
        """What an hour costs from now on, and what a day may; what has been used stays counted."""
        self._prices, self._budget = prices, budget
        self._reported.clear()
        self._report_all()

    def add(self, backend: str, seconds: float) -> None:
        """A backend bills for so many seconds."""
        self._usage.add(self._today(), backend, seconds)
        self._report(backend)

    def seconds(self, backend: str) -> float:
        """What a backend has billed today."""
        return self._usage.of_day(self._today(), backend)

    def dollars(self, backend: str) -> float:
        """What that costs."""
        return self.price(backend, self.seconds(backend))

    def month_seconds(self, backend: str) -> float:
        """What a backend has billed since the month began."""
        return self._usage.of_month(self._today(), backend)

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

    def _report_all(self) -> None:
        for backend in sorted(self._usage.backends):
            self._report(backend)

    def _report(self, backend: str) -> None:
        day = self._usage.day(self._today())
        if self.is_over_budget(backend) and self._reported.get(backend) != day:
            self._reported[backend] = day
            self._listener(BudgetReached(backend, self.dollars(backend)))
