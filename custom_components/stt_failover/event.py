"""Failover and recovery, as they happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, override

from homeassistant.components.event import EventEntity
from homeassistant.core import callback

from .entity import SttFailoverEntity

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import SttFailoverConfigEntry, SttFailoverCoordinator
    from .models import Happening

PARALLEL_UPDATES = 0

FAILOVER: Final = "failover"
RECOVERY: Final = "recovery"


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant passes it
    entry: SttFailoverConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the event of a server."""
    async_add_entities([FailoverEvent(entry.runtime_data)])


class FailoverEvent(SttFailoverEntity, EventEntity):
    """Fires when somebody else answers, and when who was left out is asked again."""

    def __init__(self, coordinator: SttFailoverCoordinator) -> None:
        super().__init__(coordinator, "failover")
        self._attr_event_types = [FAILOVER, RECOVERY]
        self._causes: dict[str, str] = {}

    @override
    async def async_added_to_hass(self) -> None:
        """Begin to listen."""
        await super().async_added_to_hass()
        self._remember_causes()
        self.async_on_remove(self.coordinator.async_add_happening_listener(self._happened))

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        self._remember_causes()
        super()._handle_coordinator_update()

    @callback
    def _remember_causes(self) -> None:
        # By the time of a recovery the status may say no more why the backend had been left out.
        for name, backend in self.coordinator.data.backends.items():
            if backend.cause is not None:
                self._causes[name] = backend.cause

    @callback
    def _happened(self, happening: Happening) -> None:
        data = happening.data
        attributes: dict[str, Any]
        if happening.type == FAILOVER:
            attributes = {
                "from": data.get("from"),
                "to": data.get("to"),
                "reason": data.get("code"),
                "milliseconds": data.get("ms"),
            }
        elif happening.type == RECOVERY:
            backend = str(data.get("backend"))
            attributes = {"backend": backend, "reason": self._causes.pop(backend, None)}
        else:
            return
        self._trigger_event(happening.type, attributes)
        self.async_write_ha_state()
