"""One Wyoming connection: events in, one engine, events out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.ping import Pong

from wyoming_server.audio import AudioFormat
from wyoming_server.backends.base import Request
from wyoming_server.errors import ClientError, FramingError
from wyoming_server.utterance import INTERNAL_ERROR, Utterance, Wishes, read_wishes
from wyoming_server.wire import EventReader

if TYPE_CHECKING:
    from wyoming_server.engine import Engine
    from wyoming_server.recording import Pool

_LOGGER = logging.getLogger(__name__)

_WRITE_TIMEOUT: Final = 5.0
"""Seconds for a client to take what is written, before it counts as gone."""
_STALLED_SECONDS: Final = 5.0
"""How far a client's audio may be behind the speech of a person before the client counts as stalled."""
_SECOND_LOOK: Final = 0.1
"""Seconds, before a client counts as silent."""
_LINGER_BYTES: Final = 64 * 1024
_LINGER_SECONDS: Final = 1.0
"""How long a client that is turned away may go on sending, so that it comes to read why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may use up; times in seconds."""

    max_utterance: float
    idle_timeout: float
    max_connections: int
    endpointing: bool = False
    """Whether the server may end an utterance by itself."""


class Connection:
    """Serves one client: any number of utterances, one after another; whoever runs it closes it."""

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        engine: Engine,
        info: Event,
        limits: Limits,
        key_terms: tuple[str, ...] = (),
        *,
        pool: Pool | None = None,
    ) -> None:
        self._reader, self._writer = streams
        self._events = EventReader(self._reader)
        self._engine = engine
        self._info = info
        self._limits = limits
        self._key_terms = key_terms
        self._pool = pool
        self._wishes = Wishes(Request())
        self._utterance: Utterance | None = None
        self._is_open = False  # between an utterance's audio-start and its audio-stop
        self._has_erred = False
        peer = self._writer.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        """Of the client's machine; empty where it speaks by a pipe or a Unix socket."""
        self._is_refusing_audio = False  # what is still to come of an utterance that got its error
        self.last_event_at = asyncio.get_running_loop().time()
        """When the client last said something; loop time."""

    @property
    def is_busy(self) -> bool:
        """Whether an utterance waits for its answer."""
        return self._utterance is not None and not self._utterance.is_answered

    @property
    def lag(self) -> float:
        """How many seconds of audio are missing to what a person could have said by now."""
        return self._utterance.lag if self._utterance and self._is_open else 0.0

    @property
    def is_stalled(self) -> bool:
        """Whether an utterance was begun with which the client does not go on as a person speaks."""
        return self.lag > _STALLED_SECONDS

    def reconfigure(self, info: Event, limits: Limits, key_terms: tuple[str, ...]) -> None:
        """Serve by these from the next utterance on."""
        self._info, self._limits, self._key_terms = info, limits, key_terms

    async def run(self) -> None:
        """Serve until the client leaves, falls silent or sends what is no event."""
        try:
            await self._converse()
        except OSError:
            _LOGGER.debug("a client vanished")
        except Exception:
            _LOGGER.exception("a client could not be served")
            await self.refuse("internal", INTERNAL_ERROR)
        finally:
            if self._utterance:
                await self._utterance.cancel()

    async def turn_away(self, code: str, message: str) -> None:
        """Tell the client why it is not served at all."""
        await self.refuse(code, message)
        with contextlib.suppress(OSError):
            await self._linger()

    def close(self) -> None:
        """Close the connection, once `run` or `turn_away` has ended."""
        self._utterance = None  # holds us in turn: its recording would wait for the garbage collector
        self._writer.close()
        if self._writer.transport.get_write_buffer_size():  # which keeps it open until the client has read
            asyncio.get_running_loop().call_later(_WRITE_TIMEOUT, self._writer.transport.abort)

    async def wait_idle(self) -> None:
        """Return when no utterance waits for its answer."""
        if self._utterance:
            await self._utterance.wait_answered()

    async def refuse(self, code: str, message: str) -> None:
        """Tell the client why it is not served any further, an utterance under way included."""
        utterance = self._utterance
        is_told = utterance is not None and not utterance.is_answered and utterance.has_answer
        if utterance:
            await utterance.cancel()
        if not is_told:
            await self._refuse(ClientError(code, message))

    async def _converse(self) -> None:
        try:
            while (event := await self._next_event()) is not None:
                await self._serve(event)
        except FramingError as error:
            await self._refuse(error)
        if self._utterance and not (self._is_open and self._utterance.is_speaking):
            await self._utterance.wait_answered()  # the client may have closed only its own direction
        await self._linger()

    async def _next_event(self) -> Event | None:
        try:
            event = await self._read()
        except TimeoutError:
            event, is_silent = None, True
        else:
            # A sample or a ping now and then would keep an utterance open, and paid for, for ever.
            longest = max(self._limits.idle_timeout, self._limits.max_utterance)
            is_silent = self._utterance is not None and self._utterance.lag > longest
        self.last_event_at = asyncio.get_running_loop().time()
        if not is_silent:
            return event
        if self._utterance and self._is_open:
            _LOGGER.warning("a client fell silent in an utterance; answering what it sent")
            self._utterance.stop()
            self._is_open = False
        return None

    async def _read(self) -> Event | None:
        """The next event; raises TimeoutError where none comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.idle_timeout):
                return await self._events.read()
        # To a process that was suspended, time is over at once; what came meanwhile is still to be read.
        async with asyncio.timeout(_SECOND_LOOK):
            return await self._events.read()

    async def _serve(self, event: Event) -> None:
        try:
            match event.type:
                case "audio-chunk":
                    self._take_audio(event.payload or b"")
                case "audio-start":
                    await self._begin(event.data)
                case "audio-stop":
                    self._end()
                case "transcribe":
                    self._wishes = read_wishes(event.data)
                case "describe":
                    await self._write(self._info)
                case "ping":
                    await self._write(Pong(text=event.data.get("text")).event())
                case _:
                    # The protocol grows by events that older servers are meant to pass over.
                    _LOGGER.debug("passed over an event of type %.40r", event.type)
        except ClientError as error:
            await self._refuse(error)
            self._is_refusing_audio = event.type != "audio-stop"

    async def _refuse(self, error: ClientError) -> None:
        """Tell the client; of an utterance that is still open this is the one answer.

        Where that has one, or where one is still due, nothing is told: it would pass for the answer.
        """
        utterance = self._utterance
        if utterance and (utterance.has_answer if self._is_open else utterance.is_due):
            _LOGGER.debug("passed over between an utterance and its answer: %s", error)
            return
        if utterance and not self._is_open:
            await utterance.wait_answered()  # the answer is on its way, and goes first
        # One line for a client, however often it errs.
        _LOGGER.log(logging.DEBUG if self._has_erred else logging.INFO, "refused a client: %s", error)
        self._has_erred = True
        if utterance and self._is_open:
            await utterance.cancel()
        self._is_open = False
        try:
            await self._write(Error(str(error), error.code).event())
        except OSError:
            _LOGGER.debug("the client left before its error event")

    async def _begin(self, data: dict[str, Any]) -> None:
        if self._utterance and self._is_open and not self._utterance.has_answer:
            await self._refuse(
                ClientError("out-of-order", "audio-start came before the audio-stop of the last utterance")
            )
        if self._utterance:
            await self._utterance.wait_answered()
        self._is_refusing_audio = self._is_open = False
        language = self._wishes.request.language
        if language and language not in self._engine.languages:
            raise ClientError("unknown-language", f"no backend understands the language {language[:20]!r}")
        audio_format = AudioFormat(data.get("rate", 0), data.get("width", 0), data.get("channels", 0))
        self._is_open = True
        self._utterance = Utterance(
            self._engine,
            self._present_wishes(),
            audio_format,
            self._write,
            max_seconds=self._limits.max_utterance,
            pool=self._pool,
            endpointing=self._limits.endpointing,
        )

    def _take_audio(self, pcm: bytes) -> None:
        if self._is_refusing_audio:
            return
        if self._utterance is None or not self._is_open:
            raise ClientError("out-of-order", "audio-chunk came without audio-start")
        self._utterance.feed(pcm)

    def _end(self) -> None:
        if self._is_refusing_audio:
            self._is_refusing_audio = False
            return
        if self._utterance is None or not self._is_open:
            raise ClientError("out-of-order", "audio-stop came without audio-start")
        if not self._utterance.has_audio and not self._utterance.has_answer:
            raise ClientError("no-audio", "the utterance holds no audio")
        self._utterance.stop()
        self._is_open = False

    def _present_wishes(self) -> Wishes:
        """What the client asked for, as far as the present settings have it."""
        request = self._wishes.request
        known = [backend.name for backend in self._engine.backends]
        request = replace(
            request,
            names=(*request.names, *self._key_terms),
            backend=request.backend if request.backend in known else None,
        )
        return replace(self._wishes, request=request)

    async def _write(self, event: Event) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT):
                await async_write_event(event, self._writer)
        except TimeoutError:
            self._writer.transport.abort()  # to close it would be to wait for a client that does not read
            raise

    async def _linger(self) -> None:
        """Read on for a while: to close with unread input would take what was written from the client."""
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(_LINGER_BYTES):
                    pass
