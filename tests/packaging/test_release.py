"""script/release, on a copy of what it changes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from modal_whisper import __version__

ROOT = Path(__file__).parents[2]
PLACES = (
    "modal_whisper/version.py",
    "custom_components/stt_failover/manifest.json",
    "home_assistant_app/config.yaml",
)

APP_CHANGELOG = "home_assistant_app/CHANGELOG.md"


class Tree:
    """A repository with everything that the script knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (*PLACES, "CHANGELOG.md", "script/release"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.write_changelog("### Added\n\n- A thing.\n\n## 0.1.0 - 2026-01-02\n\n- The first.\n")
        for place in PLACES:
            path = folder / place
            path.write_text(path.read_text().replace(__version__, "0.1.0"))
        self.git("init", "-q", "-b", "main")
        self.commit()

    def write_changelog(self, text: str) -> None:
        (self.folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## Unreleased\n\n{text}")

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "A")

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def release(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, self.folder / "script" / "release", *arguments],
            cwd=self.folder.parent,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def refusal(self, *arguments: str) -> str:
        """The one line that refuses it; nothing is changed."""
        before = self.git("diff")
        run = self.release(*arguments)
        assert (run.returncode, run.stdout) == (1, "")
        assert self.git("diff") == before
        (line,) = run.stderr.splitlines()
        return line

    def versions(self) -> list[str]:
        manifest = json.loads((self.folder / PLACES[1]).read_text())
        app = yaml.safe_load((self.folder / PLACES[2]).read_text())
        module = re.search(r'__version__ = "(.*)"', (self.folder / PLACES[0]).read_text())
        assert module
        return [module[1], manifest["version"], app["version"]]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


def test_the_version_is_the_same_everywhere() -> None:
    places = [
        json.loads((ROOT / PLACES[1]).read_text())["version"],
        yaml.safe_load((ROOT / PLACES[2]).read_text())["version"],
    ]
    newest = re.search(r"^## (\d\S*) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [newest[1]] if newest else []  # none before the first release
    assert {*places, *released} == {__version__}


def test_a_release_sets_the_version_everywhere_and_says_what_to_do_next(tree: Tree) -> None:
    run = tree.release("0.2.0")
    assert (run.returncode, run.stderr) == (0, "")
    assert tree.versions() == ["0.2.0"] * 3
    today = datetime.now(UTC).date().isoformat()
    assert (tree.folder / "CHANGELOG.md").read_text() == (
        f"# Changelog\n\n## Unreleased\n\n## 0.2.0 - {today}\n\n### Added\n\n- A thing.\n\n"
        "## 0.1.0 - 2026-01-02\n\n- The first.\n"
    )
    assert (tree.folder / APP_CHANGELOG).read_text() == (
        f"# Changelog\n\n## 0.2.0 - {today}\n\n### Added\n\n- A thing.\n\n"
        "## 0.1.0 - 2026-01-02\n\n- The first.\n"
    )
    tree.git("add", "-A")
    changed = tree.git("diff", "--cached", "--numstat").split()
    assert sorted(changed[2::3]) == sorted({"CHANGELOG.md", APP_CHANGELOG, *PLACES})
    added = dict(zip(changed[2::3], changed[0::3], strict=True))
    assert {place: added[place] for place in PLACES} == dict.fromkeys(PLACES, "1")  # a line: the version
    assert re.findall(r"^  (.*)", run.stdout, re.MULTILINE) == [
        "git add -A && git commit -m 'Release 0.2.0'",
        "git tag -a v0.2.0 -m 'Release 0.2.0'",
        "git push origin v0.2.0",
        "git push origin HEAD",  # what offers the app to every Home Assistant comes after its image
    ]
    assert "once it is green" in run.stdout


def test_the_commands_that_are_to_follow_make_a_release_that_checks_out(tree: Tree) -> None:
    commands = [
        line.strip() for line in tree.release("0.2.0").stdout.splitlines() if line.startswith("  git")
    ]
    tree.git("config", "user.name", "A")
    tree.git("config", "user.email", "a@example.com")
    for command in commands[:2]:
        subprocess.run(["bash", "-c", command], cwd=tree.folder, check=True, capture_output=True, timeout=60)
    assert tree.git("describe").strip() == "v0.2.0"
    assert tree.git("status", "--porcelain") == ""
    assert APP_CHANGELOG in tree.git("ls-files")
    assert tree.release("--check", "v0.2.0").returncode == 0
    assert tree.release("--notes", "0.2.0").stdout == "### Added\n\n- A thing.\n"


def test_the_first_release_may_have_the_version_that_is_there(tree: Tree) -> None:
    tree.write_changelog("- The first.\n")
    tree.commit()
    assert tree.release("0.1.0").returncode == 0
    assert tree.versions() == ["0.1.0"] * 3
    assert tree.release("--check", "v0.1.0").returncode == 0


@pytest.mark.parametrize("version", ["0.2", "v0.2.0", "0.2.0rc1", "0.02.0", "1.2.3.4", "", "0.2.0\n"])
def test_what_is_no_version_is_refused(tree: Tree, version: str) -> None:
    assert tree.refusal(version).endswith("is no version; it takes three numbers, such as 1.2.3")


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9"])
def test_what_is_not_newer_is_refused(tree: Tree, version: str) -> None:
    assert tree.refusal(version) == f"release: {version} is not newer than 0.1.0"


def test_changes_in_the_tree_are_to_be_committed_first(tree: Tree) -> None:
    (tree.folder / "new").write_text("new")
    assert tree.refusal("0.2.0") == "release: the working tree has changes; commit them first"


def test_nothing_new_is_no_release(tree: Tree) -> None:
    tree.write_changelog("## 0.1.0 - 2026-01-02\n\n- The first.\n")
    tree.commit()
    assert "says nothing under Unreleased" in tree.refusal("0.2.0")


def test_a_tag_is_used_once(tree: Tree) -> None:
    tree.git("tag", "v0.2.0")
    assert tree.refusal("0.2.0") == "release: the tag v0.2.0 is there already"


def test_without_git_nothing_is_released(tree: Tree) -> None:
    shutil.rmtree(tree.folder / ".git")
    run = tree.release("0.2.0")
    assert run.stderr == "release: this is no git repository, or git is not installed\n"
    assert tree.versions() == ["0.1.0"] * 3


@pytest.mark.parametrize("arguments", [[], ["--help"], ["0.2.0", "0.3.0"], ["--check"]])
def test_wrong_use_is_told_in_one_line(tree: Tree, arguments: list[str]) -> None:
    assert tree.refusal(*arguments).startswith("release: usage: script/release VERSION")


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("v0.2.0", "v0.2.0, but modal_whisper/version.py says 0.1.0, "),
        ("0.1.0", "'0.1.0' is no tag of a release"),
        ("v0.1", "'v0.1' is no tag of a release"),
    ],
)
def test_a_tag_that_does_not_name_this_version_fails_the_check(tree: Tree, tag: str, reason: str) -> None:
    assert tree.refusal("--check", tag).startswith(f"release: {reason}")


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_lags_behind_fails_the_check(tree: Tree, place: str) -> None:
    path = tree.folder / place
    path.write_text(path.read_text().replace("0.1.0", "0.0.9"))
    assert tree.refusal("--check", "v0.1.0") == f"release: v0.1.0, but {place} says 0.0.9"


def test_a_changelog_that_lags_behind_fails_the_check(tree: Tree) -> None:
    tree.write_changelog("## 0.0.9 - 2026-01-02\n\n- The first.\n")
    assert tree.refusal("--check", "v0.1.0") == "release: v0.1.0, but CHANGELOG.md says 0.0.9"


def test_a_version_without_notes_has_none_to_print(tree: Tree) -> None:
    assert tree.refusal("--notes", "9.9.9") == "release: CHANGELOG.md has no section 9.9.9"
