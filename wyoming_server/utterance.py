"""One utterance of a Wyoming client: its audio goes in, its answer goes out, exactly once."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.error import Error

from modal_whisper.languages import bare_code
from wyoming_server.audio import AudioInput
from wyoming_server.backends.base import Request
from wyoming_server.endpointing import Endpointer
from wyoming_server.errors import BackendError
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wyoming.event import Event

    from wyoming_server.audio import AudioFormat
    from wyoming_server.backends.base import Hypothesis
    from wyoming_server.engine import Engine
    from wyoming_server.recording import Pool

_LOGGER = logging.getLogger(__name__)

INTERNAL_ERROR: Final = "internal error; the server's log has the details"
"""What a client is told where we do not know better."""
_PIECE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client asks for in its transcribe event."""

    request: Request
    wants_streaming: bool = False
    """Send transcript-start, -chunk and -stop around the transcript, and who answered within it."""


def read_wishes(data: dict[str, Any]) -> Wishes:
    """What the data of a transcribe event ask for; what makes no sense is passed over."""
    given = data.get("language")
    tag = given if isinstance(given, str) and given else None
    name = data.get("name")
    context = data.get("context")
    request = Request(
        language=bare_code(tag) if tag else None,
        tag=tag,
        names=_strings(data.get("transcript_names")),
        terms=_strings(data.get("transcript_terms")),
        backend=name if isinstance(name, str) else None,
    )
    return Wishes(request, isinstance(context, dict) and bool(context.get("streaming")))


def _strings(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else ()
    return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())


class Utterance:
    """Feeds one recording to the engine and writes the engine's answer.

    With `endpointing` it does not wait to be told that the person has stopped.
    """

    def __init__(
        self,
        engine: Engine,
        wishes: Wishes,
        audio_format: AudioFormat,
        write: Callable[[Event], Awaitable[None]],
        *,
        max_seconds: float,
        pool: Pool | None = None,
        endpointing: bool = False,
    ) -> None:
        self._wishes = wishes
        self._write = write
        self._audio = AudioInput(audio_format)
        self._clock = asyncio.get_running_loop().time
        self._began_at = self._clock()
        self._recording = Recording(max_seconds=max_seconds, clock=self._clock, pool=pool)
        self._endpointer = Endpointer(self._recording) if endpointing else None
        self._streamed: str | None = None  # since the latest transcript-start
        self.has_answer = False
        """Whether the one event that ends it is written, or is on its way."""
        self._task = asyncio.create_task(self._answer(engine))
        self._task.add_done_callback(lambda _: self._recording.release())

    @property
    def is_speaking(self) -> bool:
        """Whether more audio may come."""
        return self._recording.ended_at is None

    @property
    def is_answered(self) -> bool:
        """Whether nothing more will be written."""
        return self._task.done()

    @property
    def is_due(self) -> bool:
        """Whether the event that ends it is still to come."""
        return not self.has_answer and not self.is_answered

    @property
    def lag(self) -> float:
        """How many seconds of audio are missing to what a person could have said by now; 0 after the end."""
        return self._clock() - self._began_at - self._recording.seconds if self.is_speaking else 0.0

    @property
    def has_audio(self) -> bool:
        """Whether there is at least one sample."""
        return self._recording.seconds > 0

    def feed(self, pcm: bytes) -> None:
        """Take in audio in the client's format; raises ClientError."""
        if not self.is_speaking or self.has_answer:
            return
        for at in range(0, len(pcm), _PIECE_BYTES):  # what a slow rate makes of a large payload is larger yet
            if self.is_speaking:
                piece = pcm[at : at + _PIECE_BYTES]
                (self._endpointer or self._recording).write(self._audio.convert(piece))
        if self._recording.is_capped:
            _LOGGER.warning("an utterance reached its limit of %.0f s; answering it", self._recording.seconds)

    def stop(self) -> None:
        """The person has stopped: the answer is due."""
        if self.is_speaking and self._audio.leftover_bytes:
            _LOGGER.warning("dropped %d bytes that are no whole sample", self._audio.leftover_bytes)
        self._recording.end()

    async def wait_answered(self) -> None:
        """Return once the answer is written."""
        await asyncio.wait([self._task])

    async def cancel(self) -> None:
        """Give up all work for it; nothing more is written."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _answer(self, engine: Engine) -> None:
        try:
            async with aclosing(engine.transcribe(self._recording, self._wishes.request)) as hypotheses:
                async for hypothesis in hypotheses:
                    if self._endpointer and hypothesis.ends_turn:
                        self._endpointer.end_turn()
                    await self._pass_on(hypothesis)
        except BackendError as error:
            await self._fail(Error(str(error), error.code))
        except OSError:
            _LOGGER.debug("the client left before its answer")
        except Exception:
            _LOGGER.exception("an utterance could not be answered")
            await self._fail(Error(INTERNAL_ERROR, "internal"))

    async def _fail(self, error: Error) -> None:
        if self.has_answer:
            return
        try:
            await self._end_with(error.event())
        except OSError:
            _LOGGER.debug("the client left before its error event")

    async def _end_with(self, event: Event) -> None:
        self.has_answer = True
        try:
            await self._write(event)
        except ValueError:  # words that cannot be encoded: nothing was written
            self.has_answer = False
            raise

    async def _pass_on(self, hypothesis: Hypothesis) -> None:
        if self._wishes.wants_streaming:
            await self._stream(hypothesis)
        if not hypothesis.is_final:
            return
        _LOGGER.debug("%s heard: %s", hypothesis.backend or "nobody", hypothesis.text)
        transcript = Transcript(
            hypothesis.text, language=hypothesis.language or self._wishes.request.language
        )
        if self._wishes.wants_streaming:
            transcript.context = {"backend": hypothesis.backend}
        await self._end_with(transcript.event())
        if self._wishes.wants_streaming:
            await self._write(TranscriptStop().event())

    async def _stream(self, hypothesis: Hypothesis) -> None:
        """Send what is new of a hypothesis.

        Chunks can only be appended. Where a hypothesis takes words back, a new transcript-start begins anew.
        """
        text = hypothesis.text
        if self._streamed is None or not text.startswith(self._streamed):
            self._streamed = ""
            await self._write(TranscriptStart(language=self._wishes.request.language).event())
        if text != self._streamed:
            await self._write(TranscriptChunk(text[len(self._streamed) :]).event())
            self._streamed = text
