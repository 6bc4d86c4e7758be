from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from modal_whisper.deployment import MODELS, PACKAGES, Deployment, SettingError, fetch_command
from modal_whisper.weights import REVISION

PROJECT = Path(__file__).parents[2]
DEFAULTS = {
    "WHISPER_MODEL": "medium",
    "WHISPER_FRONT_MODEL": "base",
    "WHISPER_GPU": "A10G,L4",
    "WHISPER_REGION": "",
    "WHISPER_IDLE_SECONDS": "180",
    "WHISPER_MAX_CONTAINERS": "1",
    "WHISPER_SNAPSHOT": "true",
    "WHISPER_PROXY_AUTH": "true",
    "WHISPER_APP": "stt-failover",
    "WHISPER_SECRET": "stt-failover",
}
OTHERS = {
    "WHISPER_MODEL": "Systran/faster-distil-whisper-large-v3",
    "WHISPER_FRONT_MODEL": "tiny",
    "WHISPER_GPU": "L4,T4",
    "WHISPER_REGION": "eu-west,eu-north",
    "WHISPER_IDLE_SECONDS": "3600",
    "WHISPER_MAX_CONTAINERS": "3",
    "WHISPER_SNAPSHOT": "false",
    "WHISPER_PROXY_AUTH": "false",
    "WHISPER_APP": "whisper-2",
    "WHISPER_SECRET": "whisper.key",
}


def test_without_settings_it_is_what_the_documents_say() -> None:
    deployment = Deployment.from_environment({})
    assert deployment == Deployment(
        model="medium",
        front_model="base",
        gpu=("A10G", "L4"),
        region=(),
        idle_seconds=180,
        max_containers=1,
        snapshot=True,
        proxy_auth=True,
        app="stt-failover",
        secret="stt-failover",
    )
    assert deployment.environment == DEFAULTS
    assert {variable: default for variable, default, _ in Deployment.explained()} == DEFAULTS


def test_every_setting_can_be_set_and_comes_to_the_same_in_a_container() -> None:
    deployment = Deployment.from_environment(OTHERS)
    assert deployment.environment == OTHERS
    assert Deployment.from_environment(deployment.environment) == deployment
    default = Deployment()
    assert [
        name for name in Deployment.__slots__ if getattr(deployment, name) == getattr(default, name)
    ] == []


def test_an_empty_variable_counts_as_unset_and_blanks_do_not_count() -> None:
    assert Deployment.from_environment(dict.fromkeys(DEFAULTS, " ")) == Deployment()
    assert Deployment.from_environment({"WHISPER_GPU": " T4 , L4,"}).gpu == ("T4", "L4")


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("WHISPER_MODEL", "/models/own", "the name of a faster-whisper model"),
        ("WHISPER_MODEL", "a/b/c", "the name of a faster-whisper model"),
        ("WHISPER_MODEL", "x'); print('", "the name of a faster-whisper model"),
        ("WHISPER_FRONT_MODEL", "..", "the name of a faster-whisper model"),
        ("WHISPER_GPU", ",", "names of Modal's GPUs"),
        ("WHISPER_GPU", "A 10", "names of Modal's GPUs"),
        ("WHISPER_REGION", "US East", "names of Modal's regions"),
        ("WHISPER_IDLE_SECONDS", "1", "a whole number from 2 to 3600"),
        ("WHISPER_IDLE_SECONDS", "3601", "a whole number from 2 to 3600"),
        ("WHISPER_IDLE_SECONDS", "2.5", "a whole number from 2 to 3600"),
        ("WHISPER_MAX_CONTAINERS", "0", "a whole number from 1 to 10"),
        ("WHISPER_MAX_CONTAINERS", "11", "a whole number from 1 to 10"),
        ("WHISPER_SNAPSHOT", "maybe", "true or false"),
        ("WHISPER_PROXY_AUTH", "2", "true or false"),
        ("WHISPER_APP", "Speech", "lower-case letters"),
        ("WHISPER_APP", "-speech", "lower-case letters"),
        ("WHISPER_APP", "s" * 41, "up to 40"),
        ("WHISPER_SECRET", "my secret", "letters, digits"),
    ],
)
def test_a_wrong_value_is_one_line_that_says_what_the_setting_takes(
    name: str, value: str, takes: str
) -> None:
    with pytest.raises(SettingError) as raised:
        Deployment.from_environment({name: value})
    line = str(raised.value)
    assert line.startswith(f"{name} takes ")
    assert takes in line
    assert repr(value) in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["base", "medium", "Systran/faster-whisper-small"])
def test_the_weights_are_put_where_they_are_looked_for_first(name: str) -> None:
    program, flag, code = shlex.split(fetch_command(name))
    assert (program, flag) == ("python", "-c")
    calls: list[tuple[tuple[str, ...], dict[str, str]]] = []
    exec(  # a command of our own, run with the one import replaced
        code.replace("from faster_whisper import download_model; ", ""),
        {"download_model": lambda *names, **options: calls.append((names, options))},
    )
    ((names, options),) = calls
    assert names == (name,)
    assert options.pop("output_dir") == f"{MODELS}/{name.replace('/', '--')}"
    assert options == ({"revision": REVISION} if name == "base" else {})


def test_the_image_has_every_package_that_the_worker_needs_pinned() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["worker"]]
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in needed}
    pinned = dict(package.split("==") for package in PACKAGES)
    assert names - pinned.keys() - {"numpy"} == set()  # numpy comes with the others


DOCUMENTS = [PROJECT / "docs" / "deployment.md", PROJECT / "docs" / "deployment.zh-CN.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_documents_have_every_setting_and_its_default(document: Path) -> None:
    rows = re.findall(r"^\| `(WHISPER_\w+)` \| (?:`(.*?)`)? ?\|", document.read_text(), re.MULTILINE)
    assert dict(rows) == DEFAULTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_documented_costs_follow_from_the_prices(document: Path) -> None:
    text = document.read_text()
    prices = [float(price) for price in re.findall(r"^\| [^|]+ \| (0\.0000*\d+) \|$", text, re.MULTILINE)]
    a10, l4, core, gib = prices
    month = 30 * 24 * 3600
    assert f"{(core / 4 + gib) * month:.2f}" == "14.24"
    assert "14.24" in text
    for gpu, name in ((a10, "A10"), (l4, "L4")):
        second = gpu + 2 * core + 4 * gib
        row = f"| {name} | {second:.6f} | **${220 * second:.3f}** | ${70 * second:.3f} |"
        assert row in text
    second = a10 + 2 * core + 4 * gib
    assert {f"{second * month:.0f}", f"{180 * second:.3f}"} <= set(re.findall(r"[\d.]*\d", text))
