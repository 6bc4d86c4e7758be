"""One client's connection to /ws/stt (docs/ws-stt.md): any number of utterances, one after another."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import WSCloseCode, WSMsgType, web

from modal_whisper.errors import MessageError, ModelUnavailableError, OverloadedError, SttError
from modal_whisper.messages import Failure, Partial, Start, decode_client, encode
from modal_whisper.speech import BYTES_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from modal_whisper import messages
    from modal_whisper.messages import Ready, WorkerMessage

CLOSE_SECONDS: Final = 1.0
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


class Ear(Protocol):
    """What answers the utterances of a connection: a model in this process, or whatever else has words."""

    def greet(self, start: Start) -> Ready:
        """Answer Start at once; raises MessageError for what it asks in vain, such as an unknown language."""

    def transcribe(
        self, audio: AsyncIterator[bytes], start: Start
    ) -> AsyncGenerator[Partial | messages.Final, None]:
        """As session.transcribe does: any number of partials, then exactly one final; raises SttError."""


class Conversation:
    """One client's connection."""

    def __init__(self, socket: web.WebSocketResponse, ear: Ear, limits: Limits) -> None:
        self._socket = socket
        self._ear = ear
        self._limits = limits
        self._utterance: _Utterance | None = None
        self._has_failed = False
        self._patience = asyncio.timeout(None)

    async def run(self) -> None:
        """Serve until the client leaves or falls silent; raises ConnectionError."""
        try:
            async with self._patience:
                while (message := await self._next_message()) is not None:
                    try:
                        if isinstance(message, bytes):
                            self._hear(message)
                        else:
                            await self._obey(message)
                    except SttError as error:
                        await self._fail(error)
        except TimeoutError:
            await close(self._socket, WSCloseCode.POLICY_VIOLATION, b"idle for too long")
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
            if self._utterance:
                await self._utterance.wait_over()
            await _send(self._socket, self._ear.greet(message))
            self._utterance = _Utterance(
                self._socket, self._ear, message, self._limits.max_utterance, self._give_up
            )
        elif self._utterance:
            self._utterance.stop()
        elif not self._has_failed:
            raise MessageError("stop came before start")

    def _give_up(self) -> None:
        """Let the client go, who cannot be told its answer."""
        self._patience.reschedule(asyncio.get_running_loop().time())

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
    """The audio of one Start on its way to the ear, and the answers on their way back."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        ear: Ear,
        start: Start,
        max_seconds: float,
        give_up: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = int(max_seconds * BYTES_PER_SECOND)
        self._max_seconds = max_seconds
        self._give_up = give_up
        self._is_stopped = self._is_answered = False
        self._answering = asyncio.create_task(self._answer(ear, start))

    @property
    def is_answered(self) -> bool:
        """Whether the client may have its answer; the work for it may still have to be tidied up."""
        return self._is_answered or self._answering.done()

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
        await self.wait_over()

    async def wait_over(self) -> None:
        await asyncio.wait([self._answering])

    async def _answer(self, ear: Ear, start: Start) -> None:
        try:
            try:
                async with aclosing(ear.transcribe(self._received(), start)) as messages:
                    async for message in messages:
                        await self._tell(message)
            except SttError as error:
                await self._tell(_failure(error))
            except ConnectionError:
                raise
            except Exception:  # noqa: BLE001 - nobody is left waiting for an answer, whatever happened
                _log.exception("an utterance failed")
                await self._tell(Failure("internal", "the worker failed; its log says why"))
        except ConnectionError:
            self._give_up()

    async def _tell(self, message: WorkerMessage) -> None:
        if not self._is_answered:  # what goes wrong after the answer is no second one
            self._is_answered = not isinstance(message, Partial)
            await _send(self._socket, message)

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


async def close(socket: web.WebSocketResponse, code: WSCloseCode, reason: bytes = b"") -> None:
    """Say why, and do not wait long for the other side to say the same."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
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
