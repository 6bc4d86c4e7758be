from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
)
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.stt_failover.names import MAX_LENGTH, MAX_NAMES, Names, gather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from homeassistant.core import HomeAssistant


@pytest.fixture(autouse=True)
async def _exposure(hass: HomeAssistant) -> None:
    """What people expose to Assist is kept by this component."""
    assert await async_setup_component(hass, "homeassistant", {})


@pytest.fixture
def names(hass: HomeAssistant) -> Iterator[Names]:
    """The names, kept and watched."""
    names = Names(hass)
    names.listen()
    yield names
    names.close()


def _add(hass: HomeAssistant, entity_id: str, name: str, *, exposed: bool = True) -> None:
    """An entity without a registry entry, as YAML makes them."""
    hass.states.async_set(entity_id, "on", {"friendly_name": name})
    async_expose_entity(hass, "conversation", entity_id, should_expose=exposed)


def _register(hass: HomeAssistant, entity_id: str, name: str, *aliases: str) -> None:
    """An entity that can have aliases."""
    registry = er.async_get(hass)
    domain, suggested = entity_id.split(".")
    registry.async_get_or_create(domain, "test", suggested, object_id_base=suggested, original_name=name)
    if aliases:
        registry.async_update_entity(entity_id, aliases=[er.COMPUTED_NAME, *aliases])
    hass.states.async_set(entity_id, "on", {"friendly_name": name})
    async_expose_entity(hass, "conversation", entity_id, should_expose=True)


async def test_only_what_is_exposed_is_named(hass: HomeAssistant) -> None:
    _add(hass, "light.lamp", "Ecobee lamp")
    _add(hass, "light.secret", "Safe lamp", exposed=False)
    assert gather(hass) == ("Ecobee lamp",)


async def test_places_come_first_then_what_people_command_then_aliases_then_the_rest(
    hass: HomeAssistant,
) -> None:
    _register(hass, "sensor.a", "Humidity", "Dampness")
    _register(hass, "climate.z", "Ecobee", "Heating")
    _register(hass, "light.lamp", "Lamp")
    ar.async_get(hass).async_create("Kitchen", aliases={"Galley", "Cuisine"})
    ar.async_get(hass).async_create("Attic")
    fr.async_get(hass).async_create("Ground floor", aliases={"Downstairs"})
    assert gather(hass) == (
        "Attic",
        "Kitchen",
        "Ground floor",
        "Ecobee",
        "Lamp",
        "Cuisine",
        "Galley",
        "Downstairs",
        "Heating",
        "Humidity",
        "Dampness",
    )


async def test_name_is_told_once_whatever_its_case_and_spaces(hass: HomeAssistant) -> None:
    _add(hass, "light.a", "Ecobee")
    _add(hass, "light.b", " ecobee ")
    _add(hass, "light.c", "Living\n  room")
    assert gather(hass) == ("Ecobee", "Living room")


async def test_empty_and_endless_names_are_left_out(hass: HomeAssistant) -> None:
    _add(hass, "light.a", " ")
    _add(hass, "light.b", "x" * (MAX_LENGTH + 1))
    _add(hass, "light.c", "y" * MAX_LENGTH)
    assert gather(hass) == ("y" * MAX_LENGTH,)


async def test_no_more_than_the_limit_are_told_and_the_important_ones_stay(hass: HomeAssistant) -> None:
    for number in range(MAX_NAMES):
        _add(hass, f"sensor.number_{number}", f"Sensor {number}")
    _add(hass, "light.lamp", "Ecobee")
    names = gather(hass)
    assert len(names) == MAX_NAMES
    assert names[0] == "Ecobee"


async def test_names_are_kept_while_only_states_change(hass: HomeAssistant, names: Names) -> None:
    _add(hass, "light.lamp", "Ecobee")
    await hass.async_block_till_done()
    kept = names.get()
    hass.states.async_set("light.lamp", "off", {"friendly_name": "Ecobee"})
    await hass.async_block_till_done()
    assert names.get() is kept


