"""A person at a satellite microphone, as the `wyoming` package's own client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error

if TYPE_CHECKING:
    from types import TracebackType

    from wyoming.event import Event

    from tests.end_to_end.clips import Clip

PATIENCE = 60.0
_BYTES_PER_MS = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """The one terminal event of an utterance, and when it came."""

    text: str
    """Of a transcript or of an error."""
    error: str | None
    """The code of an error event; None for a transcript."""
    backend: str | None
    """Who answered, as the transcript says; None where it does not say."""
    language: str | None
    seconds_after_start: float
    """Since the first sample."""
    seconds_after_stop: float
    """Since the last sample; negative for one that came before."""


class Speaker:
    """One connection to a Wyoming server, on which one utterance is spoken at the speed of speech."""

    def __init__(self, uri: str, *, chunk_ms: int = 20) -> None:
        self._client = AsyncClient.from_uri(uri, connect_timeout=PATIENCE)
        self._chunk_bytes = chunk_ms * _BYTES_PER_MS
        self._heard: list[tuple[float, Event]] = []
        self._is_answered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._listening: asyncio.Task[None] | None = None
        self.started_at = self.stopped_at = 0.0
        """When the first and the last sample were spoken; loop time."""

    async def __aenter__(self) -> Self:
        await self._client.connect()
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._listening:
            self._listening.cancel()
        await self._client.disconnect()

    @property
    def events(self) -> list[Event]:
        """All that the server has sent."""
        return [event for _, event in self._heard]

    @property
    def partials(self) -> list[str]:
        """The whole text so far, each time that the server has streamed more of it."""
        texts, text = [], ""
        for event in self.events:
            if TranscriptStart.is_type(event.type):
                text = ""
            elif TranscriptChunk.is_type(event.type):
                text += TranscriptChunk.from_event(event).text
                texts.append(text)
        return texts

    async def say(self, clip: Clip, *, language: str | None = None) -> None:
        """Speak, and return when the first terminal event has come."""
        wish = Transcribe(language=language or clip.language, context={"streaming": True})
        await self._client.write_event(wish.event())
        await self._client.write_event(AudioStart(16_000, 2, 1).event())
        self.started_at = due = self._loop.time()
        for at in range(0, len(clip.pcm), self._chunk_bytes):
            chunk = AudioChunk(16_000, 2, 1, clip.pcm[at : at + self._chunk_bytes])
            due += chunk.seconds
            await asyncio.sleep(due - self._loop.time())
            await self._client.write_event(chunk.event())
        self.stopped_at = self._loop.time()
        await self._client.write_event(AudioStop().event())
        async with asyncio.timeout(PATIENCE):
            await self._is_answered.wait()

    async def only_answer(self) -> Answer:
        """The one terminal event, once the server has closed the connection and nothing can follow."""
        assert self._listening is not None
        async with asyncio.timeout(PATIENCE):
            await self._listening
        terminals = [(at, event) for at, event in self._heard if _is_terminal(event)]
        assert len(terminals) == 1, [event.type for event in self.events]
        at, event = terminals[0]
        times = at - self.started_at, at - self.stopped_at
        if Error.is_type(event.type):
            error = Error.from_event(event)
            return Answer(error.text, error.code, None, None, *times)
        transcript = Transcript.from_event(event)
        backend = (transcript.context or {}).get("backend")
        assert (self.partials or [""])[-1] == transcript.text
        return Answer(transcript.text, None, backend, transcript.language, *times)

    async def _listen(self) -> None:
        while (event := await self._client.read_event()) is not None:
            self._heard.append((self._loop.time(), event))
            if _is_terminal(event):
                self._is_answered.set()


def _is_terminal(event: Event) -> bool:
    return Transcript.is_type(event.type) or Error.is_type(event.type)
