"""The worker as a web service: /ws/stt for utterances (docs/ws-stt.md) and /health; runs anywhere."""

from __future__ import annotations

import asyncio
import hmac
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
    from collections.abc import AsyncIterator

    from modal_whisper.messages import WorkerMessage
    from modal_whisper.runner import ModelRunner

_PING_SECONDS: Final = 20.0
_CLOSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients may use up; times in seconds."""

    max_utterance: float = 120.0
    idle_timeout: float = 60.0
    """Without a message from the client, before its connection is closed."""
    max_connections: int = 256


def create_app(runner: ModelRunner, *, api_key: str = "", limits: Limits | None = None) -> web.Application:
    """The service on one model; with an `api_key`, /ws/stt is for those who send it as a bearer token."""
    service = _Service(runner, api_key, limits or Limits())
    app = web.Application()
    app.router.add_get("/health", service.health)
    app.router.add_get("/ws/stt", service.stt)
    app.on_startup.append(service.start)
    app.on_shutdown.append(service.close)
    return app


class _Service:
    def __init__(self, runner: ModelRunner, api_key: str, limits: Limits) -> None:
        self._runner = runner
        self._api_key = api_key
        self._limits = limits
        self._sockets: set[web.WebSocketResponse] = set()

    async def start(self, _: web.Application) -> None:
        self._runner.start_loading()

    async def close(self, _: web.Application) -> None:
        closing = (socket.close(code=WSCloseCode.GOING_AWAY) for socket in set(self._sockets))
        await asyncio.gather(*closing)
        await self._runner.close()

    async def health(self, _: web.Request) -> web.Response:
        """200 while the model is loaded or loading, else 503 with the reason."""
        error = self._runner.error
        state = "ready" if self._runner.ready else "failed" if error else "loading"
        body = {"status": state, "model": self._runner.model, "version": __version__}
        if error:
            return web.json_response(body | {"error": str(error)}, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return web.json_response(body)

    async def stt(self, request: web.Request) -> web.StreamResponse:
        """One client: any number of utterances, one after another."""
        if self._api_key and not _holds(request, self._api_key):
            return _refusal(HTTPStatus.UNAUTHORIZED, "the key is missing or wrong: send it as a bearer token")
        if len(self._sockets) >= self._limits.max_connections:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients are connected; try again later")
        socket = web.WebSocketResponse(
            max_msg_size=MAX_MESSAGE_BYTES, heartbeat=_PING_SECONDS, timeout=_CLOSE_SECONDS
        )
        if not socket.can_prepare(request):
            return _refusal(HTTPStatus.UPGRADE_REQUIRED, "/ws/stt is a WebSocket")
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await _Conversation(socket, self._runner, self._limits).run()
        finally:
            self._sockets.discard(socket)
        return socket


def _holds(request: web.Request, key: str) -> bool:
    given = request.headers.get("Authorization", "")
    return hmac.compare_digest(given.encode(errors="replace"), f"Bearer {key}".encode())


def _refusal(status: HTTPStatus, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


class _Conversation:
    """One client's connection."""

    def __init__(self, socket: web.WebSocketResponse, runner: ModelRunner, limits: Limits) -> None:
        self._socket = socket
        self._runner = runner
        self._limits = limits
        self._utterance: _Utterance | None = None

    async def run(self) -> None:
        """Serve until the client leaves or falls silent."""
        try:
            while True:
                message = await self._socket.receive(self._limits.idle_timeout)
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    return
                try:
                    if message.type is WSMsgType.BINARY:
                        self._hear(message.data)
                    else:
                        await self._obey(message.data)
                except SttError as error:
                    if self._utterance:
                        await self._utterance.cancel()
                    await _send(self._socket, _failure(error))
        except TimeoutError:
            await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"idle for too long")
        finally:
            if self._utterance:
                await self._utterance.cancel()

    async def _obey(self, text: str) -> None:
        message = decode_client(text)
        if isinstance(message, Start):
            if self._utterance and not self._utterance.is_answered:
                raise MessageError("start came before the final of the utterance before it")
            whisper_language(message.language)  # a language that nobody knows is refused at once
            await _send(self._socket, Ready(self._runner.model, __version__))
            self._utterance = _Utterance(self._socket, self._runner, message, self._limits.max_utterance)
        elif self._utterance is None:
            raise MessageError("stop came before start")
        else:
            self._utterance.stop()

    def _hear(self, pcm: bytes) -> None:
        if self._utterance is None:
            raise MessageError("audio came before start")
        self._utterance.hear(pcm)


class _Utterance:
    """The audio of one Start on its way to the model, and the answers on their way back."""

    def __init__(
        self, socket: web.WebSocketResponse, runner: ModelRunner, start: Start, max_seconds: float
    ) -> None:
        self._socket = socket
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = int(max_seconds * BYTES_PER_SECOND)
        self._max_seconds = max_seconds
        self._answering = asyncio.create_task(self._answer(runner, start))

    @property
    def is_answered(self) -> bool:
        return self._answering.done()

    def hear(self, pcm: bytes) -> None:
        """More audio; what comes after the stop or the answer is dropped."""
        if self.is_answered:
            return
        self._room -= len(pcm)
        if self._room < 0:
            raise _TooLongError(f"the utterance is longer than {self._max_seconds:g} s")
        self._audio.put_nowait(pcm)

    def stop(self) -> None:
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

    async def _received(self) -> AsyncIterator[bytes]:
        while (pcm := await self._audio.get()) is not None:
            yield pcm


class _TooLongError(SttError):
    """An utterance is over the limit."""


async def _send(socket: web.WebSocketResponse, message: WorkerMessage) -> None:
    await socket.send_str(encode(message))


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
