"""The JSON log of a real server process."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from tests import processes
from tests.emulators.assemblyai import AssemblyAIEmulator, script_for
from tests.end_to_end.clips import PASSWORD
from tests.end_to_end.speaker import PATIENCE
from tests.end_to_end.stage import GOOD_KEY, PATIENT
from tests.wyoming_server.serving import connected, wish

if TYPE_CHECKING:
    from tests.processes import Process

COMMAND = PASSWORD.pcm[:32_000]
ENVIRONMENT = {name: str(value) for name, value in PATIENT.items()} | {
    "BACKENDS": "whisper,assemblyai",
    "LOCAL_ENABLED": "false",
    "LOG_FORMAT": "json",
}


async def _say(server: Process) -> str:
    async with asyncio.timeout(PATIENCE), connected(server) as client:
        await client.send_bytes(b"GET / HTTP/1.1\r\n\n\x1b[31m\n")  # a stranger
        await client.rest()
    async with asyncio.timeout(PATIENCE), connected(server) as client:
        await client.send(wish(language="en"))
        await client.say(COMMAND, chunk=3200)
        return await client.text()


async def test_every_line_that_a_server_logs_is_json(refusing_port: int) -> None:
    async with AssemblyAIEmulator({GOOD_KEY}, script=script_for(COMMAND, "password valid")) as assemblyai:
        settings = {
            "WHISPER_SERVICE_URL": f"ws://127.0.0.1:{refusing_port}",
            "ASSEMBLYAI_API_KEY": GOOD_KEY,
            "ASSEMBLYAI_STREAMING_URL": assemblyai.url,
        }
        async with processes.on_thread(processes.server(**ENVIRONMENT, **settings)) as server:
            assert await _say(server) == "password valid"
            assert await asyncio.to_thread(server.stop) == 0
    entries = [json.loads(line) for line in server.log.splitlines()]
    happened = [(entry["event"], entry.get("backend")) for entry in entries if "event" in entry]
    assert happened == [
        ("failed", "whisper"),
        ("breaker", "whisper"),
        ("connected", "assemblyai"),
        ("answered", "assemblyai"),
    ]
    assert [entry["message"] for entry in entries][-1] == "stopping"
    assert not [word for word in ("password", GOOD_KEY) if word in server.log]
