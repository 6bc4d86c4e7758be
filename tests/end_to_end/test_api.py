"""The API of a real server process: settings change in mid-speech, and a server comes back as itself."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING, Any

import aiohttp
from wyoming.audio import AudioStart

from tests import processes
from tests.emulators.assemblyai import AssemblyAIEmulator, script_for
from tests.end_to_end.clips import MUTED, error_rate, words
from tests.end_to_end.speaker import PATIENCE
from tests.end_to_end.stage import GOOD_KEY, PATIENT, WORST_ERROR_RATE, WRONG_KEY
from tests.wyoming_server.serving import connected, wish

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.end_to_end.clips import Clip
    from tests.processes import Process
    from tests.wyoming_server.serving import Client

START = AudioStart(16_000, 2, 1).event()
LIMITS = {name: str(value) for name, value in PATIENT.items() if name != "BACKENDS"} | {
    "STRATEGY": "failover"
}


class Owner:
    """Somebody who has the token of a server."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.seen = ""
        """Every answer so far."""

    async def ask(self, method: str, page: str, body: Any = None) -> Any:
        async with self.session.request(method, page, json=body) as answer:
            self.seen += await answer.text()
            assert answer.status == 200, self.seen
            return await answer.json()


def owner_of(port: int, token: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(PATIENCE),
    )


async def ready(owner: Owner, server: Process) -> None:
    """Return once the local model has understood the bundled recording."""
    async with asyncio.timeout(PATIENCE):
        while True:
            (result,) = (await owner.ask("POST", "/api/test", {"backends": ["local"]}))["results"]
            if result["ok"]:
                return
            assert server.is_running


async def test_keys_are_typed_in_while_somebody_speaks_and_the_server_comes_back_with_them(
    directly: Callable[[Clip], str], tmp_path: Path
) -> None:
    port = processes.free_port()
    settings = {**LIMITS, "API_PORT": str(port), "SETTINGS_FILE": str(tmp_path / "settings.json")}
    script = script_for(MUTED.pcm, MUTED.text)
    async with AssemblyAIEmulator({GOOD_KEY}, script=script) as assemblyai:
        settings["ASSEMBLYAI_STREAMING_URL"] = assemblyai.url
        async with processes.on_thread(processes.server(**settings)) as server:
            await asyncio.to_thread(server.wait_logged, "API on")
            token = server.output.split()[-1]
            async with owner_of(port, token) as session, connected(server) as client:
                owner, feed = Owner(session), await session.ws_connect("/api/events")
                first = (await feed.receive_json())["status"]
                await ready(owner, server)
                candidate = {"backends": ["assemblyai"], "settings": {"ASSEMBLYAI_API_KEY": WRONG_KEY}}
                (refused,) = (await owner.ask("POST", "/api/test", candidate))["results"]
                assert (refused["ok"], refused["code"]) == (False, "sign-in-refused")
                await type_in_a_key_while_somebody_speaks(owner, client, directly(MUTED))
                told = await told_until_the_end(feed, server)
            assert await asyncio.to_thread(server.wait) == 0

        async with processes.on_thread(processes.server(**settings)) as again:
            await asyncio.to_thread(again.wait_logged, "API on")
            async with owner_of(port, token) as session, connected(again) as client:
                status = await Owner(session).ask("GET", "/api/status")
                assert status["id"] == first["id"]
                assert status["backends"][0]["month"]["seconds"] > 0  # of what was said before the restart
                assert [item["enabled"] for item in status["backends"]] == [True, True, False, False]
                await client.send(wish(context={"streaming": True}))
                await client.say(MUTED.pcm)
                assert (await answer(client))[0] == "assemblyai"
            assert again.output == ""

    logs = server.log + again.log
    assert not [secret for secret in (GOOD_KEY, WRONG_KEY, token) if secret in logs + told + owner.seen]
    assert not {"conference", "muted"} & set(words(logs + told))
    assert "Traceback" not in logs
    assert len(re.findall("loaded the Whisper model", server.log)) == 1


async def type_in_a_key_while_somebody_speaks(owner: Owner, client: Client, local_text: str) -> None:
    half = len(MUTED.pcm) // 64 * 32
    await client.send(wish(language="en", context={"streaming": True}), START)
    await client.speak(MUTED.pcm[:half])
    await client.settle()
    changes = {"ASSEMBLYAI_API_KEY": GOOD_KEY, "BACKENDS": ["assemblyai", "local"]}
    changed = await owner.ask("PATCH", "/api/config", {"settings": changes})
    assert changed["settings"]["ASSEMBLYAI_API_KEY"] == {"value": None, "source": "stored", "is_set": True}
    await client.finish(MUTED.pcm[half:])
    assert await answer(client) == ("local", local_text)
    await client.say(MUTED.pcm)
    backend, text = await answer(client)
    assert backend == "assemblyai"
    assert error_rate(MUTED.text, text) <= WORST_ERROR_RATE


async def told_until_the_end(feed: aiohttp.ClientWebSocketResponse, server: Process) -> str:
    """All that the feed tells of both utterances, and then until the server, which is stopped, ends it."""
    told: list[Any] = [await feed.receive_json()]
    while not (told[-1]["type"] == "status" and told[-1]["status"]["day"]["utterances"] == 2):
        told.append(await feed.receive_json())
    assert [item["trace"]["backend"] for item in told if item["type"] == "utterance"] == [
        "local",
        "assemblyai",
    ]
    status = told[-1]["status"]
    assert (status["day"]["answered"], status["backends"][0]["state"]) == (2, "closed")
    server.send(signal.SIGTERM)
    while (message := await feed.receive()).type is aiohttp.WSMsgType.TEXT:
        told.append(message.json())
    assert (message.type, feed.close_code) == (aiohttp.WSMsgType.CLOSE, 1001)
    return str(told)


async def answer(client: Client) -> tuple[str, str]:
    """Who answered, and what."""
    while True:
        event = await client.next()
        if event.type == "transcript":
            rest = await client.next()
            assert rest.type == "transcript-stop"
            return event.data["context"]["backend"], event.data["text"]
        assert event.type in ("transcript-start", "transcript-chunk"), event
