"""System health: whether the servers are there and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeassistant.core import HomeAssistant, callback

from .const import DOMAIN

if TYPE_CHECKING:
    from homeassistant.components.system_health import SystemHealthRegistration

    from .coordinator import SttFailoverConfigEntry


@callback
def async_register(hass: HomeAssistant, register: SystemHealthRegistration) -> None:  # noqa: ARG001 - Home Assistant's signature
    """Have the page ask."""
    register.async_register_info(_info)


async def _info(hass: HomeAssistant) -> dict[str, Any]:
    entries: list[SttFailoverConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    servers = [entry.runtime_data for entry in entries]
    statuses = [server.data for server in servers]
    return {
        "servers": len(hass.config_entries.async_entries(DOMAIN)),
        "connected": sum(server.last_update_success for server in servers),
        "versions": ", ".join(sorted({status.version for status in statuses})),
        "utterances": sum(status.day.utterances for status in statuses),
        "answered": sum(status.day.answered for status in statuses),
    }
