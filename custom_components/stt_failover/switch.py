"""Which backends are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.const import EntityCategory, Platform
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers.restore_state import ExtraStoredData, RestoreEntity

from .backends import follow_backends
from .const import BACKENDS, DOMAIN
from .entity import BackendEntity
from .exceptions import translated_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import SttFailoverConfigEntry, SttFailoverCoordinator

PARALLEL_UPDATES = 1  # one order of backends is read and written by all of them

_ORDER: Final = "BACKENDS"
_FLAGS: Final = {"whisper": "WHISPER_ENABLED", "local": "LOCAL_ENABLED"}
"""Settings that keep a backend from being asked though it is in the order."""


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant passes it
    entry: SttFailoverConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up a switch for each backend."""
    coordinator = entry.runtime_data
    follow_backends(
        entry, Platform.SWITCH, async_add_entities, lambda name: [BackendSwitch(coordinator, name)]
    )


@dataclass(frozen=True)
class RememberedOrder(ExtraStoredData):
    """The order of backends, those included that are out of it at present."""

    order: tuple[str, ...]

    @override
    def as_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return {"order": list(self.order)}


class BackendSwitch(BackendEntity, SwitchEntity, RestoreEntity):
    """Puts a backend into the server's order, where it was before, or takes it out."""

    _attr_entity_category = EntityCategory.CONFIG

    def __init__(self, coordinator: SttFailoverCoordinator, backend: str) -> None:
        super().__init__(coordinator, backend, "backend")

    @override
    async def async_added_to_hass(self) -> None:
        """Remember where the backend stood."""
        await super().async_added_to_hass()
        if stored := await self.async_get_last_extra_data():
            order = tuple(str(name) for name in stored.as_dict().get("order", BACKENDS))
            self.coordinator.remembered_order = order

    @property
    @override
    def extra_restore_state_data(self) -> RememberedOrder:
        """What to remember over a restart."""
        return RememberedOrder(self.coordinator.remembered_order)

    @property
    @override
    def is_on(self) -> bool:
        """Whether it is in the order."""
        return self.backend.enabled

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        """Ask it again, at its old place."""
        with translated_errors():
            settings = (await self.coordinator.client.config()).settings
            order = _strings(settings[_ORDER].value)
            changes: dict[str, Any] = {}
            if self._backend not in order:
                changes[_ORDER] = _inserted(order, self._backend, self.coordinator.remembered_order)
            flag = settings.get(_FLAGS.get(self._backend, ""))
            if flag is not None and flag.value is False:
                changes[_FLAGS[self._backend]] = True
            if changes:
                await self.coordinator.client.update_config(changes)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        """Ask it no more; the last one cannot be taken out."""
        with translated_errors():
            settings = (await self.coordinator.client.config()).settings
            order = _strings(settings[_ORDER].value)
            if self._backend not in order:
                return
            rest = [name for name in order if name != self._backend]
            if not rest:
                raise ServiceValidationError(translation_domain=DOMAIN, translation_key="last_backend")
            await self.coordinator.client.update_config({_ORDER: rest})
            # Those that are out already keep their places, too.
            remembered = self.coordinator.remembered_order
            for name in remembered:
                if name not in order:
                    order = _inserted(order, name, remembered)
            self.coordinator.remembered_order = tuple(order)


def _strings(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def _inserted(order: Sequence[str], backend: str, remembered: Sequence[str]) -> list[str]:
    """The order with the backend behind those that were before it."""
    before = remembered[: remembered.index(backend)] if backend in remembered else remembered
    at = max((order.index(name) + 1 for name in before if name in order), default=0)
    return [*order[:at], backend, *order[at:]]
