"""One utterance: audio in, hypotheses out, most of the work done before the person has stopped."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from modal_whisper import messages
from modal_whisper.errors import ModelUnavailableError, OverloadedError, TranscriptionError
from modal_whisper.languages import joined, whisper_language
from modal_whisper.messages import Partial
from modal_whisper.model import MAX_PASSAGE_SECONDS, Passage, Priority
from modal_whisper.scripts import written_as
from modal_whisper.speech import BYTES_PER_SECOND, FRAME_MS, SpeechDetector, quietest_ms

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from modal_whisper.messages import Start
    from modal_whisper.model import Job, Model, Transcript

_PAUSE_MS: Final = 180
"""Silence after which the speech so far is transcribed, in case that it was all; heard about 0.1 s late."""
_LEAD_MS: Final = 1000
"""Of the silence before the speech, so much is kept: its first sounds may be too faint for the detector."""
_SEGMENT_MS: Final = 11_000
"""So long a passage takes the model no more work than a short one; what is longer ends at its next pause."""
_LONGEST_MS: Final = 25_000
"""Of speech without a pause; the model hears at most 30 s."""
_CUT_MS: Final = 5_000
"""At the end of such speech, in which the quietest place is looked for."""
_BYTES_PER_MS: Final = BYTES_PER_SECOND // 1000


async def transcribe(
    model: Model, audio: AsyncIterator[bytes], start: Start
) -> AsyncGenerator[Partial | messages.Final, None]:
    """The transcript of one utterance: any number of partials, then exactly one final.

    `audio` is 16 kHz mono s16le in pieces of any size, and ends when the person has stopped. It is taken as
    it comes, whether or not the model is ready yet. Where nobody spoke the final is empty and the model is
    not asked. Whoever leaves early closes the generator (contextlib.aclosing), which drops the work.

    Raises MessageError for a language that Whisper does not know, else TranscriptionError.
    """
    language = whisper_language(start.language)
    languages = tuple(code for code in map(whisper_language, start.languages) if code)
    model.start_loading()
    partials: asyncio.Queue[Partial | None] = asyncio.Queue()
    work = _Work(model, start, language, languages, partials.put_nowait)
    listening = asyncio.create_task(work.listen(audio))
    listening.add_done_callback(lambda _: partials.put_nowait(None))
    try:
        while (partial := await partials.get()) is not None:
            yield partial
        yield listening.result()
    finally:
        listening.cancel()
        work.cancel()
        await asyncio.gather(listening, *work.watchers, return_exceptions=True)


@dataclass(slots=True, eq=False)
class _Segment:
    """A stretch of the utterance that the model has been asked for."""

    passage: Passage
    job: Job
    end: int
    """Where it ends, in bytes of audio."""
    speech_end_ms: int | None
    """Where the speech in it ends."""
    transcript: Transcript | None = None
    """Once it is there."""


class _Work:
    """An utterance is a row of finished segments and, behind them, speech that is not finished.

    At every pause the unfinished speech is transcribed on speculation. If it goes on, that work is dropped,
    unless the speech is long enough for a segment of its own.
    """

    def __init__(
        self,
        model: Model,
        start: Start,
        language: str | None,
        languages: tuple[str, ...],
        report: Callable[[Partial], None],
    ) -> None:
        self._model = model
        self._start = start
        self._language = language
        self._languages = languages
        self._report = report
        self._detector = SpeechDetector()
        self._pcm = bytearray()
        self._begin = 0
        self._finished: list[_Segment] = []
        self._speculation: _Segment | None = None
        self._tried_at: int | None = None
        self.watchers: set[asyncio.Task[None]] = set()
        """Those who wait for the model, until they are through."""
        self._is_ending = False

    async def listen(self, audio: AsyncIterator[bytes]) -> messages.Final:
        async for piece in audio:
            for offset in range(0, len(piece), FRAME_MS * _BYTES_PER_MS):
                frame = piece[offset : offset + FRAME_MS * _BYTES_PER_MS]
                self._pcm += frame
                self._detector.feed(frame)
                self._look()
        return await self._finish()

    def cancel(self) -> None:
        for watcher in self.watchers:
            watcher.cancel()
        for segment in self._segments:
            segment.job.cancel()

    @property
    def _segments(self) -> list[_Segment]:
        return [*self._finished, *([self._speculation] if self._speculation else [])]

    @property
    def _begin_ms(self) -> int:
        return self._begin // _BYTES_PER_MS

    @property
    def _has_speech(self) -> bool:
        """Whether anybody has spoken since the last finished segment."""
        return (self._detector.speech_end_ms or 0) > self._begin_ms

    def _look(self) -> None:
        """Begin, keep or drop work, by what has just been heard."""
        now = self._detector.audio_ms
        if not self._has_speech:
            self._begin = max(self._begin, (now - _LEAD_MS) * _BYTES_PER_MS)
            return
        if self._speculation and self._speculation.speech_end_ms != self._detector.speech_end_ms:
            self._go_on(self._speculation)
        if self._detector.silence_ms >= _PAUSE_MS:
            if self._tried_at != self._detector.speech_end_ms:
                self._tried_at = self._detector.speech_end_ms
                with suppress(OverloadedError):
                    self._speculation = self._ask(now * _BYTES_PER_MS, Priority.SPECULATION)
        elif now - self._begin_ms >= _LONGEST_MS:
            recent = bytes(self._pcm[(now - _CUT_MS) * _BYTES_PER_MS : now * _BYTES_PER_MS])
            # No pause, or a long one in which the model had no time: what it can hear may end in that.
            cut = min(now - _CUT_MS + quietest_ms(recent), self._begin_ms + int(MAX_PASSAGE_SECONDS * 1000))
            self._finish_segment(self._ask(cut * _BYTES_PER_MS, Priority.SEGMENT))

    def _go_on(self, speculation: _Segment) -> None:
        self._speculation = None
        if self._detector.audio_ms - self._begin_ms < _SEGMENT_MS:
            speculation.job.cancel()
        else:
            speculation.job.hurry(Priority.SEGMENT)
            self._finish_segment(speculation)
            self._begin = max(self._begin, (self._detector.audio_ms - _LEAD_MS) * _BYTES_PER_MS)

    def _finish_segment(self, segment: _Segment) -> None:
        self._finished.append(segment)
        self._begin = segment.end

    def _ask(self, end: int, priority: Priority) -> _Segment:
        known = [segment.transcript for segment in self._finished if segment.transcript]
        passage = Passage(
            pcm=bytes(self._pcm[self._begin : end]),
            language=self._language or next((item.language for item in known if item.text), None),
            languages=self._languages,
            names=self._start.names,
            terms=self._start.terms,
            context=self._text(known),
        )
        job = self._model.submit(passage, priority)
        segment = _Segment(passage, job, end, self._detector.speech_end_ms)
        watcher = asyncio.create_task(self._watch(segment))
        self.watchers.add(watcher)
        watcher.add_done_callback(self.watchers.discard)
        return segment

    async def _watch(self, segment: _Segment) -> None:
        with suppress(TranscriptionError):  # whoever needs the words learns it
            segment.transcript = await segment.job.result()
            if segment in self._segments and segment.transcript.text and not self._is_ending:
                known = [item.transcript for item in self._segments if item.transcript]
                self._report(Partial(self._text(known)))

    async def _finish(self) -> messages.Final:
        self._is_ending = True
        end = len(self._pcm)
        audio_ms = end // _BYTES_PER_MS
        if self._has_speech:
            end = min(end, ((self._detector.speech_end_ms or 0) + _LEAD_MS) * _BYTES_PER_MS)
            self._finish_segment(self._speculation or self._ask(end, Priority.FINAL))
        for segment in self._finished:
            segment.job.hurry(Priority.FINAL)
        known = [await self._words(segment) for segment in self._finished]
        if not known:
            return messages.Final("", self._language, audio_ms)
        return messages.Final(
            self._text(known),
            next((item.language for item in known if item.text and item.language), self._language),
            audio_ms,
            sum(item.work_ms for item in known),
            known[-1].model,
        )

    async def _words(self, segment: _Segment) -> Transcript:
        try:
            return await segment.job.result()
        except ModelUnavailableError:
            raise
        except TranscriptionError:  # perhaps only because it was not urgent then
            job = self._model.submit(segment.passage, Priority.FINAL)
            try:
                return await job.result()
            finally:
                job.cancel()

    def _text(self, transcripts: Sequence[Transcript]) -> str:
        language = next((item.language for item in transcripts if item.text), None)
        text = joined((item.text for item in transcripts), language)
        return written_as(self._start.language or language, text)
