"""A backend that does what a test wrote down for it."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modal_whisper.languages import LANGUAGES
from wyoming_server.backends.base import Connected, Hypothesis

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.recording import Audio


class Wait(enum.Enum):
    """What a backend can wait for, besides seconds."""

    END = "until the person has stopped"
    AUDIO = "until it has read the whole recording, which Asked.received then holds"
    FOREVER = "until it is cancelled"


Step = float | Wait | Connected | Hypothesis | BaseException
"""Seconds to wait, something else to wait for, something to yield, or something to raise."""

CONNECTED = Connected()


def partial(text: str) -> Hypothesis:
    return Hypothesis(text)


def final(text: str, language: str | None = None) -> Hypothesis:
    return Hypothesis(text, is_final=True, language=language)


@dataclass(slots=True)
class Asked:
    """One utterance that a backend was asked for."""

    request: Request
    at: float
    """When, by the loop's clock."""
    received: bytearray = field(default_factory=bytearray, repr=False)
    is_over: bool = False
    """Whether the backend works on it no more."""


class ScriptedBackend:
    """Does the same for every utterance, and remembers what it was asked for.

    `cleaning_up` is how many seconds it needs after it was told to give up. `probes` are the outcomes of its
    probes: None for well, seconds to wait before that, or an error; the last one holds for ever.
    """

    def __init__(
        self,
        name: str,
        *script: Step,
        languages: frozenset[str] = LANGUAGES,
        cleaning_up: float = 0.0,
        streams: bool = False,
        probes: Sequence[BaseException | float | None] = (None,),
    ) -> None:
        self.name = name
        self.languages = languages
        self.script = script
        self.asked: list[Asked] = []
        self.is_started = self.is_closed = False
        self.hears_while_spoken = streams
        self.warmed_at: list[float] = []
        self.probed_at: list[float] = []
        self._cleaning_up = cleaning_up
        self._probes = list(probes)

    def start(self) -> None:
        self.is_started = True

    async def wait_ready(self) -> None:
        pass

    async def close(self) -> None:
        self.is_closed = True

    def warm(self) -> None:
        self.warmed_at.append(asyncio.get_running_loop().time())

    async def probe(self) -> None:
        self.probed_at.append(asyncio.get_running_loop().time())
        outcome = self._probes.pop(0) if len(self._probes) > 1 else self._probes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        await asyncio.sleep(outcome or 0.0)

    async def transcribe(self, recording: Audio, request: Request) -> AsyncGenerator[Progress, None]:
        asked = Asked(request, asyncio.get_running_loop().time())
        self.asked.append(asked)
        try:
            for step in self.script:
                if isinstance(step, Connected | Hypothesis):
                    yield step
                elif isinstance(step, BaseException):
                    raise step.with_traceback(None)
                elif step is Wait.AUDIO:
                    asked.received.clear()
                    async for frame in recording.frames():
                        asked.received += frame
                elif step is Wait.END:
                    await recording.wait_ended()
                elif step is Wait.FOREVER:
                    await asyncio.Event().wait()
                else:
                    await asyncio.sleep(step)
        finally:
            try:
                if self._cleaning_up:
                    await asyncio.sleep(self._cleaning_up)
            finally:
                asked.is_over = True
