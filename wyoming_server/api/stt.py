"""/ws/stt of the server: the worker's protocol (docs/ws-stt.md), answered by the engine."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

from modal_whisper import errors, messages
from modal_whisper.conversation import Conversation, Limits
from modal_whisper.languages import bare_code
from modal_whisper.messages import MAX_MESSAGE_BYTES, Partial, Ready
from modal_whisper.version import __version__
from wyoming_server.backends.base import Request
from wyoming_server.errors import (
    AllFailedError,
    BackendError,
    DeadlineError,
    NotReadyError,
    OverdueError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
)
from wyoming_server.info import MODEL
from wyoming_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from aiohttp import web

    from modal_whisper.messages import Start
    from wyoming_server.api.sockets import Sockets
    from wyoming_server.house import House

_SAMPLE_BYTES: Final = 2
_TOLD: Final = (
    # Nobody was asked, or all refuse what was sent: it is the request.
    ((RejectedError,), errors.MessageError),
    ((NotReadyError, SignInRefusedError), errors.ModelUnavailableError),
    ((OverloadedError, RateLimitedError, OverdueError, DeadlineError), errors.OverloadedError),
)
"""What all backends have failed with, and as what the protocol knows it; any mixture is internal."""


class SttPage:
    """Serves clients of /ws/stt: any number of utterances each, one after another.

    Start.languages is passed over: the backends have settings of their own for it.
    """

    def __init__(self, house: House, sockets: Sockets) -> None:
        self._house = house
        self._sockets = sockets
        self._ear = EngineEar(house)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One client, until it leaves or falls silent."""
        settings = self._house.settings
        limits = Limits(max_utterance=settings.max_utterance, idle_timeout=settings.idle_timeout)
        # aiohttp takes what is smaller.
        async with self._sockets.open(request, max_msg_size=MAX_MESSAGE_BYTES + 1) as socket:
            with suppress(ConnectionError):
                await Conversation(socket, self._ear, limits).run()
        return socket

    async def finish(self) -> None:
        """Return when no utterance waits for its answer."""
        await self._ear.wait_idle()


class EngineEar:
    """See modal_whisper.conversation.Ear; the engine and the names are those of the moment."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Return when no utterance waits for its answer."""
        await self._idle.wait()

    def greet(self, start: Start) -> Ready:
        """See Ear."""
        tag = start.language
        if tag is not None and bare_code(tag) not in self._house.engine.languages:
            raise errors.MessageError(
                f"no backend understands the language {tag[:20]!r}: give a code such as en or null"
            )
        return Ready(MODEL, __version__)

    async def transcribe(
        self, audio: AsyncIterator[bytes], start: Start
    ) -> AsyncGenerator[Partial | messages.Final, None]:
        """See Ear; Final.model is the backend that answered, empty where nobody spoke."""
        request = Request(
            language=None if start.language is None else bare_code(start.language),
            tag=start.language,
            names=(*_stripped(start.names), *self._house.settings.key_terms),
            terms=_stripped(start.terms),
        )
        recording = Recording(
            max_seconds=self._house.settings.max_utterance,
            clock=asyncio.get_running_loop().time,
            pool=self._house.pool,
        )
        feeding = asyncio.create_task(_feed(recording, audio), name="take in audio of /ws/stt")
        self._open += 1
        self._idle.clear()
        try:
            async with aclosing(self._house.engine.transcribe(recording, request)) as hypotheses:
                async for hypothesis in hypotheses:
                    if not hypothesis.is_final:
                        yield Partial(hypothesis.text)
                        continue
                    yield messages.Final(
                        hypothesis.text,
                        hypothesis.language or request.language,
                        audio_ms=int(recording.seconds * 1000),
                        model=hypothesis.backend,
                    )
        except BackendError as error:
            raise _told(error) from None
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            recording.release()
            self._open -= 1
            if not self._open:
                self._idle.set()


async def _feed(recording: Recording, audio: AsyncIterator[bytes]) -> None:
    pending = b""
    try:
        async for pcm in audio:
            pending += pcm
            whole = len(pending) - len(pending) % _SAMPLE_BYTES
            recording.write(pending[:whole])
            pending = pending[whole:]
    finally:
        recording.end()


def _told(error: BackendError) -> errors.SttError:
    causes = error.causes.values() if isinstance(error, AllFailedError) else (error,)
    for kinds, told in _TOLD:
        if all(isinstance(cause, kinds) for cause in causes):
            return told(str(error))
    return errors.TranscriptionError(str(error))


def _stripped(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())
