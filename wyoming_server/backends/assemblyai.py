"""AssemblyAI's v3 streaming service: the voice goes out while it is spoken.

The facts about the protocol are AssemblyAI's documentation of autumn 2026; docs/architecture.md sums them up.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from modal_whisper.languages import LANGUAGES
from wyoming_server.backends.assemblyai_errors import error_for_close, error_for_message
from wyoming_server.backends.base import Connected, Hypothesis, relay
from wyoming_server.backends.sockets import BackgroundTasks, open_socket
from wyoming_server.backends.turns import Turns
from wyoming_server.errors import BackendError, OverdueError, UnreachableError
from wyoming_server.languages import ASSEMBLYAI

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.recording import Recording

_LOGGER = logging.getLogger(__name__)

_FRAME_MS: Final = 50
_FRAME_BYTES: Final = 1600
_FORCE_ENDPOINT: Final = '{"type":"ForceEndpoint"}'
_TERMINATE: Final = '{"type":"Terminate"}'
_SESSION_END_TIMEOUT: Final = 5.0
"""Seconds for Termination to come; measured by others: up to 1.2 s."""
_STRAGGLER_SECONDS: Final = 0.5
"""A forced end is answered within 0.32 s (third party, 90th percentile); with no turn open, not at all."""
_MAX_KEY_TERMS: Final = 100
_MAX_KEY_TERM_LENGTH: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyAIOptions:
    """What the settings say about AssemblyAI; times in seconds."""

    api_key: str
    url: str
    model: str
    mode: str
    languages: tuple[str, ...]
    """Language codes to expect, the commonest first; empty: those of the request."""
    connect_timeout: float
    """From being asked to the service's Begin."""
    timeout: float
    """From the last sample, or from Begin where that comes later, to the final."""

    @property
    def is_pro(self) -> bool:
        """Whether the model is of the Pro family, which ends a turn on demand without losing words."""
        return not self.model.startswith(("universal-streaming-", "whisper-"))


class AssemblyAI:
    """The backend `assemblyai`."""

    name = "assemblyai"

    def __init__(self, options: AssemblyAIOptions, session: aiohttp.ClientSession) -> None:
        self._options = options
        self._session = session
        self._endings = BackgroundTasks()

    @property
    def languages(self) -> frozenset[str]:
        """The languages of the model; a model that we do not know is trusted with any."""
        return ASSEMBLYAI.get(self._options.model, LANGUAGES)

    def start(self) -> None:
        """Nothing to prepare: a session costs money from its first second."""

    async def wait_ready(self) -> None:
        """Return at once: the first utterance finds out."""

    def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Progress, None]:
        """Stream the recording, see Backend.transcribe."""
        return relay(lambda report: self._run(recording, request, report))

    async def close(self) -> None:
        """Wait until every session is ended; that is bounded by a time-out of its own."""
        await self._endings.wait()

    async def _run(
        self, recording: Recording, request: Request, report: Callable[[Progress], None]
    ) -> Hypothesis:
        begin_by = asyncio.get_running_loop().time() + self._options.connect_timeout
        socket = await open_socket(
            self._session,
            session_url(self._options, request),
            {"Authorization": self._options.api_key},
            self._options.connect_timeout,
        )
        try:
            return await _Conversation(socket, recording, report, self._options, begin_by).final()
        finally:
            self._endings.add(_end_session(socket))


