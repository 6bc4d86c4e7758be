"""Servers that do what a test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(
    application: web.Application | Handler,
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Serve an application, or one handler for all paths, on this port of 127.0.0.1."""
    if not isinstance(application, web.Application):
        handler, application = application, web.Application()
        application.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def deaf_after(greeting: dict[str, Any]) -> Handler:
    """A handler that opens a WebSocket, says this and reads nothing, so that its client's sending blocks."""

    async def serve(request: web.Request) -> web.StreamResponse:
        web_socket = web.WebSocketResponse()
        await web_socket.prepare(request)
        assert request.transport is not None
        request.transport.pause_reading()
        await web_socket.send_json(greeting)
        await asyncio.Event().wait()
        return web_socket

    return serve
