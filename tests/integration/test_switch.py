from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from homeassistant.const import EntityCategory
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError

from tests.integration.conftest import until
from tests.integration.entities import entity_id, facts, state

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer

_ALL = ["assemblyai", "assemblyai_sync", "whisper", "local"]


async def _turn(hass: HomeAssistant, name: str, how: str) -> None:
    await hass.services.async_call(
        "switch", f"turn_{how}", {"entity_id": entity_id(hass, "switch", f"{name}_backend")}, blocking=True
    )


def _order(server: FakeServer) -> list[str]:
    order: list[str] = server.settings["BACKENDS"]["value"]
    return order


async def test_each_backend_has_a_switch(hass: HomeAssistant, loaded: MockConfigEntry) -> None:
    switch = {"translation": "backend", "category": EntityCategory.CONFIG}
    assert facts(hass, "switch") == {f"{name}_backend": switch for name in _ALL}


@pytest.mark.parametrize(("is_enabled", "expected"), [(True, "on"), (False, "off")])
async def test_switch_is_on_where_the_backend_is_in_the_order(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, *, is_enabled: bool, expected: str
) -> None:
    await server.push_backend("whisper", enabled=is_enabled, retry_in=1.5)
    await until(lambda: loaded.runtime_data.data.backends["whisper"].retry_in == 1.5)
    assert state(hass, "switch", "whisper_backend").state == expected


async def test_several_backends_come_back_to_their_old_places_in_whatever_order(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    for name in ("assemblyai", "assemblyai_sync", "whisper"):
        await _turn(hass, name, "off")
    assert _order(server) == ["local"]
    for name in ("whisper", "assemblyai_sync", "assemblyai"):
        await _turn(hass, name, "on")
    assert _order(server) == _ALL


async def test_backend_is_taken_out_of_the_order(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await _turn(hass, "whisper", "off")
    assert server.bodies("PATCH", "/api/config") == [
        {"settings": {"BACKENDS": ["assemblyai", "assemblyai_sync", "local"]}}
    ]


@pytest.mark.parametrize(
    ("order", "name", "expected"),
    [
        (["assemblyai", "local"], "whisper", ["assemblyai", "whisper", "local"]),
        (["whisper", "local"], "assemblyai", ["assemblyai", "whisper", "local"]),
        (["assemblyai"], "local", ["assemblyai", "local"]),
        (["local", "assemblyai"], "whisper", ["local", "assemblyai", "whisper"]),
    ],
)
async def test_backend_comes_back_behind_those_that_come_before_it(
    hass: HomeAssistant,
    loaded: MockConfigEntry,
    server: FakeServer,
    order: list[str],
    name: str,
    expected: list[str],
) -> None:
    server.settings["BACKENDS"]["value"] = order
    await _turn(hass, name, "on")
    assert _order(server) == expected


async def test_backend_comes_back_to_where_a_person_had_put_it(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.settings["BACKENDS"]["value"] = ["whisper", "local", "assemblyai"]
    await _turn(hass, "local", "off")
    assert _order(server) == ["whisper", "assemblyai"]
    await _turn(hass, "local", "on")
    assert _order(server) == ["whisper", "local", "assemblyai"]


async def test_place_is_remembered_when_the_entry_is_loaded_anew(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.settings["BACKENDS"]["value"] = ["whisper", "local", "assemblyai"]
    await _turn(hass, "local", "off")
    assert await hass.config_entries.async_reload(loaded.entry_id)
    await hass.async_block_till_done()
    await _turn(hass, "local", "on")
    assert _order(server) == ["whisper", "local", "assemblyai"]


@pytest.mark.parametrize(("how", "order"), [("on", _ALL), ("off", ["assemblyai", "local"])])
async def test_nothing_is_changed_where_it_is_so_already(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, how: str, order: list[str]
) -> None:
    server.settings["BACKENDS"]["value"] = order
    await _turn(hass, "whisper", how)
    assert server.bodies("PATCH", "/api/config") == []


async def test_model_that_is_switched_off_otherwise_is_switched_on_too(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.settings["BACKENDS"]["value"] = ["assemblyai"]
    server.settings["LOCAL_ENABLED"]["value"] = False
    await _turn(hass, "local", "on")
    assert server.bodies("PATCH", "/api/config") == [
        {"settings": {"BACKENDS": ["assemblyai", "local"], "LOCAL_ENABLED": True}}
    ]


async def test_last_backend_cannot_be_taken_out(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.settings["BACKENDS"]["value"] = ["local"]
    with pytest.raises(ServiceValidationError) as caught:
        await _turn(hass, "local", "off")
    assert caught.value.translation_key == "last_backend"
    assert server.bodies("PATCH", "/api/config") == []


@pytest.mark.parametrize("how", ["on", "off"])
async def test_refusal_is_an_error_in_the_language_of_the_person(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, how: str
) -> None:
    server.refusals["/api/config"] = (409, {"error": "BACKENDS comes from a flag", "code": "fixed-setting"})
    with pytest.raises(HomeAssistantError) as caught:
        await _turn(hass, "whisper", how)
    assert caught.value.translation_key == "rejected"
