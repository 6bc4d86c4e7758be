"""The Whisper worker over /ws/stt (docs/ws-stt.md), on this machine, in this house or on Modal."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from modal_whisper.errors import MessageError
from modal_whisper.languages import LANGUAGES
from modal_whisper.messages import (
    MAX_MESSAGE_BYTES,
    Failure,
    Final as FinalMessage,
    Partial,
    Ready,
    Start,
    Stop,
    WorkerMessage,
    decode_worker,
    encode,
)
from modal_whisper.speech import BYTES_PER_SECOND
from wyoming_server.backends.base import Connected, Hypothesis, relay
from wyoming_server.backends.sockets import (
    BackgroundTasks,
    close_socket,
    error_for_failure,
    error_for_status,
    open_socket,
)
from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    InternalError,
    NotReadyError,
    OverdueError,
    OverloadedError,
    RejectedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping

    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.recording import Audio

_LOGGER = logging.getLogger(__name__)

_WARM_SECONDS: Final = 60.0
"""A sleeping GPU needs 4 to 20 s to wake up, and the answer comes when it has."""
_LONGEST_REASON: Final = 200
_FRAME_MS: Final = 100
_MOST_MS: Final = MAX_MESSAGE_BYTES * 1000 // BYTES_PER_SECOND
_FAILURES: Final[Mapping[str, type[BackendError]]] = {
    "bad-message": RejectedError,
    "too-long": RejectedError,
    "model-unavailable": NotReadyError,
    "overloaded": OverloadedError,
    "internal": InternalError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperOptions:
    """What the settings say about the worker; times in seconds."""

    url: str
    """ws, wss, http or https; /ws/stt is added where there is no path."""
    api_key: str = field(repr=False)
    proxy_key: str = field(repr=False)
    """Modal's proxy-auth pair; empty where the worker does not stand behind that proxy."""
    proxy_secret: str = field(repr=False)
    model: str
    """The model that the worker is supposed to run; empty: any."""
    connect_timeout: float
    """From being asked to the worker's Ready."""
    timeout: float
    """From the last sample, or from Ready where that comes later, to the final."""
    languages: tuple[str, ...] = ()
    """Whisper's codes of those to detect among where the client names none; empty for all."""

    @property
    def socket_url(self) -> URL:
        """Where /ws/stt is."""
        url = URL(self.url)
        url = url.with_scheme({"http": "ws", "https": "wss"}.get(url.scheme, url.scheme))
        return url / "ws" / "stt" if url.path in ("", "/") else url

    def page_url(self, page: str) -> URL:
        """Where a page of the worker is, beside /ws/stt."""
        url = self.socket_url
        return url.with_scheme({"ws": "http", "wss": "https"}[url.scheme]).parent.parent / page

    @property
    def headers(self) -> dict[str, str]:
        """What lets us in."""
        headers = {}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        if self.proxy_key:
            headers |= {"Modal-Key": self.proxy_key, "Modal-Secret": self.proxy_secret}
        return headers


