"""One session with AssemblyAI: audio out, turns in, until the text is complete.

When that is, its messages alone do not tell. See Conversation for the signs, and docs/architecture.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from wyoming_server.backends.assemblyai_errors import error_for_close, error_for_message
from wyoming_server.backends.base import Connected, Hypothesis
from wyoming_server.backends.turns import Turns
from wyoming_server.errors import BackendError, DisconnectedError, OverdueError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wyoming_server.backends.assemblyai import AssemblyAIOptions
    from wyoming_server.backends.base import Progress
    from wyoming_server.recording import Audio

_LOGGER = logging.getLogger(__name__)

TERMINATE: Final = '{"type":"Terminate"}'
_FORCE_ENDPOINT: Final = '{"type":"ForceEndpoint"}'
_FRAME_MS: Final = 50
_FRAME_BYTES: Final = 1600
_STRAGGLER_SECONDS: Final = 0.5
"""A forced end is answered within 0.32 s (third party, 90th percentile); with no turn open, not at all."""
_NEXT_FINAL_SECONDS: Final = 0.2
"""A second final follows this soon, where the first was on its way already when the end was demanded."""
_PACE: Final = 1.25
"""The service works on audio at most so many times as fast as it was spoken."""


class Conversation:
    """One open socket. Sender, receiver and two timers work on one future: whoever knows the outcome sets it.

    At the end of the recording there are three cases. The finals reach the last speech and the service has
    had the time to tell of more: they are the answer, at once. A turn is open: its end is demanded, and the
    final that reaches the last speech is the answer. No turn is open, but the last speech came after the
    finals, or may have been noise: the end is demanded too, and if that soon brings nothing, they count.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        recording: Audio,
        report: Callable[[Progress], None],
        options: AssemblyAIOptions,
        begin_by: float,
    ) -> None:
        self._socket = socket
        self._recording = recording
        self._report = report
        self._options = options
        self._begin_by = begin_by
        self._loop = asyncio.get_running_loop()
        self._turns = Turns()
        self._outcome: asyncio.Future[Hypothesis] = self._loop.create_future()
        self._begun = asyncio.Event()
        self._begun_at: float | None = None
        self._end_demanded = False
        self._patience: asyncio.TimerHandle | None = None

    async def final(self) -> Hypothesis:
        """Return the final; raises a BackendError."""
        tasks = [asyncio.create_task(work) for work in (self._send(), self._receive(), self._watch_clock())]
        for task in tasks:
            task.add_done_callback(self._reveal)
        try:
            return await self._outcome
        finally:
            if self._patience:
                self._patience.cancel()  # it would hold the recording until it is due
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        # A broken socket is the receiver's to explain: an Error message may still be waiting there.
        with suppress(ConnectionError):
            async for frame in self._recording.frames(ms=_FRAME_MS):
                await self._socket.send_bytes(frame.ljust(_FRAME_BYTES, b"\0"))
            missing = self._missing_silence()
            if missing + self._backlog() <= 0:
                self._finish()
                return
            self._end_demanded = True
            await self._socket.send_str(_FORCE_ENDPOINT if self._options.is_pro else TERMINATE)
            self._finish_if_quiet(missing)

    async def _receive(self) -> None:
        try:
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(message.data)
            self._fail(error_for_close(self._socket.close_code))
        except BackendError as error:
            self._fail(error)

    async def _watch_clock(self) -> None:
        try:
            async with asyncio.timeout_at(self._begin_by):
                await self._begun.wait()
        except TimeoutError:
            self._fail(UnreachableError(f"no session within {self._options.connect_timeout:g} s"))
            return
        await self._recording.wait_ended()
        await asyncio.sleep(self._options.timeout)
        self._fail(OverdueError(f"no final within {self._options.timeout:g} s after the last sample"))

    def _take(self, text: str) -> None:
        message = _parse(text)
        kind = message.get("type")
        if kind == "Begin":
            self._begun_at = self._loop.time()
            self._begun.set()
            self._report(Connected())
        elif kind == "Turn":
            self._take_turn(message)
        elif kind == "Termination" and self._end_demanded and not self._options.is_pro:
            if self._turns.are_open:
                raise DisconnectedError("the session ended without the final of its last turn")
            self._finish()
        else:
            _raise_if_error(message)

    def _take_turn(self, message: dict[str, object]) -> None:
        try:
            self._turns.absorb(message, self._recording.speech)
        except (KeyError, TypeError, ValueError, OverflowError):
            _LOGGER.debug("assemblyai sent a turn that is none")
            return
        speech = self._recording.speech
        ends_turn = bool(message["end_of_turn"]) and self._turns.reach_end_of(speech)
        self._report(Hypothesis(self._turns.text, ends_turn=ends_turn))
        if not (self._end_demanded and message["end_of_turn"]):
            return
        # A forced end that is answered without words found no turn open.
        found_nothing = self._options.is_pro and not message["transcript"] and not self._turns.are_open
        if found_nothing or self._turns.reach_end_of(speech):
            self._finish()
        else:
            self._finish_if_quiet(_NEXT_FINAL_SECONDS)

    def _missing_silence(self) -> float:
        """Seconds after the last sample, in which nothing new must come for the finals to be everything."""
        speech = self._recording.speech
        if not self._turns.reach_end_of(speech):
            return _STRAGGLER_SECONDS
        return min((self._options.news_ms - speech.silence_ms) / 1000, _STRAGGLER_SECONDS)

    def _backlog(self) -> float:
        """Seconds that the service still has to work on what was said, because the session began late."""
        worked = 0.0 if self._begun_at is None else self._loop.time() - self._begun_at
        return max(0.0, self._recording.seconds / _PACE - worked)

    def _finish_if_quiet(self, seconds: float) -> None:
        """Be content with the finals if no other comes; universal-streaming itself says when it is done."""
        if not self._options.is_pro:
            return
        quiet_at = self._loop.time() + self._backlog() + seconds
        if self._patience:
            quiet_at = max(quiet_at, self._patience.when())
            self._patience.cancel()
        self._patience = self._loop.call_at(quiet_at, self._finish_with_finals)

    def _finish_with_finals(self) -> None:
        if self._turns.has_final and not self._turns.are_open:
            self._finish()

    def _finish(self) -> None:
        if not self._outcome.done():
            self._outcome.set_result(
                Hypothesis(self._turns.text, is_final=True, language=self._turns.language)
            )

    def _fail(self, error: BaseException) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)

    def _reveal(self, task: asyncio.Task[None]) -> None:
        """Show a defect at once, which would else look like a service that is slow."""
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)


async def wait_begin(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Return when the service has begun the session; raises a BackendError where it does not."""
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            content = _parse(message.data)
            if content.get("type") == "Begin":
                return
            _raise_if_error(content)
    raise error_for_close(socket.close_code)


def _parse(text: str) -> dict[str, Any]:
    """A message; empty for what is none."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict):
        return message
    _LOGGER.debug("assemblyai sent something that is no message")
    return {}


def _raise_if_error(message: dict[str, Any]) -> None:
    kind = message.get("type")
    if kind == "Error" or (kind is None and "error" in message):
        raise error_for_message(message)
