"""AssemblyAI's v3 streaming service: the voice goes out while it is spoken.

The facts about the protocol are AssemblyAI's documentation of autumn 2026; docs/architecture.md sums them up.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from yarl import URL

from modal_whisper.languages import LANGUAGES
from wyoming_server.backends.assemblyai_conversation import TERMINATE, Conversation, wait_begin
from wyoming_server.backends.base import Request, relay
from wyoming_server.backends.sockets import BackgroundTasks, close_socket, open_socket
from wyoming_server.errors import BackendError, UnreachableError
from wyoming_server.languages import ASSEMBLYAI

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    import aiohttp

    from wyoming_server.backends.base import Hypothesis, Progress
    from wyoming_server.recording import Audio

_SESSION_END_TIMEOUT: Final = 5.0
"""Seconds for Termination to come; measured by others: up to 1.2 s."""
_NEWS_MS: Final = 350
_SLOW_NEWS_MS: Final = 850
"""Silence after the last speech heard, by which the service has told of it: by a final 0.45 s after a whole
sentence, else by a partial 0.6 s (1.2 s in modes that take their time) after it began; third party."""
_MAX_KEY_TERMS: Final = 100
_MAX_KEY_TERM_LENGTH: Final = 50
_KEY_TERM_ROOM: Final = 6000
"""Characters of the address; many servers take no more than 8000 of it in all."""
_QUOTED_COMMA: Final = 6
"""What JSON puts between terms, as an address has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyAIOptions:
    """What the settings say about AssemblyAI; times in seconds."""

    api_key: str = field(repr=False)
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

    @property
    def takes_mode(self) -> bool:
        """Whether the model can be told how to weigh speed."""
        return self.is_pro and not self.model.startswith("u3-")

    @property
    def news_ms(self) -> int:
        """Silence after the last speech heard, by which the service has told of it."""
        return _SLOW_NEWS_MS if self.takes_mode and self.mode != "min_latency" else _NEWS_MS


class AssemblyAI:
    """The backend `assemblyai`. `spend` is told for how many seconds each session was open."""

    name = "assemblyai"
    hears_while_spoken = True

    def __init__(
        self,
        options: AssemblyAIOptions,
        session: aiohttp.ClientSession,
        spend: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._session = session
        self._spend = spend
        self._endings = BackgroundTasks()

    @property
    def languages(self) -> frozenset[str]:
        """The languages of the model; a model that we do not know is trusted with any."""
        return ASSEMBLYAI.get(self._options.model, LANGUAGES)

    def start(self) -> None:
        """Nothing to prepare: a session costs money from its first second."""

    def warm(self) -> None:
        """Nothing to warm, for the same reason."""

    async def probe(self) -> None:
        """Begin a session and end it at once; raises a BackendError."""
        socket = await self._open(Request())
        opened_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await wait_begin(socket)
        except TimeoutError:
            raise UnreachableError(f"no session within {self._options.connect_timeout:g} s") from None
        finally:
            self._endings.add(self._end_session(socket, opened_at))

    async def wait_ready(self) -> None:
        """Return at once: the first utterance finds out."""

    def transcribe(self, recording: Audio, request: Request) -> AsyncGenerator[Progress, None]:
        """Stream the recording, see Backend.transcribe."""
        return relay(lambda report: self._run(recording, request, report))

    async def close(self) -> None:
        """Wait until every session is ended; that is bounded by a time-out of its own."""
        await self._endings.wait()

    async def _run(
        self, recording: Audio, request: Request, report: Callable[[Progress], None]
    ) -> Hypothesis:
        begin_by = asyncio.get_running_loop().time() + self._options.connect_timeout
        opening = asyncio.create_task(self._open(request))
        try:
            await asyncio.wait([opening])  # which leaves it alone if we are cancelled
        except asyncio.CancelledError:
            self._endings.add(self._end_session_once_open(opening))
            raise
        socket, opened_at = opening.result(), asyncio.get_running_loop().time()
        try:
            return await Conversation(socket, recording, report, self._options, begin_by).final()
        finally:
            self._endings.add(self._end_session(socket, opened_at))

    async def _open(self, request: Request) -> aiohttp.ClientWebSocketResponse:
        return await open_socket(
            self._session,
            session_url(self._options, request),
            {"Authorization": self._options.api_key},
            self._options.connect_timeout,
        )

    async def _end_session(self, socket: aiohttp.ClientWebSocketResponse, opened_at: float) -> None:
        """Say Terminate and wait for the service to agree: a session merely dropped is billed on."""
        try:
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(_SESSION_END_TIMEOUT):
                    await socket.send_str(TERMINATE)
                    async for _ in socket:
                        pass
            await close_socket(socket)
        finally:
            self._spend(asyncio.get_running_loop().time() - opened_at)

    async def _end_session_once_open(self, opening: asyncio.Task[aiohttp.ClientWebSocketResponse]) -> None:
        """End a session that nobody waits for any more; the service may have begun it already."""
        with suppress(BackendError):
            await self._end_session(await opening, asyncio.get_running_loop().time())


def session_url(options: AssemblyAIOptions, request: Request) -> URL:
    """The address of a session; everything the service is told about it stands in the query."""
    query = {"speech_model": options.model, "sample_rate": "16000", "encoding": "pcm_s16le"}
    languages = options.languages or ((request.language,) if request.language else ())
    if options.is_pro:
        if options.takes_mode:
            query["mode"] = options.mode
        if languages:
            query["language_codes"] = json.dumps(languages)
    if len(languages) != 1 and options.model != "universal-streaming-english":
        query["language_detection"] = "true"
    if key_terms := _fitting(request.key_terms):
        query["keyterms_prompt"] = json.dumps(key_terms, ensure_ascii=False)
    return (URL(options.url) / "v3" / "ws").with_query(query)


def _fitting(terms: Iterable[str]) -> list[str]:
    """The first of the terms, as many as the service and an address have room for."""
    chosen: list[str] = []
    room = _KEY_TERM_ROOM
    for term in terms:
        room -= len(quote(json.dumps(term, ensure_ascii=False))) + _QUOTED_COMMA
        if room < 0 or len(chosen) == _MAX_KEY_TERMS:
            break
        if len(term) <= _MAX_KEY_TERM_LENGTH:
            chosen.append(term)
    return chosen