class Whisper:
    """The backend `whisper`. `spend` is told for how many seconds each utterance kept the worker busy."""

    name = "whisper"
    languages = LANGUAGES
    hears_while_spoken = False

    def __init__(
        self,
        options: WhisperOptions,
        session: aiohttp.ClientSession,
        spend: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._session = session
        self._spend = spend
        self._warming: asyncio.Task[None] | None = None
        self._endings = BackgroundTasks()
        self._known_model = options.model

    def start(self) -> None:
        """Nothing to prepare: a worker that nobody needs may sleep."""

    async def wait_ready(self) -> None:
        """Return at once: the first utterance finds out."""

    def warm(self) -> None:
        """Let the worker, which may sleep, load its model."""
        if self._warming is None or self._warming.done():
            self._warming = asyncio.create_task(self._warm(), name="warm the worker")

    async def probe(self) -> None:
        """Return if the worker says that it is well; raises a BackendError."""
        await self._get("health")

    def transcribe(self, recording: Audio, request: Request) -> AsyncGenerator[Progress, None]:
        """Send the recording as fast as the line takes it, see Backend.transcribe."""
        return relay(lambda report: self._run(recording, request, report))

    async def close(self) -> None:
        """Wait until the sockets of past utterances are closed."""
        if self._warming:
            self._warming.cancel()
        await self._endings.wait()

    async def _warm(self) -> None:
        try:
            async with asyncio.timeout(_WARM_SECONDS):
                await self._get("warm")
        except (BackendError, TimeoutError) as error:
            _LOGGER.debug("the worker could not be warmed: %s", error)

    async def _get(self, page: str) -> None:
        try:
            async with self._session.get(
                self._options.page_url(page), headers=self._options.headers
            ) as answer:
                if not answer.ok:
                    raise error_for_status(answer.status, answer.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError) as error:
            raise error_for_failure(error) from None

    async def _run(
        self, recording: Audio, request: Request, report: Callable[[Progress], None]
    ) -> Hypothesis:
        ready_by = asyncio.get_running_loop().time() + self._options.connect_timeout
        socket = await open_socket(
            self._session, self._options.socket_url, self._options.headers, self._options.connect_timeout
        )
        opened_at = asyncio.get_running_loop().time()
        start = Start(request.tag or request.language, request.names, request.terms, self._options.languages)
        sender = asyncio.create_task(_send(socket, recording, start))
        try:
            return await self._receive(socket, recording, report, ready_by)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            self._spend(asyncio.get_running_loop().time() - opened_at)
            self._endings.add(close_socket(socket))

    async def _receive(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        recording: Audio,
        report: Callable[[Progress], None],
        ready_by: float,
    ) -> Hypothesis:
        try:
            async with asyncio.timeout_at(ready_by):
                ready = await _next_message(socket)
        except TimeoutError:
            raise UnreachableError(f"no sign of life within {self._options.connect_timeout:g} s") from None
        if not isinstance(ready, Ready):
            raise RejectedError("the worker began with an unexpected message; is its version the same?")
        report(Connected())
        self._compare_model(ready.model)
        final = await self._in_time(_final(socket, report), recording)
        if final.model not in ("", ready.model):
            _LOGGER.info("the worker answered by %s: %s was not up in time", final.model, ready.model)
        return Hypothesis(final.text, is_final=True, language=final.language)

    async def _in_time(self, work: Coroutine[None, None, FinalMessage], recording: Audio) -> FinalMessage:
        async def set_limit() -> None:
            await recording.wait_ended()
            limit.reschedule(asyncio.get_running_loop().time() + self._options.timeout)

        waiting = asyncio.create_task(set_limit())
        try:
            async with asyncio.timeout(None) as limit:
                return await work
        except TimeoutError:
            raise OverdueError(f"no final within {self._options.timeout:g} s after the last sample") from None
        finally:
            waiting.cancel()

    def _compare_model(self, model: str) -> None:
        if self._known_model and model != self._known_model:
            _LOGGER.warning("the worker runs the model %s, not %s", model, self._known_model)
        self._known_model = model


async def _send(socket: aiohttp.ClientWebSocketResponse, recording: Audio, start: Start) -> None:
    with suppress(ConnectionError):  # the receiver learns why
        await socket.send_str(encode(start))
        async for frame in recording.frames(ms=_FRAME_MS, most_ms=_MOST_MS):
            await socket.send_bytes(frame)
        await socket.send_str(encode(Stop()))


async def _final(socket: aiohttp.ClientWebSocketResponse, report: Callable[[Progress], None]) -> FinalMessage:
    while True:
        message = await _next_message(socket)
        if isinstance(message, Partial):
            report(Hypothesis(message.text))
        elif isinstance(message, FinalMessage):
            return message


async def _next_message(socket: aiohttp.ClientWebSocketResponse) -> WorkerMessage:
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            try:
                decoded = decode_worker(message.data)
            except MessageError:
                raise RejectedError("the worker sent an unknown message; is its version the same?") from None
            if isinstance(decoded, Failure):
                raise _FAILURES.get(decoded.code, RejectedError)(
                    f"the worker says: {_one_line(decoded.message)}"
                )
            return decoded
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise DisconnectedError(f"the connection was closed ({socket.close_code})")


def _one_line(text: str) -> str:
    """What somebody else's program wrote, fit for a log."""
    return " ".join(text.split())[:_LONGEST_REASON]
