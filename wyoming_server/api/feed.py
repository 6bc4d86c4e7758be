"""What happens, told to everybody who listens, each at their own pace and nobody for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from modal_whisper.errors import SttError
from wyoming_server.breaker import State
from wyoming_server.events import BreakerChanged, BudgetReached, Traced
from wyoming_server.statistics import answer_ms, is_failover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wyoming_server.events import Event
    from wyoming_server.statistics import History
    from wyoming_server.trace import Trace

Message = dict[str, Any]
_PAUSE_SECONDS: Final = 0.5
"""Between two messages of how everything is."""
_LOOK_SECONDS: Final = 1.0
"""How soon what nobody tells of is seen: a session was billed, a day is over."""
_MOST_WAITING: Final = 64
_MOVING: Final = ("uptime", "retry_in")
"""What changes by itself."""


class SlowReaderError(SttError):
    """A client is so far behind that it is dropped."""


class Subscription:
    """The messages for one client."""

    def __init__(self, status: Callable[[], Message]) -> None:
        self._status = status
        self._waiting: deque[Message] = deque()
        self._is_behind = False
        self._woken = asyncio.Event()
        self._told: Any = None
        self._next_status_at = 0.0

    async def next(self) -> Message:
        """The next one, of which the first is how everything is; raises SlowReaderError."""
        loop = asyncio.get_running_loop()
        while True:
            if self._is_behind:
                raise SlowReaderError("the client does not read")
            if self._waiting and self._told is not None:
                return self._waiting.popleft()
            self._woken.clear()
            now = loop.time()
            if now >= self._next_status_at and (message := self._news()):
                self._next_status_at = now + _PAUSE_SECONDS
                return message
            look_at = self._next_status_at if now < self._next_status_at else now + _LOOK_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout_at(look_at):
                    await self._woken.wait()

    def put(self, message: Message) -> None:
        """Tell it, once it comes to that."""
        if len(self._waiting) >= _MOST_WAITING:
            self._is_behind = True
            self._waiting.clear()
        elif not self._is_behind:
            self._waiting.append(message)
        self.poke()

    def poke(self) -> None:
        """The status may have changed."""
        self._woken.set()

    def _news(self) -> Message | None:
        status = self._status()
        lasting = _without_moving(status)
        if lasting == self._told:
            return None
        self._told = lasting
        return {"type": "status", "status": status}


class Feed:
    """A listener of the engine that has listeners of its own.

    Args:
        status: how everything is.
        history: what dates the traces; it must hear of each before this feed does.
    """

    def __init__(self, status: Callable[[], Message], history: History) -> None:
        self._status = status
        self._history = history
        self._subscriptions: set[Subscription] = set()

    @contextmanager
    def subscription(self) -> Iterator[Subscription]:
        """Listen for as long as this lasts."""
        subscription = Subscription(self._status)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def poke(self) -> None:
        """The status may have changed."""
        for subscription in self._subscriptions:
            subscription.poke()

    def __call__(self, event: Event) -> None:
        """Tell what happened."""
        match event:
            case Traced(trace):
                self._tell({"type": "utterance", "trace": self._history.latest[-1].as_json()})
                if failover := _failover(trace):
                    self._tell(failover)
            case BreakerChanged(backend, State.CLOSED):
                self._tell({"type": "recovery", "backend": backend})
            case BudgetReached(backend, dollars):
                self._tell({"type": "budget", "backend": backend, "dollars": round(dollars, 4)})
            case _:
                self.poke()

    def _tell(self, message: Message) -> None:
        for subscription in self._subscriptions:
            subscription.put(message)


def _failover(trace: Trace) -> Message | None:
    if not is_failover(trace) and trace.error is None:
        return None
    errors = [attempt.error for attempt in trace.attempts if attempt.error]
    ms = answer_ms(trace)
    return {
        "type": "failover",
        "from": trace.attempts[0].backend if trace.attempts else None,
        "to": trace.backend or None,
        "code": errors[0] if errors else "late",
        "ms": None if ms is None else round(ms, 1),
    }


def _without_moving(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_moving(item) for name, item in value.items() if name not in _MOVING}
    if isinstance(value, list):
        return [_without_moving(item) for item in value]
    return value
