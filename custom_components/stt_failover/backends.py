"""Entities of backends: there are as many as the server has backends, and they come and go with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeassistant.core import callback
from homeassistant.helpers import entity_registry as er

from .const import BACKENDS, DOMAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from homeassistant.const import Platform
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import SttFailoverConfigEntry
    from .entity import BackendEntity


@callback
def follow_backends(
    entry: SttFailoverConfigEntry,
    platform: Platform,
    async_add_entities: AddConfigEntryEntitiesCallback,
    make: Callable[[str], Sequence[BackendEntity]],
) -> None:
    """Have what `make` makes for a backend's name as long as the server has that backend."""
    coordinator = entry.runtime_data
    known: set[str] = set()

    @callback
    def update() -> None:
        there = set(coordinator.data.backends)
        if there == known:
            return
        async_add_entities(
            entity for name in coordinator.data.backends if name not in known for entity in make(name)
        )
        registry = er.async_get(coordinator.hass)
        # Those of the constant too: a backend may have gone while Home Assistant was not running.
        for name in ({*BACKENDS} | known) - there:
            for entity in make(name):
                if entity.unique_id and (
                    entity_id := registry.async_get_entity_id(platform, DOMAIN, entity.unique_id)
                ):
                    registry.async_remove(entity_id)
        known.clear()
        known.update(there)

    update()
    entry.async_on_unload(coordinator.async_add_listener(update))
