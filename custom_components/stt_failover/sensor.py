"""Who answered, how quickly, how reliably, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import PERCENTAGE, EntityCategory, Platform, UnitOfTime
from homeassistant.util import dt as dt_util

from .backends import follow_backends
from .const import BACKENDS
from .entity import BackendEntity, SttFailoverEntity

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import SttFailoverConfigEntry, SttFailoverCoordinator
    from .models import Backend, Status

PARALLEL_UPDATES = 0

NOBODY: Final = "nobody"
_FREE: Final = "local"
"""The backend that costs nothing."""


@dataclass(frozen=True, kw_only=True)
class ServerSensorDescription(SensorEntityDescription):
    """A sensor of the server."""

    value: Callable[[Status], str | float | None]


@dataclass(frozen=True, kw_only=True)
class BackendSensorDescription(SensorEntityDescription):
    """A sensor of one backend."""

    value: Callable[[Backend], float]
    begins: Callable[[], datetime] | None = None
    """Since when the value has been counted, where statistics need that."""


def _answered_by(status: Status) -> str | None:
    if status.last is None:
        return None
    backend = status.last.backend or NOBODY
    return backend if backend in (*BACKENDS, NOBODY) else None


def _availability(status: Status) -> float | None:
    return None if status.day.availability is None else status.day.availability * 100


def _start_of_month() -> datetime:
    return dt_util.start_of_local_day(dt_util.now().replace(day=1))


SERVER_SENSORS: Final = (
    ServerSensorDescription(
        key="answered_by",
        device_class=SensorDeviceClass.ENUM,
        options=[*BACKENDS, NOBODY],
        value=_answered_by,
    ),
    ServerSensorDescription(
        key="time_to_transcript",
        entity_category=EntityCategory.DIAGNOSTIC,
        device_class=SensorDeviceClass.DURATION,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfTime.MILLISECONDS,
        suggested_display_precision=0,
        entity_registry_enabled_default=False,
        value=lambda status: status.last.ms if status.last else None,
    ),
    ServerSensorDescription(
        key="median_time_to_transcript",
        entity_category=EntityCategory.DIAGNOSTIC,
        device_class=SensorDeviceClass.DURATION,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfTime.MILLISECONDS,
        suggested_display_precision=0,
        value=lambda status: status.day.median_ms,
    ),
    ServerSensorDescription(
        key="failovers",
        entity_category=EntityCategory.DIAGNOSTIC,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        value=lambda status: status.day.failovers,
    ),
    ServerSensorDescription(
        key="availability",
        entity_category=EntityCategory.DIAGNOSTIC,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=PERCENTAGE,
        suggested_display_precision=1,
        value=_availability,
    ),
)

BACKEND_SENSORS: Final = (
    BackendSensorDescription(
        key="seconds_today",
        entity_category=EntityCategory.DIAGNOSTIC,
        device_class=SensorDeviceClass.DURATION,
        state_class=SensorStateClass.TOTAL_INCREASING,
        native_unit_of_measurement=UnitOfTime.SECONDS,
        suggested_display_precision=0,
        entity_registry_enabled_default=False,
        value=lambda backend: backend.today.seconds,
    ),
    BackendSensorDescription(
        key="seconds_month",
        entity_category=EntityCategory.DIAGNOSTIC,
        device_class=SensorDeviceClass.DURATION,
        state_class=SensorStateClass.TOTAL_INCREASING,
        native_unit_of_measurement=UnitOfTime.SECONDS,
        suggested_display_precision=0,
        entity_registry_enabled_default=False,
        value=lambda backend: backend.month.seconds,
    ),
    BackendSensorDescription(
        key="cost_today",
        device_class=SensorDeviceClass.MONETARY,
        state_class=SensorStateClass.TOTAL,
        native_unit_of_measurement="USD",
        suggested_display_precision=2,
        value=lambda backend: backend.today.dollars,
        begins=dt_util.start_of_local_day,
    ),
    BackendSensorDescription(
        key="cost_month",
        device_class=SensorDeviceClass.MONETARY,
        state_class=SensorStateClass.TOTAL,
        native_unit_of_measurement="USD",
        suggested_display_precision=2,
        value=lambda backend: backend.month.dollars,
        begins=_start_of_month,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant passes it
    entry: SttFailoverConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the sensors of a server and of its backends."""
    coordinator = entry.runtime_data
    async_add_entities(ServerSensor(coordinator, description) for description in SERVER_SENSORS)
    follow_backends(
        entry,
        Platform.SENSOR,
        async_add_entities,
        lambda name: [BackendSensor(coordinator, name, description) for description in BACKEND_SENSORS],
    )


class ServerSensor(SttFailoverEntity, SensorEntity):
    """A figure of the server."""

    entity_description: ServerSensorDescription

    def __init__(self, coordinator: SttFailoverCoordinator, description: ServerSensorDescription) -> None:
        super().__init__(coordinator, description.key)
        self.entity_description = description

    @property
    @override
    def native_value(self) -> str | float | None:
        """The figure; None where nobody has spoken yet."""
        return self.entity_description.value(self.coordinator.data)


class BackendSensor(BackendEntity, SensorEntity):
    """What a backend has used."""

    entity_description: BackendSensorDescription

    def __init__(
        self, coordinator: SttFailoverCoordinator, backend: str, description: BackendSensorDescription
    ) -> None:
        super().__init__(coordinator, backend, description.key)
        self.entity_description = description
        if description.device_class is SensorDeviceClass.MONETARY and backend == _FREE:
            self._attr_entity_registry_enabled_default = False

    @property
    @override
    def native_value(self) -> float:
        """Seconds or US dollars."""
        return self.entity_description.value(self.backend)

    @property
    @override
    def last_reset(self) -> datetime | None:
        """The beginning of the day or the month."""
        begins = self.entity_description.begins
        return begins() if begins else None