class _Conversation:
    """One open socket: audio out, turns in, until the text is complete.

    Sender, receiver and two timers work on one future: whoever first knows the outcome sets it.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        recording: Recording,
        report: Callable[[Progress], None],
        options: AssemblyAIOptions,
        begin_by: float,
    ) -> None:
        self._socket = socket
        self._recording = recording
        self._report = report
        self._options = options
        self._begin_by = begin_by
        self._loop = asyncio.get_running_loop()
        self._turns = Turns()
        self._outcome: asyncio.Future[Hypothesis] = self._loop.create_future()
        self._begun = asyncio.Event()
        self._end_demanded = False

    async def final(self) -> Hypothesis:
        """Return the final; raises a BackendError."""
        tasks = [asyncio.create_task(work) for work in (self._send(), self._receive(), self._watch_clock())]
        try:
            return await self._outcome
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        # A broken socket is the receiver's to explain: an Error message may still be waiting there.
        with suppress(ConnectionError):
            async for frame in self._recording.frames(ms=_FRAME_MS):
                await self._socket.send_bytes(frame.ljust(_FRAME_BYTES, b"\0"))
            if self._turns.are_settled(self._recording.speech):
                self._finish()
                return
            self._end_demanded = True
            await self._socket.send_str(_FORCE_ENDPOINT if self._options.is_pro else _TERMINATE)

    async def _receive(self) -> None:
        try:
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(message.data)
            self._fail(error_for_close(self._socket.close_code))
        except BackendError as error:
            self._fail(error)

    async def _watch_clock(self) -> None:
        try:
            async with asyncio.timeout_at(self._begin_by):
                await self._begun.wait()
        except TimeoutError:
            self._fail(UnreachableError(f"no session within {self._options.connect_timeout:g} s"))
            return
        await self._recording.wait_ended()
        await asyncio.sleep(self._options.timeout)
        self._fail(OverdueError(f"no final within {self._options.timeout:g} s after the last sample"))

    def _take(self, text: str) -> None:
        try:
            message = json.loads(text)
            kind = message.get("type")
        except (ValueError, AttributeError, RecursionError):
            _LOGGER.debug("assemblyai sent something that is no message")
            return
        if kind == "Begin":
            self._begun.set()
            self._report(Connected())
        elif kind == "Turn":
            self._take_turn(message)
        elif kind == "Termination" and self._end_demanded:
            self._finish()
        elif kind == "Error" or "error" in message:
            raise error_for_message(message)

    def _take_turn(self, message: dict[str, object]) -> None:
        try:
            self._turns.absorb(message, self._recording.speech)
        except (KeyError, TypeError, ValueError):
            _LOGGER.debug("assemblyai sent a turn that is none")
            return
        self._report(Hypothesis(self._turns.text))
        if not (self._end_demanded and message["end_of_turn"]):
            return
        if self._turns.reach_end_of(self._recording.speech):
            self._finish()
        elif self._options.is_pro:
            self._loop.call_later(_STRAGGLER_SECONDS, self._finish_unless_open)

    def _finish_unless_open(self) -> None:
        if not self._turns.are_open:
            self._finish()

    def _finish(self) -> None:
        if not self._outcome.done():
            self._outcome.set_result(
                Hypothesis(self._turns.text, is_final=True, language=self._turns.language)
            )

    def _fail(self, error: BackendError) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)


def session_url(options: AssemblyAIOptions, request: Request) -> URL:
    """The address of a session; everything the service is told about it stands in the query."""
    query = {"speech_model": options.model, "sample_rate": "16000", "encoding": "pcm_s16le"}
    languages = options.languages or ((request.language,) if request.language else ())
    if options.is_pro:
        if not options.model.startswith("u3-"):
            query["mode"] = options.mode
        if languages:
            query["language_codes"] = json.dumps(languages)
    if len(languages) != 1 and options.model != "universal-streaming-english":
        query["language_detection"] = "true"
    key_terms = [term for term in request.key_terms if len(term) <= _MAX_KEY_TERM_LENGTH]
    if key_terms:
        query["keyterms_prompt"] = json.dumps(key_terms[:_MAX_KEY_TERMS], ensure_ascii=False)
    return (URL(options.url) / "v3" / "ws").with_query(query)


async def _end_session(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Say Terminate and wait for the service to agree: a session merely dropped is billed on."""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(_SESSION_END_TIMEOUT):
            await socket.send_str(_TERMINATE)
            async for _ in socket:
                pass
    await socket.close()
