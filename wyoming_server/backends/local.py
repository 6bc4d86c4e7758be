"""Whisper in this process: the worker's own session, on threads, without a network."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from modal_whisper.errors import (
    MessageError,
    ModelUnavailableError,
    OverloadedError as BusyError,
    TranscriptionError,
)
from modal_whisper.languages import LANGUAGES
from modal_whisper.messages import Partial, Start
from modal_whisper.session import transcribe
from wyoming_server.backends.base import Connected, Hypothesis
from wyoming_server.errors import InternalError, NotReadyError, OverloadedError, RejectedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from modal_whisper.runner import ModelRunner
    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.recording import Audio

_FRAME_MS: Final = 100
_MOST_MS: Final = 10_000


class Local:
    """The backend `local`. An utterance that comes before the model is loaded waits for it.

    `languages` are Whisper's codes of those to detect among where the client names none; empty for all.
    """

    name = "local"
    languages = LANGUAGES
    hears_while_spoken = False

    def __init__(self, runner: ModelRunner, languages: tuple[str, ...] = ()) -> None:
        self.runner = runner
        self._languages = languages

    def start(self) -> None:
        """Load the model in the background."""
        self.runner.start_loading()

    def warm(self) -> None:
        """Load the model, where that has failed before."""
        self.runner.start_loading()

    async def probe(self) -> None:
        """Return once the model is loaded; raises NotReadyError."""
        await self.wait_ready()

    async def wait_ready(self) -> None:
        """Return once the model is loaded; raises NotReadyError."""
        try:
            await self.runner.wait_ready()
        except ModelUnavailableError as error:
            raise NotReadyError(str(error)) from None

    async def close(self) -> None:
        """Let the model go."""
        await self.runner.close()

    async def transcribe(self, recording: Audio, request: Request) -> AsyncGenerator[Progress, None]:
        """See Backend.transcribe."""
        is_connected = self.runner.ready
        if is_connected:
            yield Connected()
        start = Start(request.tag or request.language, request.names, request.terms, self._languages)
        audio = recording.frames(ms=_FRAME_MS, most_ms=_MOST_MS)
        try:
            async with aclosing(transcribe(self.runner, audio, start)) as messages:
                async for message in messages:
                    if not is_connected:
                        is_connected = True
                        yield Connected()
                    if isinstance(message, Partial):
                        yield Hypothesis(message.text)
                    else:
                        yield Hypothesis(message.text, is_final=True, language=message.language)
        except ModelUnavailableError as error:
            raise NotReadyError(str(error)) from None
        except BusyError as error:
            raise OverloadedError(str(error)) from None
        except MessageError as error:
            raise RejectedError(str(error)) from None
        except TranscriptionError as error:
            raise InternalError(str(error)) from None
