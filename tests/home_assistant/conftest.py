"""One Home Assistant for all tests of this folder, and the servers that it knows."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.home_assistant.home import Engine, Home
from tests.processes import PROJECT, Process, free_port, server

if TYPE_CHECKING:
    from collections.abc import Iterator

# Home Assistant 2026.11 needs Python 3.14.2, so that the environment of Python 3.11 has none.
collect_ignore_glob = [] if importlib.util.find_spec("homeassistant") else ["test_*.py"]

_HASS = Path(sys.executable).with_name("hass")


@pytest.fixture(scope="session")
def home_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home Assistant's configuration folder, with our integration in it."""
    folder = tmp_path_factory.mktemp("home-assistant")
    shutil.copytree(
        PROJECT / "custom_components",
        folder / "custom_components",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return folder


@pytest.fixture(scope="session")
def home_process(home_folder: Path) -> Iterator[Process]:
    """Home Assistant itself."""
    folder, port = home_folder, free_port()
    (folder / "configuration.yaml").write_text(
        "api:\n"
        "assist_pipeline:\n"
        "config:\n"
        "diagnostics:\n"
        "repairs:\n"
        f"http:\n  server_host: 127.0.0.1\n  server_port: {port}\n"
        "onboarding:\n"
        "websocket_api:\n"
    )
    hass = Process([_HASS, "-c", folder, "--skip-pip"], {"HOME": str(folder)}, port=port)
    try:
        hass.wait_listening()
        yield hass
    finally:
        hass.stop()
        sys.stderr.write(hass.log)


@pytest.fixture(scope="session")
def home(home_process: Process) -> Home:
    """A Home Assistant that somebody has just set up."""
    return asyncio.run(Home.onboard(f"http://127.0.0.1:{home_process.port}"))


@pytest.fixture(scope="session")
def engine(home: Home) -> Iterator[Engine]:
    """The server with the local model, added to Home Assistant."""
    with server(BACKENDS="local") as process:
        process.wait_logged("loaded the Whisper model")
        yield asyncio.run(home.add(process.port))


@pytest.fixture(scope="session", params=["refuses", "is silent"])
def engine_in_outage(home: Home, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A server whose only backend refuses connections, or takes them and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as backend:
        port = backend.getsockname()[1]
        if request.param == "refuses":
            backend.close()
        with server(
            BACKENDS="whisper",
            WHISPER_SERVICE_URL=f"ws://127.0.0.1:{port}",
            WHISPER_CONNECT_TIMEOUT="60",
            DEADLINE="0.5",
        ) as process:
            yield asyncio.run(home.add(process.port))
