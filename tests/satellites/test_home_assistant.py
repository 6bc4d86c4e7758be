"""A real Home Assistant finds the installed server across a network, and both integrations take it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.end_to_end.clips import MUTED, words
from tests.home_assistant.home import Home
from tests.processes import PROJECT
from tests.satellites.conftest import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Process
    from tests.satellites.conftest import Lan

_PORT = 8123
_URL = f"http://127.0.0.1:{_PORT}"
_LOOK_SECONDS = 0.1
_PATIENCE = 60.0


@pytest.fixture
def home_assistant(lan: Lan, tmp_path: Path) -> Iterator[Process]:
    """Home Assistant on the other machine, which nobody has set up yet."""
    shutil.copytree(PROJECT / "custom_components", tmp_path / "custom_components")
    components = ("api", "assist_pipeline", "config", "onboarding", "websocket_api", "zeroconf")
    http = f"http:\n  server_host: 127.0.0.1\n  server_port: {_PORT}\n"
    (tmp_path / "configuration.yaml").write_text(http + "".join(f"{name}:\n" for name in components))
    hass = Path(sys.executable).with_name("hass")
    process = lan.client.start([hass, "-c", tmp_path, "--skip-pip"], {"HOME": str(tmp_path)}, _PORT)
    try:
        yield process
    finally:
        process.stop()
        sys.stderr.write(process.log)


async def _onboard() -> Home:
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                return await Home.onboard(_URL)
            except aiohttp.ClientError:  # it does not listen yet, or not for that
                await asyncio.sleep(_LOOK_SECONDS)


async def _discovered(home: Home) -> dict[str, dict[str, Any]]:
    """The forms that wait under "Discovered", by their integration, once there is one of each."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            flows = {flow["handler"]: flow for flow in await home.call("config_entries/flow/progress")}
            if {"wyoming", "stt_failover"} <= flows.keys():
                return flows
            await asyncio.sleep(_LOOK_SECONDS)


def test_home_assistant_finds_the_server_by_itself_and_speaks_through_both_integrations(
    lan: Lan, server: Process, home_assistant: Process
) -> None:
    async def set_up() -> list[str]:
        home = await _onboard()
        flows = await _discovered(home)
        theirs = await home.go_on(flows["wyoming"])
        assert theirs["type"] == "create_entry", theirs
        ours = await home.go_on(flows["stt_failover"], token=TOKEN)
        ours = await home.go_on(ours, local_enabled=True)
        assert ours["type"] == "create_entry", ours
        heard = []
        for flow in (theirs, ours):
            engine = await home.engine_of(flow["result"])
            events = await home.run_pipeline(engine, MUTED.pcm)
            assert [event["type"] for event in events][2] == "stt-end", events
            heard.append(events[2]["data"]["stt_output"]["text"])
        return heard

    for text in lan.client.run(set_up()):
        assert words(text) == words(MUTED.text)
