"""The API's own port."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web

from wyoming_server.api.connections import IDLE_SECONDS, LINGERING_SECONDS, Connections
from wyoming_server.api.guard import MAX_BODY_BYTES, Guard
from wyoming_server.api.metrics import MetricsPage
from wyoming_server.api.pages import Pages
from wyoming_server.api.site import Site
from wyoming_server.api.sockets import Sockets
from wyoming_server.api.stt import SttPage
from wyoming_server.errors import SettingsError, UnavailableError
from wyoming_server.server import SHUTDOWN_SECONDS

if TYPE_CHECKING:
    from wyoming_server.house import House
    from wyoming_server.server import WyomingServer

_SHUTDOWN_SECONDS: Final = 1.0
"""How long requests in flight have when the server stops."""


class Api:
    """The API of a house, for those who have the token.

    `wyoming` is the Wyoming server of the same house.
    """

    def __init__(self, house: House, token: str, wyoming: WyomingServer) -> None:
        self._connections = Connections()
        self._listener: asyncio.Server | None = None
        self._sockets = Sockets()
        self._stt = SttPage(house, self._sockets)
        guard = Guard(token, asyncio.get_running_loop().time, house.settings.api_trusted)
        pages = Pages(house, self._sockets, lambda: wyoming.listening_uri, guard.want_token)
        metrics = MetricsPage(house, lambda: {"wyoming": wyoming.clients, "api": len(self._sockets)})
        app = web.Application(
            middlewares=[guard.middleware, self._connections.middleware], client_max_size=MAX_BODY_BYTES
        )
        app.router.add_get("/health", pages.health)
        app.router.add_get("/api/status", pages.status)
        app.router.add_get("/api/config", pages.config)
        app.router.add_patch("/api/config", pages.change_config)
        app.router.add_post("/api/test", pages.test)
        app.router.add_post("/api/warm", pages.warm)
        app.router.add_post("/api/close-breakers", pages.close_breakers)
        app.router.add_get("/api/traces", pages.traces)
        app.router.add_get("/api/day", pages.day)
        app.router.add_get("/api/events", pages.events, allow_head=False)
        app.router.add_get("/ws/stt", self._stt.get, allow_head=False)
        app.router.add_get("/metrics", metrics.get)
        Site().add_to(app.router)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGERING_SECONDS,
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.sockets[0].getsockname()[1] if self._listener else 0
        return port

    async def start(self, host: str, port: int) -> None:
        """Begin to listen; raises SettingsError, or UnavailableError where that may be possible later."""
        await self._runner.setup()
        serve = cast("web.Server", self._runner.server)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._connections.accepting(serve), host, port
            )
        except (OSError, ValueError) as error:  # ValueError: an impossible host
            await self._runner.cleanup()
            kind = UnavailableError if isinstance(error, OSError) else SettingsError
            reason = getattr(error, "strerror", None) or error
            raise kind(
                f"API_HOST {host}, API_PORT {port}: cannot listen there ({reason}); API_PORT=0 does without"
            ) from None

    async def stop(self) -> None:
        """Take no more clients, let the utterances in flight be answered, and close."""
        if self._listener:
            self._listener.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await self._stt.finish()
        await self._sockets.close()
        await self._runner.cleanup()
