"""The strategy: when the next backend is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, override

from homeassistant.components.select import SelectEntity
from homeassistant.const import EntityCategory

from .const import STRATEGIES
from .entity import SttFailoverEntity
from .exceptions import translated_errors

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import SttFailoverConfigEntry, SttFailoverCoordinator

PARALLEL_UPDATES = 1


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant passes it
    entry: SttFailoverConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the strategy of a server."""
    async_add_entities([StrategySelect(entry.runtime_data)])


class StrategySelect(SttFailoverEntity, SelectEntity):
    """The server's strategy."""

    _attr_entity_category = EntityCategory.CONFIG

    def __init__(self, coordinator: SttFailoverCoordinator) -> None:
        super().__init__(coordinator, "strategy")
        self._attr_options = list(STRATEGIES)

    @property
    @override
    def current_option(self) -> str:
        """What the server says; Home Assistant shows one that only a newer server has as unknown."""
        return self.coordinator.data.strategy

    @override
    async def async_select_option(self, option: str) -> None:
        """Change it; the new one comes back with the status."""
        with translated_errors():
            await self.coordinator.client.update_config({"STRATEGY": option})
