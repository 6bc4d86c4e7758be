"""One utterance: audio in, hypotheses out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_whisper.languages import whisper_language
from modal_whisper.messages import Final, Partial
from modal_whisper.speech import BYTES_PER_SECOND, SpeechDetector

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from modal_whisper.messages import Start
    from modal_whisper.runner import ModelRunner


async def transcribe(
    runner: ModelRunner, audio: AsyncIterator[bytes], start: Start
) -> AsyncGenerator[Partial | Final, None]:
    """The transcript of one utterance: a partial for each finished segment, then exactly one final.

    `audio` is 16 kHz mono s16le in pieces of any size, and ends when the person has stopped. It is taken as
    it comes, whether or not the model is loaded yet. Where nobody spoke the final is empty and the model is
    not asked. Whoever leaves early closes the generator (contextlib.aclosing), which stops the work.

    Raises MessageError for a language that Whisper does not know, else TranscriptionError.
    """
    language = whisper_language(start.language)
    runner.start_loading()
    detector = SpeechDetector()
    recording = bytearray()
    async for piece in audio:
        recording += piece
        detector.feed(piece)
    audio_ms = len(recording) * 1000 // BYTES_PER_SECOND
    if not detector.heard:
        yield Final("", language, audio_ms)
        return
    job = await runner.submit(bytes(recording), language=language, names=start.names, terms=start.terms)
    text = ""
    try:
        async for segment in job.segments():
            text += segment.text
            language = segment.language
            yield Partial(text.strip())
    finally:
        job.cancel()
    yield Final(text.strip(), language, audio_ms, job.work_ms)
