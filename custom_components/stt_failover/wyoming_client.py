"""One utterance over the Wyoming protocol: audio goes to the server while what it hears comes back.

Knows nothing of Home Assistant. Every outage is a NoAnswerError, within the limits.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, runtime_checkable
from urllib.parse import urlsplit

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_read_event, async_write_event

from .errors import ServerError
from .wav import CHANNELS, RATE, WIDTH, HeaderSkipper

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence

_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - what a server may say that it listens on; nothing is bound here

_SLACK: Final = 4.0
"""Seconds that an answer may come later than the server promises: its last words, and the network."""


class NoAnswerError(ServerError):
    """The server has no words for this utterance.

    `code` is the server's, or `unreachable`, `silent` (no answer in time) or `lost` (the connection).
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long each step may take, in seconds."""

    connect: float = 3.0
    write: float = 5.0
    pause: float = 60.0
    """Without audio, after which what came so far counts as the whole utterance."""
    longest: float = 600.0
    """Of an utterance, after which it is closed: the most that a server can be told to take."""
    answer: float = 12.0
    """From the last sample to the answer: a little more than the server itself takes at most."""
    farewell: float = 1.0
    """For an error that a server may have sent before it stopped reading."""

    @classmethod
    def for_deadline(cls, deadline: float) -> Self:
        """For a server that answers by `deadline`, in seconds after the last sample."""
        return cls(answer=deadline + _SLACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the server is told before the audio; `names` have the house's spelling, most important first."""

    language: str | None = None
    names: Sequence[str] = ()
    backend: str | None = None
    """Ask this one alone."""


@dataclass(frozen=True, slots=True)
class Heard:
    """All that was understood so far; `backend` is who answered, for the final only."""

    text: str = field(repr=False)
    is_final: bool = False
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A server that says by `uri` where it listens, and whose other port is reached at `host`."""

    uri: str
    host: str

    def address(self) -> tuple[str, int]:
        """Where to connect to; raises NoAnswerError where it has no port in the network."""
        try:
            parts = urlsplit(self.uri)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme != "tcp" or not port:
            raise NoAnswerError(
                "the server has no Wyoming port in the network; set its URI to tcp://…", "unreachable"
            )
        named = parts.hostname
        if named is None or named in _EVERYWHERE:
            return self.host, port
        if _is_loopback(named) and not _is_loopback(self.host):
            raise NoAnswerError(
                f"the server's Wyoming port is open to its own machine only; set its URI to tcp://0.0.0.0:{port}",
                "unreachable",
            )
        return named, port


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def listen(
    server: Server, wishes: Wishes, stream: AsyncIterable[bytes], limits: Limits
) -> AsyncGenerator[Heard]:
    """Send audio (16 kHz, mono, 16-bit; a WAV header is skipped) and give what is heard, the final last.

    The server may answer before the audio ends; the rest of it is not read then. `stream` is read to its
    end or closed; an error of its own is raised as it is.
    """
    chunks = aiter(stream)
    try:
        try:
            async with asyncio.timeout(limits.connect):
                reader, writer = await asyncio.open_connection(*server.address())
        except (OSError, ValueError) as error:
            raise NoAnswerError(f"cannot connect ({_reason(error)})", "unreachable") from None
        upload = asyncio.create_task(_upload(writer, wishes, chunks, limits))
        try:
            async with aclosing(_answer(reader, upload)) as answer:
                async for heard in answer:
                    yield heard
        finally:
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # to close it would be to wait for a server that does not read
            writer.close()
    finally:
        if isinstance(chunks, _Closable):
            await chunks.aclose()


@runtime_checkable
class _Closable(Protocol):
    async def aclose(self) -> None: ...


async def _answer(reader: asyncio.StreamReader, upload: asyncio.Task[float]) -> AsyncGenerator[Heard]:
    partial = ""
    while True:
        event = await _next_event(reader, upload)
        if event is None:
            raise NoAnswerError("the connection was lost", "lost")
        data = event.data
        text = data.get("text")
        if Error.is_type(event.type):
            code = data.get("code")
            raise NoAnswerError(
                str(text or "the server gave no reason"), code if isinstance(code, str) else "error"
            )
        if TranscriptStart.is_type(event.type):
            partial = ""
        elif TranscriptChunk.is_type(event.type) and isinstance(text, str):
            partial += text
            yield Heard(partial)
        elif Transcript.is_type(event.type) and isinstance(text, str):
            yield Heard(text, is_final=True, backend=_backend(data.get("context")))
            return


def _backend(context: object) -> str | None:
    backend = context.get("backend") if isinstance(context, dict) else None
    return backend if isinstance(backend, str) and backend else None


async def _next_event(reader: asyncio.StreamReader, upload: asyncio.Task[float]) -> Event | None:
    """What the server says next, by the time that the finished upload sets; None where it is gone."""
    read = asyncio.create_task(_read(reader))
    try:
        await asyncio.wait({read, upload}, return_when=asyncio.FIRST_COMPLETED)
        if not read.done():
            left = upload.result() - asyncio.get_running_loop().time()
            await asyncio.wait({read}, timeout=max(left, 0))
        if not read.done():
            raise NoAnswerError("the server did not answer in time", "silent")
        return read.result()
    finally:
        read.cancel()
        await asyncio.gather(read, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Event | None:
    try:
        event = await async_read_event(reader)
        return None if event is None else Event(str(event.type), dict(event.data or {}))
    except OSError, EOFError, LookupError, AttributeError, TypeError, ValueError:
        return None  # broken off, or no Wyoming at all


async def _upload(
    writer: asyncio.StreamWriter, wishes: Wishes, chunks: AsyncIterator[bytes], limits: Limits
) -> float:
    """Send everything; returns the loop's time by which the answer has to be there."""
    now = asyncio.get_running_loop().time

    async def write(event: Event) -> None:
        async with asyncio.timeout(limits.write):
            await async_write_event(event, writer)

    transcribe = Transcribe(
        name=wishes.backend,
        language=wishes.language,
        transcript_names=list(wishes.names) or None,
        context={"streaming": True},
    )
    audio: dict[str, Any] = {"rate": RATE, "width": WIDTH, "channels": CHANNELS}
    skipper = HeaderSkipper()
    try:
        await write(transcribe.event())
        await write(AudioStart(**audio).event())
        async with aclosing(_bounded(chunks, limits)) as pieces:
            async for piece in pieces:
                if samples := skipper.feed(piece):
                    await write(AudioChunk(**audio, audio=samples).event())
        await write(AudioStop().event())
    except _BrokenStreamError as broken:
        raise broken.cause from None
    except OSError:
        return now() + limits.farewell
    return now() + limits.answer


class _BrokenStreamError(Exception):
    """Keeps an error of the caller's own stream apart from one of the connection."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def _bounded(chunks: AsyncIterator[bytes], limits: Limits) -> AsyncGenerator[bytes]:
    now = asyncio.get_running_loop().time
    end = now() + limits.longest
    while now() < end:
        try:
            async with asyncio.timeout(limits.pause) as limit:
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except Exception as error:
            if limit.expired():
                return
            raise _BrokenStreamError(error) from error
        yield chunk


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
