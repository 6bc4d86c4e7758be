"""A speech-to-text server that always answers, within Home Assistant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from homeassistant.const import Platform
from homeassistant.helpers import config_validation as cv

from .const import DOMAIN
from .coordinator import SttFailoverConfigEntry, SttFailoverCoordinator
from .issues import Issues
from .services import async_setup_services

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.typing import ConfigType

CONFIG_SCHEMA: Final = cv.config_entry_only_config_schema(DOMAIN)

PLATFORMS: Final = (
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.EVENT,
    Platform.SELECT,
    Platform.SENSOR,
    Platform.STT,
    Platform.SWITCH,
)


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:  # noqa: ARG001 - Home Assistant's signature
    """Register the actions, which stay while no server is loaded so that automations can be checked."""
    async_setup_services(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: SttFailoverConfigEntry) -> bool:
    """Get to know the server, then keep its feed of events open."""
    coordinator = SttFailoverCoordinator(hass, entry)
    await coordinator.async_config_entry_first_refresh()
    entry.runtime_data = coordinator
    entry.async_on_unload(coordinator.issues.clear)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    coordinator.async_follow()
    return True


async def async_unload_entry(hass: HomeAssistant, entry: SttFailoverConfigEntry) -> bool:
    """Let go of everything that setup made."""
    return await hass.config_entries.async_unload_platforms(entry, PLATFORMS)


async def async_remove_entry(hass: HomeAssistant, entry: SttFailoverConfigEntry) -> None:
    """Take back what was said about a server that never could be set up."""
    Issues(hass, entry).clear()
