from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulators.assemblyai import AssemblyAIEmulator, Latency, Rules, Script, Word
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.sounds import silence, speech
from tests.wyoming_server.backends.assemblyai_clients import assemblyai
from tests.wyoming_server.serving import connected, serving
from wyoming_server.errors import UnreachableError
from wyoming_server.utterance import Utterance

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from wyoming_server.backends.base import Backend, Progress, Request
    from wyoming_server.recording import Recording

UTTERANCE = speech(900) + silence(300)
PATIENCE = 5.0


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Recordings:
    """Counts the recordings of the server, and notices without the collector when they are gone."""

    def __init__(self) -> None:
        self.made = 0
        self._kept = 0
        self._all_gone = asyncio.Event()

    def note(self, recording: object) -> None:
        self.made += 1
        self._kept += 1
        weakref.finalize(recording, self._note_gone)

    async def wait_gone(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._all_gone.wait()

    def _note_gone(self) -> None:
        self._kept -= 1
        if not self._kept:
            self._all_gone.set()


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> Recordings:
    noted = Recordings()
    make = Utterance.__init__

    def make_and_note(self: Utterance, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        noted.note(self._recording)

    monkeypatch.setattr(Utterance, "__init__", make_and_note)
    return noted


class Broken(ScriptedBackend):
    """Fails once the person has stopped, each time with an error of its own."""

    async def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Progress, None]:
        yield CONNECTED
        await recording.wait_ended()
        raise UnreachableError("gone")


@pytest.fixture
async def service() -> AsyncIterator[Backend]:
    script = Script((Word("Turn", 100, 400), Word("on", 400, 850)))
    emulator = AssemblyAIEmulator(script=script, latency=Latency.zero(), rules=Rules(throttle=None))
    async with emulator, assemblyai(emulator.url) as backend:
        yield backend


async def answers(*backends: Backend, times: int = 1) -> list[str]:
    """The types of what a client is answered, that leaves then."""
    async with serving(*backends) as server, connected(server) as client:
        types = []
        for _ in range(times):
            await client.say(UTTERANCE)
            types.append((await client.next()).type)
        return types


async def test_an_answered_utterance_is_let_go_without_the_garbage_collector(recordings: Recordings) -> None:
    backend = ScriptedBackend("quick", CONNECTED, Wait.END, partial("turn on"), final("turn on"))
    assert await answers(backend, times=2) == ["transcript"] * 2
    await recordings.wait_gone()
    assert recordings.made == 2


async def test_so_is_one_that_a_second_backend_answered(recordings: Recordings) -> None:
    slow = ScriptedBackend("slow", CONNECTED, Wait.END, final("turn on"), Wait.FOREVER)
    assert await answers(Broken("broken"), slow) == ["transcript"]
    await recordings.wait_gone()


async def test_so_is_one_that_nobody_could_answer(recordings: Recordings) -> None:
    assert await answers(Broken("broken")) == ["error"]
    await recordings.wait_gone()


async def test_so_is_one_that_assemblyai_answered(recordings: Recordings, service: Backend) -> None:
    assert await answers(service) == ["transcript"]
    await recordings.wait_gone()
