"""One utterance through the whole server, and what must be true of every one of them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.end_to_end.clips import error_rate, words
from tests.end_to_end.house import running_house
from tests.end_to_end.speaker import PATIENCE
from tests.end_to_end.worker import WORKER_KEY
from wyoming_server.events import Answered, BackendConnected, Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.emulators.assemblyai import AssemblyAIEmulator
    from tests.end_to_end.clips import Clip
    from tests.end_to_end.speaker import Answer
    from tests.end_to_end.worker import Worker
    from wyoming_server.events import Event

GOOD_KEY = "good-key-of-assemblyai"
WRONG_KEY = "wrong-key-of-assemblyai"
PATIENT: dict[str, Any] = {
    "BACKENDS": "assemblyai,whisper,local",
    # Limits that a busy machine does not reach; a test that is about one of them sets it.
    "DEADLINE": 50,
    "ASSEMBLYAI_CONNECT_TIMEOUT": 20,
    "ASSEMBLYAI_TIMEOUT": 20,
    "WHISPER_CONNECT_TIMEOUT": 20,
    "WHISPER_TIMEOUT": 40,
}
WORST_ERROR_RATE = 0.2
_TELLING_LETTERS = 5
"""Shorter words may be in the log by chance."""


def settings_for(assemblyai: AssemblyAIEmulator | None, worker: Worker | None = None) -> dict[str, Any]:
    """The settings of a server that has accounts with these and no model of its own."""
    settings: dict[str, Any] = {**PATIENT, "ASSEMBLYAI_API_KEY": GOOD_KEY, "LOCAL_ENABLED": False}
    if assemblyai:
        settings["ASSEMBLYAI_STREAMING_URL"] = assemblyai.url
    if worker:
        settings |= {"WHISPER_SERVICE_URL": worker.url, "WHISPER_API_KEY": WORKER_KEY}
    return settings


@dataclass(frozen=True, slots=True)
class Scene:
    """What one utterance came to."""

    clip: Clip
    answer: Answer
    log: list[str]
    facts: list[tuple[float, Event]]
    """What happened, and when: seconds since the first sample."""
    whisper_text: str | None
    """What the model makes of the same audio without a server; None where it did not answer."""

    def connected_at(self, backend: str) -> float:
        """When a backend answered for the first time, in seconds since the first sample."""
        return next(
            at for at, fact in self.facts if isinstance(fact, BackendConnected) and fact.backend == backend
        )

    def has_logged(self, pattern: str) -> bool:
        """Whether a whole line of the log is like this."""
        return any(re.fullmatch(pattern, line) for line in self.log)

    def seconds_at_takeover(self, backend: str, reason: str, successor: str) -> float:
        """How much audio there was when the backend failed for that reason, by its line in the log."""
        line = rf"{backend} failed: {reason}; {successor} takes over with (\d+\.\d\d) s of audio"
        found = [match for text in self.log if (match := re.fullmatch(line, text))]
        assert len(found) == 1, self.log
        return float(found[0][1])

    def assert_answered_by(self, backend: str) -> None:
        assert (self.answer.error, self.answer.backend) == (None, backend), self.answer
        assert self.has_logged(rf"connected to {backend} \(\d+ ms\)"), self.log
        assert self.has_logged(rf"{backend} answered \d+ ms after the last sample"), self.log

    def assert_whisper_lost_nothing(self, heard: list[bytes]) -> None:
        """The model got all that was said, and its words are the answer."""
        assert heard
        assert self.clip.is_all_in(heard[-1])
        assert self.answer.text == self.whisper_text
        assert error_rate(self.clip.text, self.answer.text) <= WORST_ERROR_RATE


class Stage:
    """Starts the server, lets one person speak to it and stops it."""

    def __init__(self, caplog: pytest.LogCaptureFixture, directly: Callable[[Clip], str]) -> None:
        self._caplog = caplog
        self._directly = directly

    async def play(
        self,
        clip: Clip,
        *,
        assemblyai: AssemblyAIEmulator | None = None,
        worker: Worker | None = None,
        chunk_ms: int = 20,
        **settings: Any,
    ) -> Scene:
        """The scene; `settings` are the server's, by their upper-case names."""
        async with running_house(settings_for(assemblyai, worker) | settings) as house:
            speaker, answer = await house.answer(clip, chunk_ms=chunk_ms)
        facts = [(at - speaker.started_at, fact) for at, fact in house.facts]
        assert sum(isinstance(fact, Answered | Unanswered) for _, fact in facts) == 1
        asked_whisper = any(
            isinstance(fact, Answered) and fact.backend in ("whisper", "local") for _, fact in facts
        )
        scene = Scene(
            clip,
            answer,
            [record.getMessage() for record in self._caplog.records],
            facts,
            self._directly(clip) if asked_whisper else None,
        )
        self._assert_secrets_are_kept(scene)
        if assemblyai:
            await _assert_sessions_are_over(assemblyai)
        return scene

    def _assert_secrets_are_kept(self, scene: Scene) -> None:
        assert scene.log
        is_error = scene.answer.error is not None
        public = self._caplog.text + (scene.answer.text if is_error else "")
        assert not [key for key in (GOOD_KEY, WRONG_KEY, WORKER_KEY) if key in public]
        said = words(scene.clip.text) + ([] if is_error else words(scene.answer.text))
        telling = {word for word in said if len(word) >= _TELLING_LETTERS}
        assert not telling & set(words(public))


async def _assert_sessions_are_over(assemblyai: AssemblyAIEmulator) -> None:
    """Nobody pays on: what the service itself has not ended was ended with Terminate."""
    for record in assemblyai.sessions:
        async with asyncio.timeout(PATIENCE):
            await record.closed.wait()
        assert record.begun_at is None or record.closed_by == "server" or record.terminated
        # A server that ends a session because it was asked to has the Terminate on record.
        assert record.close_code != 1000 or record.terminated
