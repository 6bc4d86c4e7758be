"""AssemblyAI's synchronous HTTP endpoint: an utterance in one request, for replays and for broken sockets.

Streaming accepts speech hardly faster than it was spoken; this one takes it as fast as the line does. Source
of the facts: AssemblyAI's documentation of its Sync API, autumn 2026.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.http import StreamWriter
from yarl import URL

from wyoming_server.backends.base import Connected, Hypothesis, relay
from wyoming_server.backends.sockets import error_for_failure, error_for_status
from wyoming_server.errors import DisconnectedError, OverdueError, RejectedError, UnreachableError
from wyoming_server.languages import ASSEMBLYAI_SYNC

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from aiohttp.abc import AbstractStreamWriter

    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.recording import Audio

_FRAME_MS: Final = 50
_MOST_MS: Final = 2000
_SHORTEST_MS: Final = 80
"""The service refuses shorter audio."""
_MAX_KEY_TERMS: Final = 100
_MAX_KEY_TERM_CHARACTERS: Final = 8000
_MAX_ANSWER: Final = 1024 * 1024
"""Bytes; the words of 120 s are a twentieth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyAISyncOptions:
    """What the settings say about the endpoint; times in seconds."""

    api_key: str = field(repr=False)
    url: str
    model: str
    languages: tuple[str, ...]
    """Language codes to expect, the commonest first; empty: those of the request."""
    connect_timeout: float
    timeout: float
    """From the last sample, or from the connection where that comes later, to the answer."""


