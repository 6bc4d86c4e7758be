"""What is written while the server runs: its costs, and what could not be written at once."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from wyoming_server.errors import UnavailableError
from wyoming_server.lock import Lock
from wyoming_server.usage import UsageFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from wyoming_server.house import House
    from wyoming_server.store import Store

_LOGGER = logging.getLogger(__name__)

SECONDS: Final = 60.0
"""Between two writings: what a power failure may take of the costs."""


class Keeper:
    """Keeps what a house has used beside its settings file, and goes on from what is kept there.

    No two servers keep something at the same place. Without a store everything lasts until the server stops.
    `sleep` waits for so many seconds.
    """

    def __init__(
        self, house: House, store: Store | None, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.store = store
        self._house = house
        self._sleep = sleep
        self._place = _Place(store.path) if store and store.has_place else None
        # One of its own: the others may all be busy with looking up names.
        self._thread = ThreadPoolExecutor(1, "keeper")
        if self._place:
            house.costs.restore(self._place.file.read())
        self._written = house.costs.usage.as_text()

    def claim(self) -> None:
        """Take the settings file for this server alone; raises UnavailableError where another one has it."""
        if self._place and not self._place.lock.take():
            raise UnavailableError(
                f"SETTINGS_FILE: {self._place.settings} is in use by another server; "
                "give this one a file of its own, or API_PORT=0"
            )

    async def run(self) -> None:
        """Keep what there is once a minute, until cancelled."""
        while True:
            await self._sleep(SECONDS)
            try:
                await self.keep()
            except Exception:
                _LOGGER.exception("what must survive a restart was not kept; tried again in a minute")

    async def keep(self) -> None:
        """Write what has changed; what cannot be written is tried again the next time."""
        await self._keep_costs()
        await self._house.settle()

    async def close(self) -> None:
        """Keep what there is, and let another server have the place."""
        try:
            await self.keep()
        finally:
            self._thread.shutdown(wait=False)
            if self._place:
                self._place.lock.release()

    async def _keep_costs(self) -> None:
        text = self._house.costs.usage.as_text()
        if not self._place or text == self._written:
            return
        if await asyncio.get_running_loop().run_in_executor(self._thread, self._place.write, text):
            self._written = text


class _Place:
    """Beside a settings file."""

    def __init__(self, settings: Path) -> None:
        self.settings = settings
        self.lock = Lock(settings)
        self.file = UsageFile(settings)
        self._is_ours = True

    def write(self, text: str) -> bool:
        """Keep this usage, unless another server keeps its own here; returns whether it is kept."""
        was_ours, self._is_ours = self._is_ours, self.lock.take()
        if self._is_ours:
            return self.file.write(text)
        if was_ours:
            _LOGGER.warning("%s belongs to another server; costs of this one are not kept", self.file.path)
        return False
