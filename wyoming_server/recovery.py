"""Finds out in the background when a backend is well again, so that no user's words have to."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from wyoming_server.errors import BackendError, InternalError, UnreachableError

if TYPE_CHECKING:
    from wyoming_server.backends.base import Backend
    from wyoming_server.health import Health

_LOGGER = logging.getLogger(__name__)

_PROBE_SECONDS: Final = 10.0


class Recovery:
    """Probes one backend, one probe at a time, for as long as its breaker is not closed."""

    def __init__(self, backend: Backend, health: Health) -> None:
        self._backend = backend
        self._health = health
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Begin where the breaker has opened; to be called after each change of the health."""
        self._changed.set()
        is_needed = not self._health.is_closed and self._health.probe_at is not None
        if is_needed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._probe_until_closed(), name=f"probe {self._backend.name}")

    async def close(self) -> None:
        """Probe no more."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _probe_until_closed(self) -> None:
        while not self._health.is_closed and (due := self._health.probe_at) is not None:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._changed.wait()
                continue
            if self._health.probe_at != due:
                continue  # meanwhile it has failed again, or is closed
            self._health.begin_probe()
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._backend.probe()
            except TimeoutError:
                self._health.failed(UnreachableError(f"no answer to a probe within {_PROBE_SECONDS:g} s"))
            except BackendError as error:
                self._health.failed(error)
            # A defect in one backend must not end the watch over it.
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                _LOGGER.exception("probing %s has a defect", self._backend.name)
                self._health.failed(InternalError(f"unexpected {type(error).__name__}"))
            else:
                self._health.recovered()
