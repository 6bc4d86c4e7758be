"""A real server behind the page: AssemblyAI's emulator first, the real local model behind it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from tests import processes
from tests.emulators.assemblyai import AssemblyAIEmulator, script_for
from tests.end_to_end.speaker import PATIENCE
from tests.end_to_end.stage import GOOD_KEY, PATIENT
from tests.wyoming_server.serving import connected, wish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.emulators.assemblyai import Fault
    from tests.end_to_end.clips import Clip
    from tests.processes import Process

TOKEN: Final = "token-of-the-status-page-in-the-tests"
INGRESS: Final = "127.0.0.2"
"""From where the server trusts everybody."""
_SETTINGS: Final = {name: str(value) for name, value in PATIENT.items() if name != "BACKENDS"} | {
    "API_TOKEN": TOKEN,
    "API_TRUSTED": INGRESS,
    "ASSEMBLYAI_API_KEY": GOOD_KEY,
    "STRATEGY": "failover",
}


class Stage:
    """A server that runs, and its owner, who speaks to it and changes its settings."""

    def __init__(self, process: Process, assemblyai: AssemblyAIEmulator, port: int) -> None:
        self.process = process
        self.assemblyai = assemblyai
        self.port = port
        """Of the API, and so of the page."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def ask(self, method: str, page: str, body: Any = None) -> Any:
        """A page of the API; anything but success is an error."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as session,
            session.request(method, self.url + page, json=body, headers=headers) as answer,
        ):
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def change(self, **settings: Any) -> None:
        """Settings by their upper-case names; None takes a change back."""
        await self.ask("PATCH", "api/config", {"settings": settings})

    async def reset(self) -> None:
        """All is well, and as the settings were at the start."""
        self.assemblyai.faults = ()
        await self.change(BACKENDS=None)
        await self.ask("POST", "api/close-breakers")

    async def say(self, clip: Clip, *faults: Fault) -> tuple[str, str]:
        """Let somebody say it to a satellite while these faults befall AssemblyAI: who answered, and what."""
        self.will_be_said(clip)
        self.assemblyai.faults = faults
        async with connected(self.process) as client:
            await client.send(wish(language=clip.language, context={"streaming": True}))
            await client.say(clip.pcm)
            while (event := await client.next()).type != "transcript":
                assert event.type in ("transcript-start", "transcript-chunk"), event
        self.assemblyai.faults = ()
        return event.data["context"]["backend"], event.data["text"]

    def will_be_said(self, clip: Clip) -> None:
        """What AssemblyAI hears in the next sessions."""
        self.assemblyai.script = script_for(clip.pcm, clip.text)


@asynccontextmanager
async def running_stage(**settings: str) -> AsyncIterator[Stage]:
    """The server as a process of its own; settings by their upper-case names, an API_PORT among them."""
    port = int(settings.pop("API_PORT", processes.free_port()))
    async with (
        AssemblyAIEmulator({GOOD_KEY}) as assemblyai,
        processes.on_thread(
            processes.server(
                **_SETTINGS, API_PORT=str(port), ASSEMBLYAI_STREAMING_URL=assemblyai.url, **settings
            )
        ) as process,
    ):
        await asyncio.to_thread(process.wait_logged, "API on")
        yield Stage(process, assemblyai, port)
