"""Whether each backend is there, and whether a person should look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, override

from homeassistant.components.binary_sensor import BinarySensorDeviceClass, BinarySensorEntity
from homeassistant.const import EntityCategory, Platform

from .backends import follow_backends
from .entity import BackendEntity, SttFailoverEntity

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import SttFailoverConfigEntry, SttFailoverCoordinator

PARALLEL_UPDATES = 0

ATTR_REASON = "reason"


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant passes it
    entry: SttFailoverConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the problem of a server and the connectivity of its backends."""
    coordinator = entry.runtime_data
    async_add_entities([ProblemSensor(coordinator)])
    follow_backends(
        entry,
        Platform.BINARY_SENSOR,
        async_add_entities,
        lambda name: [ConnectivitySensor(coordinator, name)],
    )


class ProblemSensor(SttFailoverEntity, BinarySensorEntity):
    """On where people may be left without an answer."""

    _attr_device_class = BinarySensorDeviceClass.PROBLEM

    def __init__(self, coordinator: SttFailoverCoordinator) -> None:
        super().__init__(coordinator, "problem")

    @property
    @override
    def is_on(self) -> bool:
        """Whether there is a problem."""
        return self.coordinator.data.problem is not None

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        """Which problem it is."""
        return {ATTR_REASON: self.coordinator.data.problem}


class ConnectivitySensor(BackendEntity, BinarySensorEntity):
    """On where the backend is asked; unknown where it is not to be asked at all."""

    _attr_device_class = BinarySensorDeviceClass.CONNECTIVITY
    _attr_entity_category = EntityCategory.DIAGNOSTIC

    def __init__(self, coordinator: SttFailoverCoordinator, backend: str) -> None:
        super().__init__(coordinator, backend, "connectivity")

    @property
    @override
    def is_on(self) -> bool | None:
        """Whether it works, as far as the server has seen."""
        state = self.backend.state
        return None if state is None else state == "closed"

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        """Why it is left out."""
        return {ATTR_REASON: self.backend.cause}
