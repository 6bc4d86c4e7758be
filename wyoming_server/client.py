"""A Wyoming client that streams a recording at the speed of speech, as a satellite microphone does."""

from __future__ import annotations

import asyncio
import time
import wave
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart
from wyoming.audio import AudioChunk, AudioStart, AudioStop, wav_to_chunks
from wyoming.client import AsyncClient
from wyoming.error import Error

from modal_whisper.errors import SttError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHUNK_MS: Final = 20
_CONNECT_TIMEOUT: Final = 5.0
_ANSWER_TIMEOUT: Final = 70.0
"""Seconds after the last sample to wait for a server; longer than any deadline that can be set."""


class TranscribeError(SttError):
    """The recording could not be sent, or the server answered with an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server made of a recording."""

    text: str
    backend: str
    """Who answered; empty where the server does not say."""
    ms: float
    """After the last sample."""


async def transcribe_file(
    path: Path, uri: str, *, language: str | None = None, on_partial: Callable[[str], None] = lambda _: None
) -> Answer:
    """Stream a WAV file to the server at `uri`; raises TranscribeError in one line.

    `on_partial` is given the whole text so far, each time that it changes.
    """
    chunks = _read(path)
    patience = sum(chunk.seconds for chunk in chunks) + _ANSWER_TIMEOUT
    try:
        client = AsyncClient.from_uri(uri, connect_timeout=_CONNECT_TIMEOUT, read_timeout=patience)
        await client.connect()
        try:
            return await _ask(client, chunks, language, on_partial)
        finally:
            with suppress(OSError):
                await client.disconnect()
    except TimeoutError:
        raise TranscribeError(f"{uri} does not answer") from None
    except (OSError, ValueError) as error:
        raise TranscribeError(f"cannot reach {uri} ({getattr(error, 'strerror', None) or error})") from None
    except (EOFError, LookupError):
        raise TranscribeError(f"{uri} sent an incomplete event") from None


def _read(path: Path) -> list[AudioChunk]:
    try:
        with wave.open(str(path), "rb") as wav_file:
            pieces = wav_to_chunks(wav_file, wav_file.getframerate() * _CHUNK_MS // 1000)
            chunks = [piece for piece in pieces if isinstance(piece, AudioChunk)]
    except (OSError, EOFError, wave.Error) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends too early"
        raise TranscribeError(f"cannot read {path} as a WAV file ({reason})") from None
    if not chunks:
        raise TranscribeError(f"{path} holds no audio")
    return chunks


async def _ask(
    client: AsyncClient, chunks: list[AudioChunk], language: str | None, on_partial: Callable[[str], None]
) -> Answer:
    await client.write_event(Transcribe(language=language, context={"streaming": True}).event())
    await client.write_event(AudioStart(chunks[0].rate, chunks[0].width, chunks[0].channels).event())
    sending = asyncio.create_task(_send_in_real_time(client, chunks))
    try:
        return await _receive(client, sending, on_partial)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send_in_real_time(client: AsyncClient, chunks: list[AudioChunk]) -> float:
    """Send every chunk when a microphone would have it; returns the time of the last sample."""
    due = time.monotonic()
    for chunk in chunks:
        due += chunk.seconds
        await asyncio.sleep(due - time.monotonic())
        await client.write_event(chunk.event())
    stopped_at = time.monotonic()
    await client.write_event(AudioStop().event())
    return stopped_at


async def _receive(
    client: AsyncClient, sending: asyncio.Task[float], on_partial: Callable[[str], None]
) -> Answer:
    text = ""
    while (event := await client.read_event()) is not None:
        if TranscriptStart.is_type(event.type):
            text = ""
        elif TranscriptChunk.is_type(event.type):
            text += TranscriptChunk.from_event(event).text
            on_partial(text)
        elif Transcript.is_type(event.type):
            answered_at = time.monotonic()
            transcript = Transcript.from_event(event)
            is_sent = sending.done() and not sending.exception()
            stopped_at = sending.result() if is_sent else answered_at
            backend = (transcript.context or {}).get("backend", "")
            return Answer(transcript.text, backend, (answered_at - stopped_at) * 1000)
        elif Error.is_type(event.type):
            raise TranscribeError(f"the server says: {Error.from_event(event).text}")
    raise TranscribeError("the server closed the connection without an answer")
