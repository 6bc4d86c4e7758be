"""What all entities share: one device per server, names by translation, gone while the server is away."""

from __future__ import annotations

from typing import TYPE_CHECKING, override

from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .const import BACKEND_NAMES, DOMAIN
from .coordinator import SttFailoverCoordinator

if TYPE_CHECKING:
    from .models import Backend


class SttFailoverEntity(CoordinatorEntity[SttFailoverCoordinator]):
    """An entity of a server; `key` is its translation key, and its unique id behind the server's."""

    _attr_has_entity_name = True

    def __init__(self, coordinator: SttFailoverCoordinator, key: str) -> None:
        super().__init__(coordinator)
        self._attr_translation_key = key
        self._attr_unique_id = f"{coordinator.server_id}_{key}"
        self._attr_device_info = DeviceInfo(
            identifiers={(DOMAIN, coordinator.server_id)},
            name=coordinator.config_entry.title,
            manufacturer="stt-failover",
            model="Speech-to-text server",
            sw_version=coordinator.data.version,
            entry_type=DeviceEntryType.SERVICE,
        )


class BackendEntity(SttFailoverEntity):
    """An entity of one backend; its translated name holds `{backend}`."""

    def __init__(self, coordinator: SttFailoverCoordinator, backend: str, key: str) -> None:
        super().__init__(coordinator, key)
        self._backend = backend
        self._attr_unique_id = f"{coordinator.server_id}_{backend}_{key}"
        self._attr_translation_placeholders = {"backend": BACKEND_NAMES.get(backend, backend)}

    @property
    def backend(self) -> Backend:
        """How the backend is doing; KeyError where the server does not know it (any more)."""
        return self.coordinator.data.backends[self._backend]

    @property
    @override
    def available(self) -> bool:
        """Whether the server is there and has the backend."""
        return super().available and self._backend in self.coordinator.data.backends
