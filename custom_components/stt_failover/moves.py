"""What becomes of an entry when its server is said to be elsewhere, or is another one at the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeassistant.core import callback
from homeassistant.helpers import device_registry as dr, entity_registry as er

from .const import DOMAIN
from .coordinator import client_of
from .errors import ServerError

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigEntry
    from homeassistant.core import HomeAssistant


async def answers_still(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Whether the entry's server answers where it always did."""
    try:
        health = await client_of(hass, entry.data).health()
    except ServerError:
        return False
    return health.id == entry.unique_id


@callback
def rename_server(hass: HomeAssistant, entry: ConfigEntry, server_id: str) -> None:
    """Let the entry's device and entities be those of the server with this id, so that they stay."""
    entities = er.async_get(hass)
    for item in er.async_entries_for_config_entry(entities, entry.entry_id):
        _, _, key = item.unique_id.partition("_")
        entities.async_update_entity(item.entity_id, new_unique_id=f"{server_id}_{key}")
    devices = dr.async_get(hass)
    for device in dr.async_entries_for_config_entry(devices, entry.entry_id):
        devices.async_update_device(device.id, new_identifiers={(DOMAIN, server_id)})
