"""A backend that does what a test wrote down for it."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modal_whisper.languages import LANGUAGES
from wyoming_server.backends.base import Connected, Hypothesis

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.recording import Recording


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

    `cleaning_up` is how many seconds it needs after it was told to give up.
    """

    def __init__(
        self,
        name: str,
        *script: Step,
        languages: frozenset[str] = LANGUAGES,
        cleaning_up: float = 0.0,
    ) -> None:
        self.name = name
        self.languages = languages
        self.script = script
        self.asked: list[Asked] = []
        self.is_started = self.is_closed = False
        self._cleaning_up = cleaning_up

    def start(self) -> None:
        self.is_started = True

    async def wait_ready(self) -> None:
        pass

    async def close(self) -> None:
        self.is_closed = True

    async def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Progress, None]:
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
