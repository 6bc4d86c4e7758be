"""What the wheel and the sdist hold."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from modal_whisper import __version__
from tests.packaging.conftest import ROOT, run

if TYPE_CHECKING:
    from tests.packaging.conftest import Built

PACKAGES = ("modal_whisper", "wyoming_server")
INFO = f"stt_failover-{__version__}.dist-info"
TO_BUILD_AND_TEST = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "script/test",
    "script/common.sh",
    "tests/packaging/test_contents.py",
    "tests/emulators/assemblyai.py",
    "docs/api.md",
    "custom_components/stt_failover/manifest.json",
    ".env.example",
)


@pytest.fixture(scope="module")
def in_wheel(built: Built) -> set[str]:
    with zipfile.ZipFile(built.wheel) as wheel:
        return set(wheel.namelist())


@pytest.fixture(scope="module")
def in_sdist(built: Built) -> set[str]:
    with tarfile.open(built.sdist) as sdist:
        assert all(member.isfile() for member in sdist)
        return {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in sdist.getnames()}


def test_both_are_called_as_they_should(built: Built) -> None:
    assert built.wheel.name == f"stt_failover-{__version__}-py3-none-any.whl"
    assert built.sdist.name == f"stt_failover-{__version__}.tar.gz"


def test_the_index_would_take_both(built: Built) -> None:
    shown = run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", built.sdist, built.wheel)
    assert shown.count("PASSED") == 2


def test_the_wheel_holds_the_two_packages_and_nothing_else(in_wheel: set[str]) -> None:
    packages = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    info.add("licenses/modal_whisper/samples/LICENCE.md")
    assert in_wheel == packages | {f"{INFO}/{name}" for name in info}


@pytest.mark.parametrize(
    "name",
    [
        "modal_whisper/py.typed",
        "wyoming_server/py.typed",
        "modal_whisper/samples/password.wav",
        "modal_whisper/samples/LICENCE.md",
        "wyoming_server/api/page/index.html",
        "wyoming_server/api/page/page.js",
    ],
)
def test_what_is_no_python_is_in_the_wheel_too(name: str, in_wheel: set[str]) -> None:
    assert name in in_wheel


def test_the_sdist_holds_everything_that_is_kept_and_nothing_else(in_sdist: set[str]) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("only git knows what belongs to the project")  # such as when the tests run from an sdist
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    kept = {name for name in listed if name and (ROOT / name).is_file()}
    assert in_sdist == kept | {"PKG-INFO"}


@pytest.mark.parametrize("name", TO_BUILD_AND_TEST)
def test_what_is_needed_to_build_and_test_is_in_the_sdist(name: str, in_sdist: set[str]) -> None:
    assert name in in_sdist


def test_no_caches_no_models_and_no_settings_are_in_the_sdist(in_sdist: set[str]) -> None:
    parts = {part for name in in_sdist for part in Path(name).parts}
    assert not {part for part in parts if "cache" in part or part.startswith(".venv") or part == ".git"}
    assert not parts & {".env", "settings.json", "usage.json", "model.bin", "build", "dist"}


def test_scripts_can_be_executed_from_the_sdist(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        modes = {Path(member.name).name: member.mode for member in sdist if "/script/" in member.name}
    assert [name for name, mode in modes.items() if name != "common.sh" and not mode & 0o100] == []


def test_the_metadata_names_extras_commands_and_licences(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = message_from_bytes(wheel.read(f"{INFO}/METADATA"))
        commands = wheel.read(f"{INFO}/entry_points.txt").decode()
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-SA-3.0"
    assert metadata.get_all("Provides-Extra") == ["modal", "otel", "server", "worker"]
    assert {line.split(" = ")[0] for line in commands.splitlines()[1:]} == {
        "stt-failover",
        "stt-failover-worker",
    }


def test_on_the_page_of_the_package_every_address_leads_somewhere(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        text = message_from_bytes(wheel.read(f"{INFO}/METADATA")).get_payload()
    addresses = re.findall(r"\]\(([^)]+)\)|\b(?:src|srcset|href)=\"([^\"]+)\"", str(text))
    assert [
        found for pair in addresses for found in pair if found and not found.startswith(("https://", "#"))
    ] == []
    ours = re.findall(rf"stt-failover/(?:blob/)?v{re.escape(__version__)}/([^)\"#\s]+)", str(text))
    assert "docs/api.md" in ours
    assert [name for name in ours if not (ROOT / name).exists()] == []


def test_every_requirement_has_a_lower_bound(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = message_from_bytes(wheel.read(f"{INFO}/METADATA"))
    loose = [item for item in metadata.get_all("Requires-Dist") or [] if ">=" not in item.split(";")[0]]
    assert loose == []


def test_building_leaves_nothing_in_the_tree(built: Built) -> None:
    assert built.wheel.is_file()
    ignored = subprocess.run(
        ["git", "status", "--porcelain", "--ignored"], cwd=ROOT, check=False, capture_output=True, text=True
    ).stdout
    assert not [line for line in ignored.splitlines() if line.endswith(("dist/", "build/", ".egg-info/"))]
