"""The worker as a web service: /ws/stt for utterances (docs/ws-stt.md) and /health; runs anywhere."""

from __future__ import annotations

import asyncio
import hmac
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import WSCloseCode, WSMsgType, web

from modal_whisper.errors import MessageError, ModelUnavailableError, OverloadedError, SttError
from modal_whisper.languages import whisper_language
from modal_whisper.messages import MAX_MESSAGE_BYTES, Failure, Ready, Start, decode_client, encode
from modal_whisper.session import transcribe
from modal_whisper.speech import BYTES_PER_SECOND
from modal_whisper.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from modal_whisper.messages import WorkerMessage
    from modal_whisper.runner import ModelRunner

_PING_SECONDS: Final = 20.0
_CLOSE_SECONDS: Final = 1.0
_SEND_SECONDS: Final = 10.0
"""For a client to take a message; one that reads nothing would block its connection for good."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients may use up; times in seconds."""

    max_utterance: float = 120.0
    idle_timeout: float = 60.0
    """Without a message from a client that no answer is due to, before its connection is closed."""
    max_connections: int = 256


def create_app(runner: ModelRunner, *, api_key: str = "", limits: Limits | None = None) -> web.Application:
    """The service on one model; with an `api_key`, /ws/stt is for those who send it as a bearer token."""
    service = _Service(runner, api_key, limits or Limits())
    app = web.Application()
    app.router.add_get("/health", service.health)
    app.router.add_get("/warm", service.warm)
    app.router.add_get("/ws/stt", service.stt)
    app.on_startup.append(service.start)
    app.on_shutdown.append(service.close)
    return app


class _Service:
    def __init__(self, runner: ModelRunner, api_key: str, limits: Limits) -> None:
        self._runner = runner
        self._api_key = api_key
        self._limits = limits
        self._sockets: dict[web.WebSocketResponse, asyncio.Transport] = {}

    async def start(self, _: web.Application) -> None:
        self._runner.start_loading()

    async def close(self, _: web.Application) -> None:
        closing = (_close(socket, WSCloseCode.GOING_AWAY) for socket in self._sockets)
        # aiohttp cancels all who wait to send on a connection when one of them gives up.
        await asyncio.gather(*closing, return_exceptions=True)
        for transport in self._sockets.values():  # of those who did not go
            transport.abort()
        await self._runner.close()

    async def health(self, _: web.Request) -> web.Response:
        """200 while the model is loaded or loading, else 503 with the reason."""
        return self._state()

    async def warm(self, request: web.Request) -> web.Response:
        """Load the model, where it is not; answers as /health does, once that is done."""
        if not self._admits(request):
            return _unauthorized()
        with suppress(ModelUnavailableError):  # which the state tells
            await self._runner.wait_ready()
        return self._state()

    def _admits(self, request: web.Request) -> bool:
        return not self._api_key or _holds(request, self._api_key)

    def _state(self) -> web.Response:
        error = self._runner.error
        state = "ready" if self._runner.ready else "failed" if error else "loading"
        body = {"status": state, "model": self._runner.model, "version": __version__}
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
            timeout=_CLOSE_SECONDS,
            compress=False,
        )
        transport = request.transport
        if transport is None or not socket.can_prepare(request):
            return _refusal(HTTPStatus.UPGRADE_REQUIRED, "/ws/stt is a WebSocket", {"Upgrade": "websocket"})
        await socket.prepare(request)
        self._sockets[socket] = transport
        try:
            with suppress(ConnectionError):
                await _Conversation(socket, self._runner, self._limits).run()
        finally:
            del self._sockets[socket]
            if transport.get_write_buffer_size():  # what nobody reads would keep it open
                transport.abort()
        return socket


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


