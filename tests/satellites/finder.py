"""Somebody who looks for servers in the network, as Home Assistant does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from zeroconf import ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from wyoming_server.announce import API_TYPE, WYOMING_TYPE

if TYPE_CHECKING:
    from types import TracebackType


class Finder:
    """Keeps a list of what is announced."""

    def __init__(self) -> None:
        self._mdns = AsyncZeroconf()
        self.names: dict[str, set[str]] = {WYOMING_TYPE: set(), API_TYPE: set()}
        self._changed = asyncio.Event()
        self._browser = AsyncServiceBrowser(self._mdns.zeroconf, list(self.names), [self._change])

    async def wait(self, kind: str, number: int) -> list[str]:
        """Return the names of a type once there are so many."""
        async with asyncio.timeout(15):
            while len(self.names[kind]) != number:
                self._changed.clear()
                await self._changed.wait()
        return sorted(self.names[kind])

    async def resolve(self, kind: str, name: str) -> AsyncServiceInfo:
        info = AsyncServiceInfo(kind, name)
        assert await info.async_request(self._mdns.zeroconf, 3000)
        return info

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._browser.async_cancel()
        await self._mdns.async_close()

    def _change(self, *, service_type: str, name: str, state_change: ServiceStateChange, **_: object) -> None:
        if state_change is ServiceStateChange.Removed:
            self.names[service_type].discard(name)
        else:
            self.names[service_type].add(name)
        self._changed.set()
