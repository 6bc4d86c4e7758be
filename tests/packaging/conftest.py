from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_UV = ROOT / ".cache" / "tools" / "bin" / "uv"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is built is the same on every Python; the tools that build it are installed on the newest one."""
    if sys.version_info < (3, 14):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="packages are built and tested on Python 3.14"))


def run(*command: str | Path, **variables: str) -> str:
    """What a command prints; it must end well."""
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@dataclass(frozen=True, slots=True)
class Built:
    """What a release uploads."""

    sdist: Path
    wheel: Path
    """Built from the sdist."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel)


class Environments:
    """Makes environments with nothing in them but the wheel and what it asks for."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self._wheel = wheel
        self._folder = folder

    def with_extras(self, extras: str) -> Path:
        """The folder of the commands."""
        made = self._folder / extras.replace(",", "-")
        # The same cache as script/common.sh fills, so that little is fetched.
        cache = os.environ.get("UV_CACHE_DIR") or str(ROOT / ".cache" / "uv")
        run(_UV, "venv", "-q", "--python", sys.executable, made, UV_CACHE_DIR=cache)
        wanted = f"stt-failover[{extras}] @ {self._wheel.as_uri()}"
        python = made / "bin" / "python"
        run(_UV, "pip", "install", "-q", "--python", python, wanted, UV_CACHE_DIR=cache)
        return made / "bin"


@pytest.fixture(scope="session")
def environments(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environments:
    return Environments(built.wheel, tmp_path_factory.mktemp("environments"))
