"""The server's API on a real socket, answering what a test tells it to (docs/api.md)."""

from __future__ import annotations

import asyncio
import copy
from typing import Any, Self

from aiohttp import WSCloseCode, web

TOKEN = "marked-token-5d1c"
SERVER_ID = "5f0c6a5e0d2b4f6f9d6a3c1b7e8f9a0b"


def backend(name: str, **changes: Any) -> dict[str, Any]:
    """A backend that is well."""
    return {
        "name": name,
        "enabled": True,
        "missing": None,
        "state": "closed",
        "cause": None,
        "retry_in": None,
        "median_ms": 41.0,
        "p95_ms": 120.5,
        "today": {"seconds": 310.2, "dollars": 0.0388},
        "month": {"seconds": 5210.7, "dollars": 0.6513},
        "over_budget": False,
    } | changes


def status() -> dict[str, Any]:
    """A server that is well."""
    return {
        "id": SERVER_ID,
        "version": "0.1.0",
        "wyoming": "tcp://0.0.0.0:10300",
        "strategy": "hedge",
        "deadline": 8.0,
        "endpointing": False,
        "languages": ["de", "en", "zh"],
        "uptime": 3600.5,
        "problem": None,
        "backends": [backend(name) for name in ("assemblyai", "assemblyai_sync", "whisper", "local")],
        "last": {"at": "2026-11-24T10:15:30+00:00", "backend": "assemblyai", "ms": 38.2, "error": None},
        "day": {
            "utterances": 120,
            "answered": 119,
            "failovers": 2,
            "availability": 0.9917,
            "median_ms": 40.1,
        },
    }


def settings() -> dict[str, Any]:
    """The settings of a server to which nobody has said anything."""
    values: dict[str, Any] = {
        "BACKENDS": ["assemblyai", "assemblyai_sync", "whisper", "local"],
        "STRATEGY": "hedge",
        "DEADLINE": 8.0,
        "CONNECT_PATIENCE": 1.0,
        "PROGRESS_PATIENCE": 3.0,
        "HEDGE_MIN": 0.3,
        "HEDGE_MAX": 1.5,
        "HEDGE_BUDGET": 0.05,
        "DAILY_BUDGET": 0.0,
        "KEEP_WARM": 0.0,
        "MAX_UTTERANCE": 60.0,
        "KEY_TERMS": [],
        "ENDPOINTING": False,
        "ASSEMBLYAI_STREAMING_URL": "wss://streaming.assemblyai.com",
        "ASSEMBLYAI_MODEL": "universal-3-6-pro",
        "ASSEMBLYAI_MODE": "min_latency",
        "ASSEMBLYAI_LANGUAGES": [],
        "ASSEMBLYAI_TIMEOUT": 1.5,
        "ASSEMBLYAI_PRICE": 0.45,
        "ASSEMBLYAI_SYNC_MODEL": "universal-3-5-pro",
        "ASSEMBLYAI_SYNC_TIMEOUT": 2.0,
        "ASSEMBLYAI_SYNC_PRICE": 0.45,
        "WHISPER_SERVICE_URL": "",
        "WHISPER_MODEL": "",
        "WHISPER_LANGUAGES": [],
        "WHISPER_TIMEOUT": 3.0,
        "WHISPER_PRICE": 0.0,
        "LOCAL_ENABLED": True,
        "LOCAL_MODEL": "base",
        "LOCAL_BEAM_SIZE": 5,
    }
    secrets = (
        "ASSEMBLYAI_API_KEY",
        "WHISPER_API_KEY",
        "WHISPER_PROXY_KEY",
        "WHISPER_PROXY_SECRET",
        "API_TOKEN",
    )
    return {name: {"value": value, "source": "default"} for name, value in values.items()} | {
        name: {"value": None, "source": "default", "is_set": name == "API_TOKEN"} for name in secrets
    }


