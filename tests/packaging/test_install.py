"""The wheel in an environment that has nothing else, run from outside the tree."""

from __future__ import annotations

import asyncio
import subprocess
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modal_whisper import __version__
from modal_whisper.extras import how_to_install
from modal_whisper.samples import PASSWORD
from tests import processes
from tests.end_to_end.clips import PASSWORD as CLIP, error_rate
from tests.end_to_end.stage import WORST_ERROR_RATE
from tests.wyoming_server.serving import connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from tests.packaging.conftest import Environments


def call(folder: Path, *command: str | Path) -> str:
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=processes.environment({}),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


@contextmanager
def serving(
    commands: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> Iterator[processes.Process]:
    """The installed server, started in a folder that is not the project's."""
    port = processes.free_port()
    monkeypatch.chdir(folder)
    uri = f"tcp://127.0.0.1:{port}"
    process = processes.Process([commands / "stt-failover"], {"URI": uri, **settings}, port=port)
    yield from processes._until_done(process)


def test_the_wheel_alone_makes_a_server_that_understands_people(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = environments.with_extras("server,worker")
    found = call(tmp_path, commands / "python", "-c", "import wyoming_server; print(wyoming_server.__file__)")
    assert found.startswith(str(commands.parent))
    assert call(tmp_path, commands / "stt-failover", "--version") == f"stt-failover {__version__}\n"
    assert "usage: stt-failover-worker" in call(tmp_path, commands / "stt-failover-worker", "--help")

    api = processes.free_port()
    with serving(commands, tmp_path, monkeypatch, API_PORT=str(api), LOCAL_THREADS="2") as server:
        server.wait_logged("loaded the Whisper model base")
        with urllib.request.urlopen(f"http://127.0.0.1:{api}/", timeout=60) as page:
            assert b"<html" in page.read()
        *_, text, who = call(
            tmp_path, commands / "stt-failover", "transcribe", PASSWORD.path, "--uri", server.uri
        ).splitlines()
        assert error_rate(CLIP.text, text) <= WORST_ERROR_RATE
        assert who.startswith("answered by local, ")
        assert server.stop() == 0
    assert "Traceback" not in server.log


def test_without_the_worker_extra_it_starts_and_says_what_is_missing(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = environments.with_extras("server")
    with serving(commands, tmp_path, monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as server:

        async def ask() -> str:
            async with asyncio.timeout(60), connected(server) as client:
                await client.say(CLIP.pcm, chunk=3200)
                return await client.error()

        assert asyncio.run(ask()) == "all-backends-failed"
        assert server.stop() == 0
    assert "Whisper cannot run here (No module named 'ctranslate2'): " in server.log
    assert f"no traces are sent, OpenTelemetry is missing: {how_to_install('otel')}" in server.log
    assert "Traceback" not in server.log


def test_the_worker_extra_alone_says_where_the_server_is(environments: Environments, tmp_path: Path) -> None:
    commands = environments.with_extras("worker")
    assert "usage: stt-failover-worker" in call(tmp_path, commands / "stt-failover-worker", "--help")
    ended = subprocess.run(
        [commands / "stt-failover"], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("stt-failover: the server is not installed here")