class AssemblyAISync:
    """The backend `assemblyai_sync`. `spend` is told the seconds of audio that each utterance is billed."""

    name = "assemblyai_sync"
    hears_while_spoken = False

    def __init__(
        self,
        options: AssemblyAISyncOptions,
        session: aiohttp.ClientSession,
        spend: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._session = session
        self._spend = spend

    @property
    def languages(self) -> frozenset[str]:
        """The languages of the model."""
        return ASSEMBLYAI_SYNC.get(self._options.model, ASSEMBLYAI_SYNC["universal-3-5-pro"])

    def start(self) -> None:
        """Nothing to prepare."""

    def warm(self) -> None:
        """Nothing to warm: the first request opens the connection."""

    async def wait_ready(self) -> None:
        """Return at once: the first utterance finds out."""

    async def close(self) -> None:
        """Nothing stays open."""

    async def probe(self) -> None:
        """Ask for the page that opens connections; it does not look at the key."""
        try:
            async with self._session.get(
                URL(self._options.url) / "v1" / "warm", allow_redirects=False
            ) as response:
                if response.status >= 300:  # noqa: PLR2004 - HTTP's own border
                    raise error_for_status(response.status, response.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError) as error:
            raise error_for_failure(error) from None

    def transcribe(self, recording: Audio, request: Request) -> AsyncGenerator[Progress, None]:
        """Upload the recording while it is spoken or as fast as the line takes it, see Backend.transcribe."""
        return relay(lambda report: self._run(recording, request, report))

    async def _run(
        self, recording: Audio, request: Request, report: Callable[[Progress], None]
    ) -> Hypothesis:
        upload = _Upload(recording, report)
        watch = asyncio.create_task(self._watch_clock(recording, upload))
        post = asyncio.create_task(self._post(upload, request))
        try:
            done, _ = await asyncio.wait([watch, post], return_when=asyncio.FIRST_COMPLETED)
            return (post if post in done else watch).result()
        finally:
            for task in (watch, post):
                task.cancel()
            await asyncio.gather(watch, post, return_exceptions=True)
            if upload.connected.is_set() and not upload.is_refused:
                self._spend(recording.seconds)

    async def _watch_clock(self, recording: Audio, upload: _Upload) -> Hypothesis:
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await upload.connected.wait()
        except TimeoutError:
            raise UnreachableError(f"no connection within {self._options.connect_timeout:g} s") from None
        await recording.wait_ended()
        await asyncio.sleep(self._options.timeout)
        raise OverdueError(f"no answer within {self._options.timeout:g} s after the last sample")

    async def _post(self, upload: _Upload, request: Request) -> Hypothesis:
        try:
            return _hypothesis(await self._ask(upload, request))
        except (aiohttp.ClientError, OSError) as error:
            if upload.connected.is_set():
                raise DisconnectedError(f"the connection broke ({type(error).__name__})") from None
            raise error_for_failure(error) from None

    async def _ask(self, upload: _Upload, request: Request) -> bytes:
        with aiohttp.MultipartWriter("form-data") as body:
            config = body.append_json(_config(self._options, request, self.languages))
            config.set_content_disposition("form-data", name="config")
            body.append_payload(upload)
            upload.set_content_disposition("form-data", name="audio", filename="audio.pcm")
        try:
            async with self._session.post(
                URL(self._options.url) / "v1" / "transcribe" / "live",
                data=body,
                headers={"Authorization": self._options.api_key, "X-AAI-Model": self._options.model},
                timeout=aiohttp.ClientTimeout(total=None),
                allow_redirects=False,  # the audio goes where the settings say, and nowhere else
            ) as response:
                return await _read(response, upload)
        except BaseException:
            # At once: a connection that is whole is in the pool by now, and soon another utterance's.
            upload.let_go()
            raise


class _Upload(aiohttp.Payload):
    """The audio on its way out; whoever writes it has a connection."""

    def __init__(self, recording: Audio, report: Callable[[Progress], None]) -> None:
        super().__init__(None, content_type="audio/pcm")
        self._recording = recording
        self._report = report
        self._transport: asyncio.Transport | None = None
        self.connected = asyncio.Event()
        self.is_complete = False
        self.is_refused = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Fail; aiohttp wants to be able to ask."""
        raise TypeError(f"audio is no text ({encoding}, {errors})")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the recording to its end, in a task of aiohttp's."""
        if isinstance(writer, StreamWriter):
            self._transport = writer.transport
        self.connected.set()
        self._report(Connected())
        missing = _SHORTEST_MS * 32
        async with aclosing(self._recording.frames(ms=_FRAME_MS, most_ms=_MOST_MS)) as frames:
            async for frame in frames:
                missing -= len(frame)
                await writer.write(frame)
        if missing > 0:
            await writer.write(bytes(missing))
        self.is_complete = True

    def let_go(self) -> None:
        """End the connection without waiting: not for what nobody reads, nor for the farewell of TLS."""
        if self._transport:
            self._transport.abort()


def _config(
    options: AssemblyAISyncOptions, request: Request, understood: frozenset[str]
) -> dict[str, object]:
    config: dict[str, object] = {"sample_rate": 16_000, "channels": 1}
    # The setting is that of the streaming model, which knows languages that this one does not.
    languages = [code for code in options.languages if code in understood]
    if languages or request.language:
        config["language_codes"] = languages or [request.language]
    terms: list[str] = []
    for term in request.key_terms[:_MAX_KEY_TERMS]:
        if sum(map(len, terms)) + len(term) > _MAX_KEY_TERM_CHARACTERS:
            break
        terms.append(term)
    if terms:
        config["keyterms_prompt"] = terms
    return config


async def _read(response: aiohttp.ClientResponse, upload: _Upload) -> bytes:
    if response.status != 200:  # noqa: PLR2004 - HTTP's own number
        upload.is_refused = True
        raise error_for_status(response.status, response.headers.get("Retry-After"))
    if not upload.is_complete:
        raise DisconnectedError("the service answered before it had heard everything")
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_ANSWER:
            raise RejectedError("the service sent an answer without end")
    return bytes(body)


def _hypothesis(body: bytes) -> Hypothesis:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise RejectedError("the service sent an answer that is no JSON") from None
    text = answer.get("text") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise RejectedError("the service sent an answer without a text")
    return Hypothesis(text.strip(), is_final=True)