async def test_options_of_an_entity_that_are_not_its_exposure_change_nothing(
    hass: HomeAssistant, names: Names
) -> None:
    _register(hass, "light.lamp", "Ecobee")
    await hass.async_block_till_done()
    kept = names.get()
    er.async_get(hass).async_update_entity_options("light.lamp", "another", {"should_expose": True})
    await hass.async_block_till_done()
    assert names.get() is kept


async def test_entity_that_comes_is_renamed_or_goes_is_noticed(hass: HomeAssistant, names: Names) -> None:
    assert names.get() == ()
    _add(hass, "light.lamp", "Ecobee")
    await hass.async_block_till_done()
    assert names.get() == ("Ecobee",)
    hass.states.async_set("light.lamp", "on", {"friendly_name": "Tado"})
    await hass.async_block_till_done()
    assert names.get() == ("Tado",)
    hass.states.async_remove("light.lamp")
    await hass.async_block_till_done()
    assert names.get() == ()


async def test_exposure_that_is_taken_away_is_noticed(hass: HomeAssistant, names: Names) -> None:
    _add(hass, "light.lamp", "Ecobee")
    _register(hass, "light.other", "Tado")
    await hass.async_block_till_done()
    assert names.get() == ("Ecobee", "Tado")
    async_expose_entity(hass, "conversation", "light.lamp", should_expose=False)
    async_expose_entity(hass, "conversation", "light.other", should_expose=False)
    assert names.get() == ()


async def test_alias_of_an_entity_is_noticed(hass: HomeAssistant, names: Names) -> None:
    _register(hass, "light.lamp", "Ecobee")
    assert names.get() == ("Ecobee",)
    er.async_get(hass).async_update_entity("light.lamp", aliases=[er.COMPUTED_NAME, "Tado"])
    await hass.async_block_till_done()
    assert names.get() == ("Ecobee", "Tado")


async def test_device_that_is_renamed_is_noticed(hass: HomeAssistant, names: Names) -> None:
    entry = MockConfigEntry(domain="test")
    entry.add_to_hass(hass)
    devices = dr.async_get(hass)
    device = devices.async_get_or_create(
        config_entry_id=entry.entry_id, identifiers={("test", "1")}, name="Ecobee"
    )
    registry = er.async_get(hass)
    lamp = registry.async_get_or_create(
        "light", "test", "1", device_id=device.id, has_entity_name=True
    ).entity_id
    hass.states.async_set(lamp, "on")
    async_expose_entity(hass, "conversation", lamp, should_expose=True)
    await hass.async_block_till_done()
    assert names.get() == ("Ecobee",)
    devices.async_update_device(device.id, name_by_user="Tado")
    await hass.async_block_till_done()
    assert names.get() == ("Tado",)


async def test_areas_and_floors_that_come_and_are_renamed_are_noticed(
    hass: HomeAssistant, names: Names
) -> None:
    assert names.get() == ()
    area = ar.async_get(hass).async_create("Kitchen")
    await hass.async_block_till_done()
    assert names.get() == ("Kitchen",)
    floor = fr.async_get(hass).async_create("Attic")
    await hass.async_block_till_done()
    assert names.get() == ("Kitchen", "Attic")
    ar.async_get(hass).async_update(area.id, name="Galley")
    await hass.async_block_till_done()
    assert names.get() == ("Galley", "Attic")
    fr.async_get(hass).async_update(floor.floor_id, name="Loft")
    await hass.async_block_till_done()
    assert names.get() == ("Galley", "Loft")


async def test_closed_names_notice_nothing(hass: HomeAssistant, names: Names) -> None:
    assert names.get() == ()
    names.close()
    _add(hass, "light.lamp", "Ecobee")
    await hass.async_block_till_done()
    assert names.get() == ()
