"""What the emulator says: in order, each message at its time, and how a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from aiohttp import web

    from tests.emulators.assemblyai_record import SessionRecord

CLOSE_REASON = "See Error message for details"
_MAX_CLOSE_REASON = 123
"""Bytes; the WebSocket protocol's own limit."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ends: a close frame, after an Error frame where `error` is set; or a reset."""

    code: int
    reason: str = ""
    error: str | None = None
    by: Literal["client", "server"] = "server"
    abrupt: bool = False

    @classmethod
    def with_error(cls, code: int, text: str) -> Ending:
        """As the service ends a session that it will not go on with."""
        return cls(code, CLOSE_REASON, text)


Item = dict[str, Any] | str | bytes | Ending


class Outbox:
    """Sends a session's messages; `ending` is done once the session is to end."""

    def __init__(
        self, ws: web.WebSocketResponse, transport: asyncio.Transport, record: SessionRecord
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[float, Item]] = asyncio.Queue()
        self._muted = False
        self.ending: asyncio.Future[Ending] = self._loop.create_future()

    def put(self, item: Item, delay: float = 0.0) -> None:
        """Send this after so many seconds, but never before what was put earlier."""
        if not self._muted:
            self._queue.put_nowait((self._loop.time() + delay, item))

    def mute(self) -> None:
        """Say nothing more, not even what is on its way."""
        self._muted = True

    def end(self, ending: Ending) -> None:
        """End the session; only the first ending counts."""
        if not self.ending.done():
            self.ending.set_result(ending)

    async def run(self) -> None:
        """Send until cancelled, or until an Ending comes up."""
        while True:
            due, item = await self._queue.get()
            if (delay := due - self._loop.time()) > 0:
                await asyncio.sleep(delay)
            if self._muted:
                return
            if isinstance(item, Ending):
                self.end(item)
                return
            with contextlib.suppress(ConnectionError):  # the reader notices that the client has gone
                await self.deliver(item)

    async def deliver(self, item: dict[str, Any] | str | bytes) -> None:
        """Send this now."""
        if isinstance(item, bytes):
            await self._ws.send_bytes(item)
        elif isinstance(item, str):
            await self._ws.send_str(item)
        else:
            now = self._loop.time()
            if item.get("type") == "Begin":
                self._record.begun_at = now
            self._record.sent.append((now, item))
            await self._ws.send_str(json.dumps(item, ensure_ascii=False))

    async def finish(self, ending: Ending) -> None:
        """Carry out the end of the connection."""
        now = self._loop.time()
        try:
            if ending.abrupt:
                reset(self._transport)
                return
            with contextlib.suppress(ConnectionError):  # the client may have gone meanwhile
                if ending.error is not None:
                    await self.deliver({"type": "Error", "error_code": ending.code, "error": ending.error})
                await self._ws.close(code=ending.code, message=ending.reason.encode()[:_MAX_CLOSE_REASON])
        finally:
            self._record.note_closed(ending.code, ending.by, now)


def reset(transport: asyncio.Transport) -> None:
    """End a TCP connection by RST, so that the peer sees a reset and no orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
