"""What Home Assistant's ingress does with the page: another address, with a path before it, in a frame."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import hdrs, web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PREFIX: Final = "/api/hassio_ingress/a-name-that-nobody-guesses"
FRAME: Final = "/stt-failover"
_NOT_HANDED_ON: Final = {
    hdrs.CONNECTION,
    hdrs.CONTENT_ENCODING,
    hdrs.CONTENT_LENGTH,
    hdrs.HOST,
    hdrs.SEC_WEBSOCKET_EXTENSIONS,
    hdrs.SEC_WEBSOCKET_KEY,
    hdrs.SEC_WEBSOCKET_PROTOCOL,
    hdrs.SEC_WEBSOCKET_VERSION,
    hdrs.TRANSFER_ENCODING,
    hdrs.UPGRADE,
}


@asynccontextmanager
async def ingress(target: str, address: str) -> AsyncIterator[str]:
    """A proxy that asks the server from that address of this machine; where the page is behind it."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with aiohttp.ClientSession(target, connector=connector, auto_decompress=False) as session:

        async def hand_on(request: web.Request) -> web.StreamResponse:
            path = request.rel_url.raw_path_qs.removeprefix(PREFIX)
            headers = {name: value for name, value in request.headers.items() if name not in _NOT_HANDED_ON}
            headers["X-Ingress-Path"] = PREFIX
            if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
                return await _socket(request, session, path, headers)
            body = await request.read()
            async with session.request(request.method, path, data=body, headers=headers) as answer:
                kept = {name: value for name, value in answer.headers.items() if name not in _NOT_HANDED_ON}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)

        async def frame(_: web.Request) -> web.Response:
            text = f'<!doctype html><title>home</title><iframe src="{PREFIX}/" allow="microphone"></iframe>'
            return web.Response(text=text, content_type="text/html")

        app = web.Application()
        app.router.add_route("*", PREFIX + "{path:/.*}", hand_on)
        app.router.add_get(FRAME, frame)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}{PREFIX}/"
        finally:
            await runner.cleanup()


async def _socket(
    request: web.Request, session: aiohttp.ClientSession, path: str, headers: dict[str, str]
) -> web.StreamResponse:
    offered = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "")
    protocols = tuple(item.strip() for item in offered.split(",") if item.strip())
    async with session.ws_connect(path, headers=headers, protocols=protocols) as inner:
        outer = web.WebSocketResponse(protocols=[inner.protocol] if inner.protocol else [])
        await outer.prepare(request)
        ways = [asyncio.create_task(_pass(inner, outer)), asyncio.create_task(_pass(outer, inner))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        await outer.close()
    return outer


async def _pass(
    one: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
    other: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
) -> None:
    async for message in one:
        if message.type is aiohttp.WSMsgType.TEXT:
            await other.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await other.send_bytes(message.data)
