"""Small stand-ins that more than one folder of tests needs."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modal_whisper.transcriber import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE = 20.0
"""Seconds after which what a test waits for has failed; ends a thread that nobody lets go on, too."""

Step = str | Segment | Exception | threading.Event
"""Words that the model finds, an error it fails with, or an event it waits for, deaf to all else."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of ScriptedTranscriber.segments."""

    pcm: bytes = field(repr=False)
    language: str | None
    names: tuple[str, ...]
    terms: tuple[str, ...]
    cancelled: threading.Event


class ScriptedTranscriber:
    """A Transcriber without a model: does the same for every utterance, and remembers what it was given.

    Args:
        script: what segments() does, one step after another.
        loading: what the first, second... load() does: waits, fails, or works (None, and past the last).
        language: what it detects where it is given none.
    """

    def __init__(
        self,
        *script: Step,
        loading: Sequence[Exception | threading.Event | None] = (),
        model: str = "scripted",
        language: str = "en",
    ) -> None:
        self.model = model
        self.script = script
        self.loads = 0
        """How often load() was called."""
        self.asked: list[Asked] = []
        self._loading = list(loading)
        self._language = language
        self._begun = threading.Condition()

    def load(self) -> None:
        with self._begun:
            self.loads += 1
            step = self._loading.pop(0) if self._loading else None
            self._begun.notify_all()
        _take(step)

    def segments(
        self,
        pcm: bytes,
        *,
        language: str | None,
        names: Sequence[str],
        terms: Sequence[str],
        cancelled: threading.Event,
    ) -> Iterator[Segment]:
        with self._begun:
            self.asked.append(Asked(pcm, language, tuple(names), tuple(terms), cancelled))
            self._begun.notify_all()
        for step in self.script:
            if cancelled.is_set():
                return
            if isinstance(step, Segment):
                yield step
            elif isinstance(step, str):
                yield Segment(step, language or self._language)
            else:
                _take(step)

    async def wait_loading(self, times: int = 1) -> None:
        """Return once load() has been called so often."""
        await self._wait(lambda: self.loads >= times)

    async def wait_asked(self, times: int = 1) -> Asked:
        """Return once segments() has been called so often, with what it was given then."""
        await self._wait(lambda: len(self.asked) >= times)
        return self.asked[times - 1]

    async def _wait(self, is_true: Callable[[], bool]) -> None:
        def wait() -> bool:
            with self._begun:
                return self._begun.wait_for(is_true, PATIENCE)

        assert await asyncio.to_thread(wait), "the transcriber was not called"


async def happened(event: threading.Event) -> None:
    """Return once another thread has set the event."""
    assert await asyncio.to_thread(event.wait, PATIENCE)


def _take(step: Exception | threading.Event | None) -> None:
    if isinstance(step, Exception):
        raise step
    if step is not None:
        step.wait(PATIENCE)
