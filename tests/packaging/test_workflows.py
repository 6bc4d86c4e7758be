"""What can be checked of the workflows without GitHub."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
COMPONENT = "custom_components/stt_failover"


def workflow(path: Path) -> dict[str, Any]:
    read = yaml.safe_load(path.read_text())
    assert isinstance(read, dict)
    return read


RELEASE = workflow(FOLDER / "release.yml")
JOBS = [
    pytest.param(job, id=f"{path.stem}-{name}")
    for path in FILES
    for name, job in workflow(path)["jobs"].items()
]


def steps(job: dict[str, Any], action: str = "") -> Iterator[dict[str, Any]]:
    """Those that use an action, or all."""
    for step in job.get("steps", []):
        if step.get("uses", "").startswith(action):
            yield step


def step(job: str, words: str) -> dict[str, Any]:
    """The one step of the release that has these words in its command."""
    (found,) = (item for item in RELEASE["jobs"][job]["steps"] if words in item.get("run", ""))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_may_do_nothing_unless_a_job_says_so(path: Path) -> None:
    read = workflow(path)
    assert read["permissions"] == {}
    assert read["concurrency"]["group"]


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_an_end_and_says_what_it_may(job: dict[str, Any]) -> None:
    assert "uses" in job or 0 < job["timeout-minutes"] <= 90
    assert isinstance(job["permissions"], dict)
    for item in steps(job, "actions/checkout"):
        assert item["with"]["persist-credentials"] is False


def test_only_those_write_who_must() -> None:
    writers = {
        (path.stem, name, scope)
        for path in FILES
        for name, job in workflow(path)["jobs"].items()
        for scope, access in job["permissions"].items()
        if access == "write"
    }
    assert writers == {
        ("release", "images", "packages"),
        ("release", "app", "packages"),
        ("release", "pypi", "id-token"),
        ("release", "release", "contents"),
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit_or_it_is_said_why_not(path: Path) -> None:
    for line in path.read_text().splitlines():
        if match := re.search(r"uses: (\S+)(.*)", line):
            pinned = re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", match[1]) and re.search(
                r"# v\d+\.\d+\.\d+$", match[2]
            )
            assert pinned or "# zizmor: ignore[" in match[2], line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scripts_that_are_run_are_there(path: Path) -> None:
    for name in re.findall(r"(?<![\w/])script/\w+", path.read_text()):
        assert os.access(ROOT / name, os.X_OK), name


@pytest.mark.parametrize("job", JOBS)
def test_what_a_shell_is_given_is_well_formed_and_holds_nothing_of_strangers(job: dict[str, Any]) -> None:
    for item in steps(job):
        if "run" in item:
            assert "${{" not in item["run"]
            subprocess.run(["bash", "-n"], input=item["run"], text=True, check=True, timeout=10)


def test_nothing_is_published_before_all_is_tested_and_built() -> None:
    jobs = RELEASE["jobs"]

    def before(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*map(before, direct))

    assert jobs["test"]["uses"] == "./.github/workflows/ci.yml"
    for name in ("images", "app", "pypi", "release"):
        assert {"check", "test"} <= before(name)
    assert {"build", "images", "app"} <= before("pypi")
    assert "pypi" in before("release")


def test_a_release_is_one_of_the_tagged_version() -> None:
    assert RELEASE[True] == {"push": {"tags": ["v*"]}}  # YAML takes `on` for a boolean
    assert step("check", "script/release --check")["run"] == 'script/release --check "$GITHUB_REF_NAME"'
    assert step("build", "twine check")["run"] == "python -m twine check --strict dist/*"


def test_a_release_gets_what_was_built_for_it_and_nothing_else() -> None:
    named = [item["with"]["name"] for item in steps(RELEASE["jobs"]["build"], "actions/upload-artifact")]
    for job, wanted in (("pypi", {"packages"}), ("release", set(named))):
        # Without a name, all artifacts of the run come, those of other jobs and actions too.
        got = [item["with"]["name"] for item in steps(RELEASE["jobs"][job], "actions/download-artifact")]
        assert set(got) == wanted
    assert RELEASE["env"]["DOCKER_BUILD_RECORD_UPLOAD"] == "false"


@pytest.mark.parametrize("name", ["images", "app"])
def test_images_are_for_both_architectures_with_their_origin(name: str) -> None:
    (build,) = steps(RELEASE["jobs"][name], "docker/build-push-action@")
    options = build["with"]
    assert options["platforms"] == "linux/amd64,linux/arm64"
    assert (options["provenance"], options["sbom"], options["push"]) == ("mode=max", True, True)
    assert (ROOT / options["context"] / "Dockerfile").is_file()


def test_images_are_called_as_those_who_use_them_expect() -> None:
    image = RELEASE["env"]["IMAGE"].replace("${{ github.repository }}", "stt-failover/stt-failover")
    app = yaml.safe_load((ROOT / "home_assistant_app" / "config.yaml").read_text())
    assert app["image"] == f"{image}-app"
    (build,) = steps(RELEASE["jobs"]["app"], "docker/build-push-action@")
    arguments = dict(line.split("=", 1) for line in build["with"]["build-args"].splitlines())
    wanted = set(
        re.findall(r"^ARG (\w+)", (ROOT / "home_assistant_app/Dockerfile").read_text(), re.MULTILINE)
    )
    assert set(arguments) <= wanted


def test_every_target_that_is_built_is_a_stage_of_the_dockerfile() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    matrix = RELEASE["jobs"]["images"]["strategy"]["matrix"]["include"]
    built = {entry["target"] for entry in matrix}
    built |= set(re.findall(r"--target (\S+)", (FOLDER / "ci.yml").read_text()))
    assert built - {""} <= stages


def test_hacs_gets_a_zip_of_the_integration_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / COMPONENT, folder / COMPONENT, ignore=ignored)
    for command in (
        "git init -q && git add -A",
        "git -c user.name=A -c user.email=a@example.com commit -q -m A",
        f"echo 'not of the tag' >{COMPONENT}/left-over.txt",
        step("build", "git archive")["run"],
    ):
        subprocess.run(["bash", "-c", command], cwd=folder, check=True, timeout=60)
    hacs = json.loads((ROOT / "hacs.json").read_text())
    assert hacs["zip_release"] is True
    with zipfile.ZipFile(folder / hacs["filename"]) as made:
        names = {name for name in made.namelist() if not name.endswith("/")}
        assert json.loads(made.read("manifest.json"))["domain"] == "stt_failover"
    here = {
        str(path.relative_to(ROOT / COMPONENT))
        for path in (ROOT / COMPONENT).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == here
    assert hacs["filename"] in step("release", "gh release create")["run"]


def test_dependabot_looks_where_something_is() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    files = {"github-actions": ".github/workflows", "pip": "pyproject.toml", "docker": "Dockerfile"}
    for update in updates:
        for directory in update.get("directories", [update.get("directory")]):
            assert (ROOT / directory.lstrip("/") / files[update["package-ecosystem"]]).exists()