class FakeServer:
    """What it answers can be changed at any time; `requests` are those it got, as (method, path, body)."""

    def __init__(self) -> None:
        self.token = TOKEN
        self.id = SERVER_ID
        self.version = "0.1.0"
        self.status = status()
        self.settings = settings()
        self.stored: dict[str, Any] = {}
        self.traces: list[dict[str, Any]] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.refusals: dict[str, tuple[int, Any]] = {}
        self.answers = asyncio.Event()
        """Cleared, it lets everybody wait."""
        self.answers.set()
        self.requests: list[tuple[str, str, Any]] = []
        self.signed: list[str] = []
        """The pages that were asked for with a token, whichever."""
        self.port = 0
        self._sockets: list[web.WebSocketResponse] = []
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> Self:
        """Listen on loopback, again at the same port after `stop`."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/health", self._health)
        app.router.add_get("/api/status", self._status)
        app.router.add_get("/api/config", self._config)
        app.router.add_patch("/api/config", self._change)
        app.router.add_post("/api/test", self._test)
        app.router.add_post("/api/warm", self._warm)
        app.router.add_post("/api/close-breakers", self._status)
        app.router.add_get("/api/traces", self._traces)
        app.router.add_get("/api/events", self._events)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port or self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Be gone."""
        await self.drop()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    @property
    def feeds(self) -> int:
        """How many feeds of events are open."""
        return len(self._sockets)

    async def drop(self) -> None:
        """Close all feeds of events."""
        for socket in tuple(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    async def push(self, **changes: Any) -> None:
        """Have the status changed, and tell everybody."""
        self.status |= changes
        await self.say({"type": "status", "status": self.status})

    async def push_backend(self, name: str, **changes: Any) -> None:
        """Have one backend changed, and tell everybody."""
        backends = [item | changes if item["name"] == name else item for item in self.status["backends"]]
        await self.push(backends=backends)

    async def say(self, message: Any) -> None:
        """Send a message to all feeds; a string as it is."""
        for socket in tuple(self._sockets):
            await (socket.send_str(message) if isinstance(message, str) else socket.send_json(message))

    def bodies(self, method: str, path: str) -> list[Any]:
        """What was sent by this method to this page."""
        return [
            body for its_method, its_path, body in self.requests if (its_method, its_path) == (method, path)
        ]

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, copy.deepcopy(body)))
        if "Authorization" in request.headers:
            self.signed.append(request.path)
        await self.answers.wait()
        if request.path in self.refusals:
            code, answer = self.refusals[request.path]
            if isinstance(answer, dict):
                return web.json_response(answer, status=code, headers=answer.get("headers"))
            return web.Response(text=answer, status=code)
        if request.path != "/health" and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": "the token is wrong", "code": "unauthorized"}, status=401)
        return await handler(request)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": self.version, "id": self.id})

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self.status)

    async def _config(self, request: web.Request) -> web.Response:
        return web.json_response({"settings": self.settings})

    async def _change(self, request: web.Request) -> web.Response:
        for name, value in (await request.json())["settings"].items():
            self.stored[name] = value
            if "is_set" in self.settings[name]:
                self.settings[name] = {"value": None, "source": "stored", "is_set": bool(value)}
            else:
                self.settings[name] = {"value": value, "source": "stored"}
        return web.json_response({"settings": self.settings})

    async def _test(self, request: web.Request) -> web.Response:
        names = (await request.json()).get("backends") or [
            "assemblyai",
            "assemblyai_sync",
            "whisper",
            "local",
        ]
        good = {"ok": True, "text": "turn off the light", "ms": 50.0, "code": None, "message": None}
        return web.json_response(
            {"results": [{"backend": name} | good | self.results.get(name, {}) for name in names]}
        )

    async def _warm(self, request: web.Request) -> web.Response:
        return web.json_response({}, status=202)

    async def _traces(self, request: web.Request) -> web.Response:
        return web.json_response({"traces": self.traces})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "status", "status": self.status})
        self._sockets.append(socket)
        async for _ in socket:
            pass
        self._sockets.remove(socket)
        return socket
