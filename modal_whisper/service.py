"""The worker as a web service: /ws/stt for utterances (docs/ws-stt.md) and /health; runs anywhere."""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import WSCloseCode, web

from modal_whisper.conversation import CLOSE_SECONDS, Conversation, Limits, close
from modal_whisper.errors import ModelUnavailableError
from modal_whisper.languages import whisper_language
from modal_whisper.messages import MAX_MESSAGE_BYTES, Ready
from modal_whisper.session import transcribe
from modal_whisper.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from modal_whisper import messages
    from modal_whisper.messages import Partial, Start
    from modal_whisper.model import Model

_PING_SECONDS: Final = 20.0


def create_app(
    model: Model, *, api_key: str = "", limits: Limits | None = None, loads_at_start: bool = True
) -> web.Application:
    """The service on one model; with an `api_key`, /ws/stt is for those who send it as a bearer token.

    The model is made ready as the service starts, or with the first utterance where that costs money.
    """
    service = _Service(model, api_key, limits or Limits())
    app = web.Application()
    app.router.add_get("/health", service.health)
    app.router.add_get("/warm", service.warm)
    app.router.add_get("/ws/stt", service.stt)
    if loads_at_start:
        app.on_startup.append(service.start)
    app.on_shutdown.append(service.close)
    return app


class _Service:
    def __init__(self, model: Model, api_key: str, limits: Limits) -> None:
        self._model = model
        self._api_key = api_key
        self._limits = limits
        self._sockets: dict[web.WebSocketResponse, asyncio.Transport] = {}

    async def start(self, _: web.Application) -> None:
        self._model.start_loading()

    async def close(self, _: web.Application) -> None:
        closing = (close(socket, WSCloseCode.GOING_AWAY) for socket in self._sockets)
        # aiohttp cancels all who wait to send on a connection when one of them gives up.
        await asyncio.gather(*closing, return_exceptions=True)
        for transport in self._sockets.values():  # of those who did not go
            transport.abort()
        await self._model.close()

    async def health(self, _: web.Request) -> web.Response:
        """200 while the model is loaded or loading, else 503 with the reason."""
        return self._state()

    async def warm(self, request: web.Request) -> web.Response:
        """Load the model, where it is not; answers as /health does, once that is done."""
        if not self._admits(request):
            return _unauthorized()
        with suppress(ModelUnavailableError):  # which the state tells
            await self._model.wait_ready()
        return self._state()

    def _admits(self, request: web.Request) -> bool:
        return not self._api_key or _holds(request, self._api_key)

    def _state(self) -> web.Response:
        error = self._model.error
        state = "ready" if self._model.ready else "failed" if error else "loading"
        body = {"status": state, "model": self._model.name, "version": __version__}
        body |= getattr(self._model, "state", {})  # what some models have to say besides
        if error:
            return web.json_response(body | {"error": str(error)}, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return web.json_response(body)

    async def stt(self, request: web.Request) -> web.StreamResponse:
        """One client: any number of utterances, one after another."""
        if not self._admits(request):
            return _unauthorized()
        if len(self._sockets) >= self._limits.max_connections:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients are connected; try again later")
        socket = web.WebSocketResponse(
            max_msg_size=MAX_MESSAGE_BYTES + 1,  # aiohttp takes what is smaller
            heartbeat=_PING_SECONDS,
            timeout=CLOSE_SECONDS,
            compress=False,
        )
        transport = request.transport
        if transport is None or not socket.can_prepare(request):
            return _refusal(HTTPStatus.UPGRADE_REQUIRED, "/ws/stt is a WebSocket", {"Upgrade": "websocket"})
        await socket.prepare(request)
        self._sockets[socket] = transport
        try:
            with suppress(ConnectionError):
                await Conversation(socket, _ModelEar(self._model), self._limits).run()
        finally:
            del self._sockets[socket]
            if transport.get_write_buffer_size():  # what nobody reads would keep it open
                transport.abort()
        return socket


class _ModelEar:
    def __init__(self, model: Model) -> None:
        self._model = model

    def greet(self, start: Start) -> Ready:
        for language in (start.language, *start.languages):
            whisper_language(language)
        return Ready(self._model.name, __version__)

    def transcribe(
        self, audio: AsyncIterator[bytes], start: Start
    ) -> AsyncGenerator[Partial | messages.Final, None]:
        return transcribe(self._model, audio, start)


def _unauthorized() -> web.Response:
    return _refusal(
        HTTPStatus.UNAUTHORIZED,
        "the key is missing or wrong: send it as a bearer token",
        {"WWW-Authenticate": "Bearer"},
    )


def _holds(request: web.Request, key: str) -> bool:
    given = request.headers.get("Authorization", "")
    return hmac.compare_digest(given.encode(errors="replace"), f"Bearer {key}".encode())


def _refusal(status: HTTPStatus, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": reason}, status=status, headers=headers)
