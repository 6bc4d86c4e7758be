"""The WebSockets of the API: opened for those who may, counted, and closed in the end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import WSCloseCode, web

from wyoming_server.api.guard import PROTOCOL, protocols_of
from wyoming_server.api.refusals import ApiError, bad_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_MOST: Final = 64
_PING_SECONDS: Final = 20.0
_CLOSE_SECONDS: Final = 1.0
_MAX_MESSAGE_BYTES: Final = 4096


class Sockets:
    """All that are open."""

    def __init__(self) -> None:
        self._open: set[web.WebSocketResponse] = set()
        self._opening = 0
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def open(
        self, request: web.Request, *, max_msg_size: int = _MAX_MESSAGE_BYTES
    ) -> AsyncIterator[web.WebSocketResponse]:
        """One more, let go of at the end; raises ApiError where there cannot be one."""
        socket = web.WebSocketResponse(
            max_msg_size=max_msg_size,
            heartbeat=_PING_SECONDS,
            timeout=_CLOSE_SECONDS,
            protocols=(PROTOCOL,),
            compress=False,
        )
        transport = self._admit(request, socket)
        self._opening += 1
        try:
            await socket.prepare(request)
            self._open.add(socket)
            yield socket
        finally:
            self._opening -= 1
            self._open.discard(socket)
            if transport.get_write_buffer_size():  # what nobody reads would keep it open
                transport.abort()

    async def close(self) -> None:
        """Tell everybody that the server goes away."""
        self._is_closed = True
        # Those who do not go are cut off with their requests. aiohttp cancels all who wait to send on a
        # connection when one of them gives up.
        await asyncio.gather(*(_close(socket) for socket in self._open), return_exceptions=True)

    def _admit(self, request: web.Request, socket: web.WebSocketResponse) -> asyncio.Transport:
        offered = protocols_of(request)
        if offered and PROTOCOL not in offered:  # aiohttp would log what was offered, perhaps a token
            raise bad_request(f"the subprotocol is {PROTOCOL}")
        transport = request.transport
        if transport is None or not socket.can_prepare(request):
            raise ApiError(
                HTTPStatus.UPGRADE_REQUIRED,
                "websocket-only",
                f"{request.path} is a WebSocket",
                headers={"Upgrade": "websocket"},
            )
        if self._opening >= _MOST or self._is_closed:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too-many-clients",
                f"{_MOST} WebSockets are open already; try again later",
            )
        return transport


async def _close(socket: web.WebSocketResponse) -> None:
    async with asyncio.timeout(2 * _CLOSE_SECONDS):
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server is shutting down")
