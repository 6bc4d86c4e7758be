"""The one interface of everything that turns a recording into words."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from wyoming_server.recording import Audio


@dataclass(frozen=True, slots=True)
class Request:
    """What the client wants to be known about an utterance."""

    language: str | None = None
    """A bare language code such as "en"; None leaves it to the backend."""
    names: tuple[str, ...] = ()
    """Names the speaker may use, most important first."""
    terms: tuple[str, ...] = ()
    """Words of lower priority than the names."""
    backend: str | None = None
    """Ask this backend alone; None leaves the choice to the engine."""
    tag: str | None = None
    """The language as the client gave it, with the region or script, such as "zh-Hant"."""

    @property
    def key_terms(self) -> tuple[str, ...]:
        """Names, then terms, each once."""
        return tuple(dict.fromkeys(self.names + self.terms))


@dataclass(frozen=True, slots=True)
class Connected:
    """The backend has answered for the first time: from here on it is its turn to be quick."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What was said, as far as a backend can tell."""

    text: str
    """The whole text so far; it replaces that of the hypothesis before."""
    is_final: bool = False
    language: str | None = None
    backend: str = ""
    """The name of the backend whose words these are."""
    ends_turn: bool = False
    """Of a partial: a service takes it for a whole sentence, and it holds all that was heard so far."""


Progress = Connected | Hypothesis


class Backend(Protocol):
    """Turns recordings into hypotheses; serves any number of them at once."""

    @property
    def name(self) -> str:
        """How settings, log and metrics call it."""

    @property
    def languages(self) -> frozenset[str]:
        """The bare codes of the languages that it understands."""

    @property
    def hears_while_spoken(self) -> bool:
        """Whether it gives hypotheses while the person still speaks, so that their absence means trouble."""

    def start(self) -> None:
        """Begin, in the running event loop, whatever must be prepared in the background."""

    def warm(self) -> None:
        """An utterance may come soon: get ready in the background, at no cost where it is ready."""

    async def probe(self) -> None:
        """Return if it would serve an utterance now; raises a BackendError. Bounded in time by the caller."""

    async def wait_ready(self) -> None:
        """Return once an utterance need not wait for it; raises a BackendError."""

    def transcribe(self, recording: Audio, request: Request) -> AsyncGenerator[Progress, None]:
        """Yield Connected, any number of partials, and exactly one final; or raise a BackendError.

        The recording may still be growing. Closing the iterator gives up the work.
        """

    async def close(self) -> None:
        """End every session that is still open at a service."""


async def relay(
    run: Callable[[Callable[[Progress], None]], Awaitable[Hypothesis]],
) -> AsyncGenerator[Progress, None]:
    """Turn a coroutine that reports its progress and returns a final into what `transcribe` yields.

    The coroutine runs in a task of its own, so that its time-outs can never strike the consumer.
    """
    reports: asyncio.Queue[Progress | None] = asyncio.Queue()
    task = asyncio.ensure_future(run(reports.put_nowait))
    task.add_done_callback(lambda _: reports.put_nowait(None))
    try:
        while (report := await reports.get()) is not None:
            yield report
        yield task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
