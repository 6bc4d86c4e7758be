"""Orders to the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, override

from homeassistant.components.button import ButtonEntity, ButtonEntityDescription
from homeassistant.const import EntityCategory
from homeassistant.exceptions import HomeAssistantError

from .const import BACKEND_NAMES, DOMAIN
from .entity import SttFailoverEntity
from .exceptions import translated_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import SttFailoverConfigEntry, SttFailoverCoordinator

PARALLEL_UPDATES = 1

_MISSING: Final = "missing"
"""The code of a backend that nobody has set up, which is no failure as long as another one works."""


@dataclass(frozen=True, kw_only=True)
class ServerButtonDescription(ButtonEntityDescription):
    """A button and what it does."""

    press: Callable[[SttFailoverCoordinator], Awaitable[None]]


async def _test(coordinator: SttFailoverCoordinator) -> None:
    results = await coordinator.client.test()
    failed = [result for result in results if not result.ok and result.code != _MISSING]
    if not any(result.ok for result in results):
        failed = results
    if failed:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="test_failed",
            translation_placeholders={
                "failures": "; ".join(
                    f"{BACKEND_NAMES.get(result.backend, result.backend)}: {result.message or result.code}"
                    for result in failed
                )
            },
        )


async def _warm(coordinator: SttFailoverCoordinator) -> None:
    await coordinator.client.warm()


async def _close_breakers(coordinator: SttFailoverCoordinator) -> None:
    coordinator.async_set_updated_data(await coordinator.client.close_breakers())


BUTTONS: Final = (
    ServerButtonDescription(key="test", entity_category=EntityCategory.DIAGNOSTIC, press=_test),
    ServerButtonDescription(key="warm", press=_warm),
    ServerButtonDescription(
        key="close_breakers", entity_category=EntityCategory.DIAGNOSTIC, press=_close_breakers
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant passes it
    entry: SttFailoverConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the buttons of a server."""
    async_add_entities(ServerButton(entry.runtime_data, description) for description in BUTTONS)


class ServerButton(SttFailoverEntity, ButtonEntity):
    """Asks the server to do something once."""

    entity_description: ServerButtonDescription

    def __init__(self, coordinator: SttFailoverCoordinator, description: ServerButtonDescription) -> None:
        super().__init__(coordinator, description.key)
        self.entity_description = description

    @override
    async def async_press(self) -> None:
        """Ask; raises HomeAssistantError where the server does not do it."""
        with translated_errors():
            await self.entity_description.press(self.coordinator)
