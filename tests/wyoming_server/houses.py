"""Houses whose backends do as they are told, and what is needed to change their settings."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from modal_whisper.samples import PASSWORD
from tests.engines import ignore
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final
from tests.sounds import speech
from wyoming_server import build, trial
from wyoming_server.house import House
from wyoming_server.settings import load
from wyoming_server.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    import pytest

    from wyoming_server.events import Listener
    from wyoming_server.recording import Recording

KEY = "key-of-assemblyai"
TOKEN = "token-of-the-api"
ALL = {"ASSEMBLYAI_API_KEY": KEY, "WHISPER_SERVICE_URL": "ws://127.0.0.1:9", "BACKENDS": "assemblyai,whisper"}


class Works:
    """Makes scripted backends where a house would make real ones, and remembers them.

    Each understands its own name, unless `scripts` has something else for it. Where they are tried out, the
    recording is there at once.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[Any, ScriptedBackend]] = []
        """The options and the backend, in the order of making."""
        self.scripts: dict[str, Callable[[], ScriptedBackend]] = {}
        for name, kind in (
            ("assemblyai", "AssemblyAI"),
            ("assemblyai_sync", "AssemblyAISync"),
            ("whisper", "Whisper"),
        ):
            monkeypatch.setattr(build, kind, self._maker(name))
        monkeypatch.setattr(trial, "_speak", _speak)

    def named(self, name: str) -> list[ScriptedBackend]:
        """All that were made of this name."""
        return [backend for _, backend in self.made if backend.name == name]

    def _maker(self, name: str) -> Callable[..., ScriptedBackend]:
        def make(
            options: Any, session: aiohttp.ClientSession, spend: Callable[[float], None]
        ) -> ScriptedBackend:
            script = self.scripts.get(name, lambda: answering(name))
            backend = script()
            self.made.append((options, backend))
            return backend

        return make


async def _speak(recording: Recording) -> None:
    recording.write(speech(sample=PASSWORD))
    recording.end()


def answering(name: str, text: str = "") -> ScriptedBackend:
    """A backend that gives its words, by default its name, at the end of the utterance."""
    return ScriptedBackend(name, CONNECTED, Wait.AUDIO, final(text or f"words of {name}"))


@asynccontextmanager
async def house_at(
    path: Path, flags: Mapping[str, str] | None = None, *, listener: Listener = ignore
) -> AsyncIterator[House]:
    """A house that keeps its settings at that path."""
    values = {"SETTINGS_FILE": str(path), "API_TOKEN": TOKEN, **(flags or {})}
    async with aiohttp.ClientSession() as session:
        house = House(load(values, {}), session, listener)
        house.identify(Store(str(path)))
        try:
            yield house
        finally:
            await house.close()
