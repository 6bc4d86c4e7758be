from __future__ import annotations

import json
import re
import string
from typing import Any

import pytest
import yaml

from custom_components.stt_failover.const import BACKENDS, STRATEGIES
from tests.integration.flows import ENGLISH, FOLDER

OTHERS = ("de", "es", "fr", "zh-Hans")


def flat(words: Any, path: str = "") -> dict[str, str]:
    """All texts by the path of their keys."""
    if isinstance(words, str):
        return {path: words}
    return {name: text for key, inner in words.items() for name, text in flat(inner, f"{path}/{key}").items()}


def placeholders(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def load(language: str) -> Any:
    return json.loads((FOLDER / f"translations/{language}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", OTHERS)
def test_every_language_says_everything_that_english_does(language: str) -> None:
    assert flat(load(language)).keys() == flat(ENGLISH).keys()


@pytest.mark.parametrize("language", OTHERS)
def test_every_translation_has_the_placeholders_of_the_english_text(language: str) -> None:
    english, other = flat(ENGLISH), flat(load(language))
    assert {path: placeholders(text) for path, text in other.items()} == {
        path: placeholders(text) for path, text in english.items()
    }


@pytest.mark.parametrize("language", ["en", *OTHERS])
def test_no_text_is_empty_has_blanks_at_its_ends_or_markup(language: str) -> None:
    for path, text in flat(load(language)).items():
        assert text, path
        assert text == text.strip(), path
        assert not re.search(r"<[a-zA-Z/]|'\{", text), path


@pytest.mark.parametrize("language", OTHERS)
def test_sentences_are_translated(language: str) -> None:
    english, other = flat(ENGLISH), flat(load(language))
    assert [path for path, text in english.items() if text.count(" ") > 3 and other[path] == text] == []


def test_every_key_that_the_code_raises_has_an_exception_text() -> None:
    used = set()
    for module in FOLDER.glob("*.py"):
        text = module.read_text(encoding="utf-8")
        used |= set(re.findall(r'translation_key="(\w+)"', text)) if "translation_domain" in text else set()
    assert used <= ENGLISH["exceptions"].keys() | ENGLISH["issues"].keys() | _entities(), used


def _entities() -> set[str]:
    return {key for platform in ENGLISH["entity"].values() for key in platform}


def test_every_entity_has_a_name_and_an_icon() -> None:
    icons = json.loads((FOLDER / "icons.json").read_text(encoding="utf-8"))
    for platform, entities in ENGLISH["entity"].items():
        for key, entity in entities.items():
            assert entity["name"]
            assert icons["entity"][platform][key]["default"].startswith("mdi:")


def test_every_action_and_each_of_its_fields_is_described() -> None:
    actions = yaml.safe_load((FOLDER / "services.yaml").read_text(encoding="utf-8"))
    icons = json.loads((FOLDER / "icons.json").read_text(encoding="utf-8"))
    assert actions.keys() == ENGLISH["services"].keys() == icons["services"].keys()
    for name, action in actions.items():
        assert action.get("fields", {}).keys() == ENGLISH["services"][name].get("fields", {}).keys()


def test_every_choice_of_a_form_has_a_name() -> None:
    assert set(BACKENDS) == ENGLISH["selector"]["backend"]["options"].keys()
    assert set(STRATEGIES) == ENGLISH["selector"]["strategy"]["options"].keys()
    assert set(STRATEGIES) == ENGLISH["entity"]["select"]["strategy"]["state"].keys()


def test_quality_scale_has_all_rules_and_gives_a_reason_for_each_that_does_not_apply() -> None:
    rules = yaml.safe_load((FOLDER / "quality_scale.yaml").read_text(encoding="utf-8"))["rules"]
    assert len(rules) == 54
    for name, state in rules.items():
        assert state == "done" or (state["status"] == "exempt" and state["comment"]), name


def test_manifest_names_the_version_of_the_project() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    version = (FOLDER.parents[1] / "modal_whisper/version.py").read_text(encoding="utf-8")
    assert f'__version__ = "{manifest["version"]}"' in version
    rest = list(manifest)[2:]
    assert (list(manifest)[:2], rest) == (["domain", "name"], sorted(rest))


def test_package_installs_what_the_manifest_asks_for_and_imports_nothing_of_the_project() -> None:
    for module in FOLDER.glob("*.py"):
        text = module.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) (wyoming_server|modal_whisper)", text, re.MULTILINE), module
