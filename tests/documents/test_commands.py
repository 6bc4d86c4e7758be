"""What the documents tell people to type is typed here, in a fresh copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests import processes
from tests.documents.commands import ROOT, Block, blocks, commands_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATIENCE = 180


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.document}:{block.line}")
def test_commands_are_run_by_a_test_or_it_is_said_why_not(block: Block) -> None:
    if block.test:
        path, name = block.test
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
        assert f'commands_for("{name}")' in (ROOT / path).read_text()
    else:
        assert block.says_why_not


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a person has it who has just fetched it, but for the installer that it fetches first."""
    folder = tmp_path_factory.mktemp("fetched") / "stt-failover"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv*", ".*cache*", ".hypothesis"))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "tools").symlink_to(ROOT / ".cache" / "tools")
    return folder


def test_the_first_start(copy: Path) -> None:
    start, transcribe = commands_for("test_the_first_start")
    port = processes.free_port()
    with _started(copy, start, URI=f"tcp://127.0.0.1:{port}", API_PORT="0") as lines:
        assert next(lines).startswith('understood: "That is not a valid password.')
        assert re.fullmatch(r"answered by local, \d+ ms after the last sample", next(lines))
        said = _typed(copy, f"{transcribe.strip()} --uri tcp://127.0.0.1:{port}").splitlines()
    assert "muted" in said[-2]
    assert re.fullmatch(r"answered by local, \d+ ms after the last sample", said[-1])


def test_the_start_for_home_assistant(copy: Path) -> None:
    (start,) = commands_for("test_the_start_for_home_assistant")
    ports = {"URI": f"tcp://0.0.0.0:{processes.free_port()}", "API_PORT": str(processes.free_port())}
    with _started(copy, start, SELF_CHECK="false", **ports) as lines:
        assert re.fullmatch(r"token of the API, .*: \S{32,}", next(lines))


def test_a_setting_is_changed(copy: Path) -> None:
    (change,) = commands_for("test_a_setting_is_changed")
    port = str(processes.free_port())
    settings = {"API_PORT": port, "API_TOKEN": "t" * 32, "URI": f"tcp://127.0.0.1:{processes.free_port()}"}
    with _started(copy, "script/run", SELF_CHECK="true", **settings) as lines:
        assert next(lines).startswith("understood")
        answer = json.loads(_typed(copy, change.replace("10380", port), TOKEN="t" * 32))
    assert answer["settings"]["BACKENDS"] == {"value": ["local"], "source": "stored"}


@contextmanager
def _started(folder: Path, command: str, **settings: str) -> Iterator[Iterator[str]]:
    """A server that a command starts, and the lines that it prints; interrupted in the end, as by Ctrl-C."""
    server = subprocess.Popen(
        ["bash", "-c", f"exec env {command}"],  # the shell becomes the server and gets its signals
        cwd=folder,
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stdout
    try:
        yield (line.rstrip("\n") for line in server.stdout)
        server.send_signal(signal.SIGINT)
        assert server.wait(_PATIENCE) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def _typed(folder: Path, command: str, **environment: str) -> str:
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """Of whoever runs the tests, who may need it to reach a package index; what was fetched is shared."""
    shared = {"MODEL_DIR": processes.MODEL_DIR, "UV_CACHE_DIR": str(ROOT / ".cache" / "uv")}
    return {**os.environ, **shared, **settings}
