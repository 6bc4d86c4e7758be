"""What script/common.sh does before anything of ours runs, with a fake of the tool that fetches packages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[1]
PATIENCE = 60.0

_UV = """#!/usr/bin/env bash
# Stands for uv: makes a server that only says that it runs, and waits for a file before it has installed it.
trap 'echo "Traceback of uv" >&2; exit 1' INT
case $1 in
  venv) folder=${!#}; rm -rf "$folder"; mkdir -p "$folder/bin" ;;
  pip)
    echo "$$" >>began
    until [ -e go ]; do sleep 0.02; done
    folder=$(dirname "$(dirname "$5")")
    printf '#!/bin/sh\\necho runs\\n' >"$folder/bin/stt-failover"
    chmod +x "$folder/bin/stt-failover"
    ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the scripts, where nothing is set up but that tool."""
    shutil.copytree(PROJECT / "script", tmp_path / "script")
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    uv = tmp_path / ".cache/tools/bin/uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(_UV)
    uv.chmod(0o755)
    return tmp_path


def started(folder: Path) -> subprocess.Popen[str]:
    """script/run as a terminal starts it: the leader of a process group."""
    return subprocess.Popen(
        [folder / "script/run"],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait(is_true: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def installing(folder: Path) -> list[int]:
    began = folder / "began"
    return [int(line) for line in began.read_text().split()] if began.exists() else []


def test_first_starts_at_once_set_the_folder_up_once_and_all_run(folder: Path) -> None:
    first = started(folder)
    wait(lambda: bool(installing(folder)))
    others = [started(folder) for _ in range(2)]
    for other in others:
        assert other.stderr
        assert other.stderr.readline() == "another one sets this folder up; waiting for it\n"
    (folder / "go").touch()
    for process in (first, *others):
        output, _ = process.communicate(timeout=PATIENCE)
        assert (process.returncode, output) == (0, "runs\n")
    assert len(installing(folder)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_set_up_is_one_line_leaves_nobody_and_is_begun_again(
    folder: Path, number: signal.Signals
) -> None:
    process = started(folder)
    wait(lambda: bool(installing(folder)))
    os.killpg(process.pid, number)
    output, log = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (130, "")
    assert log.splitlines() == ["setting up .venv", "run: interrupted; start again to go on"]
    with pytest.raises(ProcessLookupError):
        os.kill(installing(folder)[0], 0)
    (folder / "go").touch()
    output, _ = started(folder).communicate(timeout=PATIENCE)
    assert output == "runs\n"


def test_set_up_that_fails_ends_the_start_and_lets_the_next_one_try(folder: Path) -> None:
    uv = folder / ".cache/tools/bin/uv"
    uv.write_text("#!/bin/sh\necho no network >&2\nexit 7\n")
    process = started(folder)
    _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 7
    assert "no network" in log
    uv.write_text(_UV)
    (folder / "go").touch()
    output, _ = started(folder).communicate(timeout=PATIENCE)
    assert output == "runs\n"
