"""docs/home-assistant.md holds what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.components.automation.config import async_validate_config_item
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import load_yaml_dict, parse_yaml

from custom_components.stt_failover.const import BACKEND_NAMES, TITLE

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

_PROJECT = Path(__file__).parents[2]
_DOCUMENT = (_PROJECT / "docs" / "home-assistant.md").read_text()
_BLOCKS: list[Any] = [
    parse_yaml(text) for text in re.findall(r"^```yaml\n(.+?)^```$", _DOCUMENT, re.DOTALL | re.MULTILINE)
]
_AUTOMATIONS = [block for block in _BLOCKS if "triggers" in block]
_OTHERS = {"stt.stt_failover_2"}


@pytest.fixture
async def entities(hass: HomeAssistant, entry: MockConfigEntry) -> set[str]:
    """What there is of a server that is called as it is at first."""
    await async_setup_component(hass, "homeassistant", {})
    hass.config_entries.async_update_entry(entry, title=TITLE)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    registry = er.async_get(hass)
    return {item.entity_id for item in er.async_entries_for_config_entry(registry, entry.entry_id)}


async def test_every_entity_that_is_named_exists(hass: HomeAssistant, entities: set[str]) -> None:
    named = set(re.findall(r"\b[a-z_]+\.stt_failover\w*", _DOCUMENT)) - _OTHERS
    named = {name for name in named if not name.startswith(("custom_components.", "media_source."))}
    assert len(named) > 10
    assert named <= entities


async def test_every_entity_that_exists_is_named(hass: HomeAssistant, entities: set[str]) -> None:
    table = _DOCUMENT.split("## Entities", 1)[1].split("\n## ", 1)[0]
    backends = [name.lower().replace(" ", "_") for name in BACKEND_NAMES.values()]
    for entity in entities:
        platform, name = entity.split(".")
        for backend in sorted(backends, key=len, reverse=True):
            name = name.replace(backend, "BACKEND")
        kind = name.removeprefix("stt_failover").removeprefix("_")
        ending = kind.removeprefix("BACKEND")
        assert f"`{platform}." in table
        assert f"_{kind}`" in table or f"…{ending}`" in table or entity in table, entity


@pytest.mark.parametrize("automation", _AUTOMATIONS, ids=lambda item: item["alias"])
async def test_automations_are_valid(
    hass: HomeAssistant, entities: set[str], automation: dict[str, Any]
) -> None:
    await async_setup_component(hass, "automation", {})
    validated = await async_validate_config_item(hass, automation["alias"], automation)
    assert validated is not None
    assert validated.validation_status == "ok", validated.validation_error


def test_every_field_of_every_action_is_named() -> None:
    actions = load_yaml_dict(str(_PROJECT / "custom_components" / "stt_failover" / "services.yaml"))
    for name, action in actions.items():
        section = _DOCUMENT.split("## Actions", 1)[1].split("\n## ", 1)[0]
        assert f"### stt_failover.{name}\n" in section
        for field in action["fields"]:
            assert f"`{field}`" in section
