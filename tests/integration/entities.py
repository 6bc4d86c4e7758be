"""Finds the entities of the server by what they are, whatever they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeassistant.helpers import entity_registry as er

from tests.integration.fake_server import SERVER_ID

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant, State


def entity_id(hass: HomeAssistant, platform: str, key: str) -> str:
    """The entity of this key: `BACKEND_KEY` where it is a backend's."""
    found = er.async_get(hass).async_get_entity_id(platform, "stt_failover", f"{SERVER_ID}_{key}")
    assert found is not None, key
    return found


def state(hass: HomeAssistant, platform: str, key: str) -> State:
    found = hass.states.get(entity_id(hass, platform, key))
    assert found is not None, key
    return found


def entries(hass: HomeAssistant, platform: str) -> dict[str, er.RegistryEntry]:
    """What is registered on a platform, by key."""
    registered = er.async_get(hass).entities.values()
    return {
        entry.unique_id.removeprefix(f"{SERVER_ID}_"): entry
        for entry in registered
        if entry.platform == "stt_failover" and entry.domain == platform
    }


def facts(hass: HomeAssistant, platform: str) -> dict[str, dict[str, Any]]:
    """By key, all that is registered of an entity and not a name; only what is set."""
    return {
        key: {
            name: value
            for name, value in {
                "translation": entry.translation_key,
                "category": entry.entity_category,
                "class": entry.original_device_class,
                "unit": entry.unit_of_measurement,
                "state_class": (entry.capabilities or {}).get("state_class"),
                "options": (entry.capabilities or {}).get("options"),
                "disabled": entry.disabled_by,
            }.items()
            if value is not None
        }
        for key, entry in sorted(entries(hass, platform).items())
    }


async def enable_all(hass: HomeAssistant, config_entry_id: str) -> None:
    """Enable what is disabled at first, and load the entry anew."""
    registry = er.async_get(hass)
    for entry in er.async_entries_for_config_entry(registry, config_entry_id):
        registry.async_update_entity(entry.entity_id, disabled_by=None)
    await hass.config_entries.async_reload(config_entry_id)
    await hass.async_block_till_done()
