"""What the Supervisor demands of an app and its repository, as far as a file can break it."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import voluptuous as vol
import yaml

from modal_whisper.version import __version__
from wyoming_server.settings import NAMES, validate

ROOT = Path(__file__).parents[2]
APP = ROOT / "home_assistant_app"
CONFIG = yaml.safe_load((APP / "config.yaml").read_text())
LANGUAGES = ("de", "en", "es", "fr", "zh-Hans")

_ELEMENT = re.compile(
    r"(bool|email|url|port|str(\(\d*,\d*\))?|password(\(\d*,\d*\))?|int(\(-?\d*,-?\d*\))?"
    r"|float\S*|match\(.*\)|list\(.+\))\??"
)
_IMAGE = re.compile(r"([a-z0-9.-]+\.[a-z]+/)?[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_PORTS = {vol.Match(r"^\d+/(tcp|udp)$"): vol.Any(None, vol.All(int, vol.Range(1, 65535)))}
# Stricter than the Supervisor, which drops what it does not know: a misspelt key has no effect, nor message.
_CONFIG = vol.Schema(
    {
        vol.Required("name"): str,
        vol.Required("version"): vol.Match(r"^\d+\.\d+\.\d+\S*$"),
        vol.Required("slug"): vol.Match(r"^[a-z0-9_]+$"),
        vol.Required("description"): vol.All(str, vol.Length(max=120)),
        vol.Required("url"): vol.Url(),
        vol.Required("image"): vol.Match(rf"^{_IMAGE.pattern}$"),
        vol.Required("arch"): [vol.In(["amd64", "aarch64"])],
        vol.Required("homeassistant"): vol.Match(r"^\d{4}\.\d+\.\d+$"),
        vol.Required("init"): False,  # the image has s6-overlay as its first process
        vol.Optional("timeout"): vol.All(int, vol.Range(10, 300)),
        vol.Optional("tmpfs"): bool,
        vol.Optional("apparmor"): True,
        vol.Required("ports"): _PORTS,
        vol.Required("ingress"): True,
        vol.Required("ingress_port"): vol.All(int, vol.Range(1, 65535)),
        vol.Optional("panel_icon"): vol.Match(r"^mdi:[a-z0-9-]+$"),
        vol.Optional("panel_title"): str,
        vol.Required("watchdog"): vol.Match(r"^https?://\[HOST\]:\[PORT:\d+\]/\S*$"),
        vol.Required("discovery"): [vol.Match(r"^[a-z0-9_]+$")],
        vol.Required("map"): [
            {
                vol.Required("type"): vol.In(["app_config", "share", "media", "ssl"]),
                vol.Optional("read_only"): bool,
            }
        ],
        vol.Required("backup_exclude"): [str],
        vol.Required("options"): {str: vol.Any(bool, int, float, str)},
        vol.Required("schema"): {str: vol.Match(f"^{_ELEMENT.pattern}$")},
    }
)
_TEXTS = vol.Schema(
    {
        vol.Required("configuration"): {str: {vol.Required("name"): str, vol.Required("description"): str}},
        vol.Required("network"): {str: str},
    }
)


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("this copy of the project is no git repository, so that build outputs would count, too")
    return done.stdout.splitlines()


def test_the_supervisor_takes_the_configuration() -> None:
    _CONFIG(CONFIG)


def test_the_version_is_that_of_the_server_in_the_image() -> None:
    assert CONFIG["version"] == __version__


def test_the_repository_says_its_name_and_where_it_is() -> None:
    repository = yaml.safe_load((ROOT / "repository.yaml").read_text())
    vol.Schema({vol.Required("name"): str, vol.Required("url"): vol.Url(), vol.Required("maintainer"): str})(
        repository
    )
    assert repository["url"] == CONFIG["url"]


def test_the_supervisor_finds_one_app_in_the_repository() -> None:
    found = [
        path
        for path in map(Path, tracked())
        if path.stem == "config"
        and path.suffix in (".yaml", ".yml", ".json")
        # Where the Supervisor does not look.
        and not any(part.startswith(".") or part == "rootfs" for part in path.parts)
    ]
    assert found == [Path("home_assistant_app/config.yaml")]


def test_every_default_is_one_of_the_options_and_every_other_option_may_be_left_out() -> None:
    optional = {name for name, element in CONFIG["schema"].items() if element.endswith("?")}
    assert optional == CONFIG["schema"].keys() - CONFIG["options"].keys()
    assert CONFIG["options"].keys() <= CONFIG["schema"].keys()


def test_options_that_are_settings_of_the_server_take_what_it_takes() -> None:
    examples: dict[str, Any] = {
        "debug": "true",
        "assemblyai_api_key": "0123456789abcdef",
        "whisper_service_url": "ws://192.168.1.20:10301",
        "whisper_api_key": "choose-one",
        "local_model": "/config/models/mine",
        "api_token": "0123456789abcdef0123456789abcdef",
    }
    assert examples.keys() == CONFIG["schema"].keys() - {"wyoming_discovery"}
    assert {name.upper() for name in examples} <= set(NAMES)
    validate({name.upper(): value for name, value in examples.items()})
    address = re.fullmatch(r"match\((.*)\)\?", CONFIG["schema"]["whisper_service_url"])
    assert address
    assert re.match(address[1], examples["whisper_service_url"])
    assert not re.match(address[1], "192.168.1.20:10301")


def test_ports_are_those_of_the_server_and_closed_until_somebody_opens_them() -> None:
    assert CONFIG["ports"] == {"10300/tcp": None, "10380/tcp": None}
    assert CONFIG["ingress_port"] == 10380
    assert CONFIG["watchdog"] == "http://[HOST]:[PORT:10380]/health"


def test_the_integration_is_what_the_app_announces_itself_to() -> None:
    assert "stt_failover" in CONFIG["discovery"]
    manifest = json.loads((ROOT / "custom_components" / "stt_failover" / "manifest.json").read_text())
    assert manifest["config_flow"] is True
    assert CONFIG["name"] == CONFIG["panel_title"] == manifest["name"]


def test_home_assistant_finds_the_app_with_nothing_else_installed() -> None:
    assert "wyoming" in CONFIG["discovery"]
    assert CONFIG["options"]["wyoming_discovery"] is True


@pytest.mark.parametrize("document", ["README.md", "README.zh-CN.md", "docs/install.md"])
def test_the_app_is_named_as_the_store_names_it(document: str) -> None:
    assert f"**{CONFIG['name']}**" in (ROOT / document).read_text()


@pytest.mark.parametrize("document", ["README.md", "DOCS.md"])
def test_the_store_shows_that_name(document: str) -> None:
    assert (APP / document).read_text().startswith(f"# {CONFIG['name']}\n")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_option_and_port_is_named_in(language: str) -> None:
    texts = yaml.safe_load((APP / "translations" / f"{language}.yaml").read_text())
    _TEXTS(texts)
    assert texts["configuration"].keys() == CONFIG["schema"].keys()
    assert texts["network"].keys() == CONFIG["ports"].keys()


def test_there_are_no_other_translations() -> None:
    assert sorted(path.name for path in (APP / "translations").iterdir()) == [f"{x}.yaml" for x in LANGUAGES]


def test_no_model_gets_into_a_backup() -> None:
    # The Supervisor asks of every file and folder whether the end of its path matches.
    data = Path("/data/apps/data/stt_failover")
    for path in (data / "models", Path("/data/app_configs/stt_failover/models")):
        assert any(path.match(pattern) for pattern in CONFIG["backup_exclude"])
    for name in ("settings.json", "usage.json", "api_token", "options.json"):
        assert not any((data / name).match(pattern) for pattern in CONFIG["backup_exclude"])


@pytest.mark.parametrize(("name", "size"), [("icon.png", (128, 128)), ("logo.png", (250, 100))])
def test_a_picture_has_the_size_that_the_store_shows(name: str, size: tuple[int, int]) -> None:
    head = (APP / name).read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:24]) == size


@pytest.mark.parametrize("name", ["README.md", "DOCS.md", "CHANGELOG.md", "Dockerfile"])
def test_the_store_finds(name: str) -> None:
    assert (APP / name).read_text().strip()


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (APP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == CONFIG["version"]


def test_the_profile_has_one_name_that_the_supervisor_can_replace() -> None:
    text = (APP / "apparmor.txt").read_text()
    assert re.findall(r"^profile ([^ ]+)", text, re.MULTILINE) == ["stt_failover"]
    assert text.count("{") == text.count("}")
    # Whoever names the profile elsewhere names one that will not be there.
    assert not re.search(r"peer=stt_failover", text)


def test_there_is_no_retired_build_file() -> None:
    assert not list(APP.glob("build.*"))