class _Conversation:
    """One client's connection."""

    def __init__(self, socket: web.WebSocketResponse, runner: ModelRunner, limits: Limits) -> None:
        self._socket = socket
        self._runner = runner
        self._limits = limits
        self._utterance: _Utterance | None = None
        self._has_failed = False

    async def run(self) -> None:
        """Serve until the client leaves or falls silent; raises ConnectionError."""
        try:
            while (message := await self._next_message()) is not None:
                try:
                    if isinstance(message, bytes):
                        self._hear(message)
                    else:
                        await self._obey(message)
                except SttError as error:
                    await self._fail(error)
        except TimeoutError:
            await _close(self._socket, WSCloseCode.POLICY_VIOLATION, b"idle for too long")
        finally:
            if self._utterance:
                await self._utterance.cancel()

    async def _next_message(self) -> str | bytes | None:
        while True:
            try:
                # receive() has a limit of its own, but that begins anew with every pong.
                async with asyncio.timeout(self._limits.idle_timeout):
                    message = await self._socket.receive()
            except TimeoutError:
                if self._utterance and self._utterance.is_due:
                    continue
                raise
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return None
            data: str | bytes = message.data
            return data

    async def _obey(self, text: str) -> None:
        message = decode_client(text)
        if isinstance(message, Start):
            if self._utterance and not self._utterance.is_answered:
                raise MessageError("start came before the final of the utterance before it")
            whisper_language(message.language)  # a language that nobody knows is refused at once
            await _send(self._socket, Ready(self._runner.model, __version__))
            self._utterance = _Utterance(self._socket, self._runner, message, self._limits.max_utterance)
        elif self._utterance:
            self._utterance.stop()
        elif not self._has_failed:
            raise MessageError("stop came before start")

    def _hear(self, pcm: bytes) -> None:
        if self._utterance:
            self._utterance.hear(pcm)
        elif not self._has_failed:
            raise MessageError("audio came before start")

    async def _fail(self, error: SttError) -> None:
        """Say so once: audio and a stop that were on their way are no further mistakes."""
        if self._utterance:
            await self._utterance.cancel()
        self._has_failed = True
        await _send(self._socket, _failure(error))


class _Utterance:
    """The audio of one Start on its way to the model, and the answers on their way back."""

    def __init__(
        self, socket: web.WebSocketResponse, runner: ModelRunner, start: Start, max_seconds: float
    ) -> None:
        self._socket = socket
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = int(max_seconds * BYTES_PER_SECOND)
        self._max_seconds = max_seconds
        self._is_stopped = False
        self._answering = asyncio.create_task(self._answer(runner, start))

    @property
    def is_answered(self) -> bool:
        return self._answering.done()

    @property
    def is_due(self) -> bool:
        """Whether the client has nothing left to do but wait."""
        return self._is_stopped and not self.is_answered

    def hear(self, pcm: bytes) -> None:
        """More audio; what comes after the stop or the answer is dropped."""
        if self._is_stopped or self.is_answered:
            return
        self._room -= len(pcm)
        if self._room < 0:
            raise _TooLongError(f"the utterance is longer than {self._max_seconds:g} s")
        self._audio.put_nowait(pcm)

    def stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self._audio.put_nowait(None)

    async def cancel(self) -> None:
        self._answering.cancel()
        await asyncio.wait([self._answering])

    async def _answer(self, runner: ModelRunner, start: Start) -> None:
        with suppress(ConnectionError):  # the reader of the connection sees it too, and ends it
            try:
                async with aclosing(transcribe(runner, self._received(), start)) as messages:
                    async for message in messages:
                        await _send(self._socket, message)
            except SttError as error:
                await _send(self._socket, _failure(error))
            except ConnectionError:
                raise
            except Exception:  # noqa: BLE001 - nobody is left waiting for an answer, whatever happened
                _log.exception("an utterance failed")
                await _send(self._socket, Failure("internal", "the worker failed; its log says why"))

    async def _received(self) -> AsyncIterator[bytes]:
        while (pcm := await self._audio.get()) is not None:
            yield pcm


class _TooLongError(SttError):
    """An utterance is over the limit."""


async def _send(socket: web.WebSocketResponse, message: WorkerMessage) -> None:
    try:
        async with asyncio.timeout(_SEND_SECONDS):
            await socket.send_str(encode(message))
    except TimeoutError:
        raise ConnectionResetError("the client does not read what it is sent") from None


async def _close(socket: web.WebSocketResponse, code: WSCloseCode, reason: bytes = b"") -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await socket.close(code=code, message=reason)


def _failure(error: SttError) -> Failure:
    match error:
        case MessageError():
            code = "bad-message"
        case _TooLongError():
            code = "too-long"
        case ModelUnavailableError():
            code = "model-unavailable"
        case OverloadedError():
            code = "overloaded"
        case _:
            code = "internal"
    return Failure(code, str(error))
