"""Servers that are said to be elsewhere, and others at the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from homeassistant.components.zeroconf.discovery import info_from_service
from homeassistant.config_entries import SOURCE_HASSIO, SOURCE_IGNORE, SOURCE_ZEROCONF
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import device_registry as dr, entity_registry as er

from custom_components.stt_failover.const import DOMAIN
from tests.integration.config_flows import address, answer, app, mdns, start
from tests.integration.conftest import until
from tests.integration.fake_server import SERVER_ID, TOKEN, FakeServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

NEW_ID = "0" * 32


@pytest.fixture
async def elsewhere(server: FakeServer) -> AsyncIterator[FakeServer]:
    """Somebody at another address who says to be the same server."""
    fake = await FakeServer().start()
    yield fake
    await fake.stop()


async def test_server_that_answers_where_it_was_stays_whoever_says_to_be_it(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, elsewhere: FakeServer
) -> None:
    result = await start(hass, SOURCE_ZEROCONF, mdns(elsewhere, id=SERVER_ID))
    assert result["reason"] == "already_configured"
    assert loaded.data == address(server)
    assert elsewhere.requests == []


async def test_server_that_has_moved_is_followed_when_a_person_says_so_and_gets_its_token_then(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer, elsewhere: FakeServer
) -> None:
    await server.stop()
    elsewhere.token = "another"
    result = await start(hass, SOURCE_ZEROCONF, mdns(elsewhere, id=SERVER_ID))
    assert (result["type"], result["step_id"]) == (FlowResultType.FORM, "moved")
    assert result["description_placeholders"]["old_host"] == "127.0.0.1"
    assert elsewhere.signed == []
    result = await answer(hass, result)
    assert result["errors"] == {"base": "invalid_auth"}
    elsewhere.token = TOKEN
    result = await answer(hass, result)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "moved")
    assert entry.data == address(elsewhere)


async def test_server_that_is_back_meanwhile_is_not_followed(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer, elsewhere: FakeServer
) -> None:
    await server.stop()
    result = await start(hass, SOURCE_ZEROCONF, mdns(elsewhere, id=SERVER_ID))
    await server.start()
    assert (await answer(hass, result))["reason"] == "already_configured"
    assert elsewhere.signed == []
    assert entry.data == address(server)


async def test_server_whose_entry_is_removed_meanwhile_is_not_followed(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer, elsewhere: FakeServer
) -> None:
    await server.stop()
    result = await start(hass, SOURCE_ZEROCONF, mdns(elsewhere, id=SERVER_ID))
    await hass.config_entries.async_remove(entry.entry_id)
    assert (await answer(hass, result))["reason"] == "already_configured"
    assert elsewhere.signed == []


async def test_another_server_under_a_known_id_is_not_followed(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer, elsewhere: FakeServer
) -> None:
    await server.stop()
    elsewhere.id = "another"
    result = await start(hass, SOURCE_ZEROCONF, mdns(elsewhere, id=SERVER_ID))
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "wrong_server")
    assert elsewhere.signed == []


async def test_server_that_a_person_ignores_is_not_shown_again(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer, elsewhere: FakeServer
) -> None:
    await hass.config_entries.async_remove(entry.entry_id)
    await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_IGNORE}, data={"unique_id": SERVER_ID, "title": "x"}
    )
    result = await start(hass, SOURCE_ZEROCONF, mdns(elsewhere, id=SERVER_ID))
    assert result["reason"] == "already_configured"


async def test_app_that_was_installed_anew_is_the_same_device_with_the_same_entities(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    registry, devices = er.async_get(hass), dr.async_get(hass)
    before = er.async_entries_for_config_entry(registry, loaded.entry_id)
    (device,) = dr.async_entries_for_config_entry(devices, loaded.entry_id)
    server.id = server.status["id"] = NEW_ID
    server.token = "new"
    result = await start(hass, SOURCE_HASSIO, app(server, token="new"))
    assert result["reason"] == "already_configured"
    await hass.async_block_till_done()
    await until(lambda: bool(loaded.runtime_data.feed_is_open))
    assert (loaded.unique_id, loaded.data) == (NEW_ID, address(server, token="new"))
    after = er.async_entries_for_config_entry(registry, loaded.entry_id)
    assert [item.entity_id for item in after] == [item.entity_id for item in before]
    assert all(item.unique_id.startswith(f"{NEW_ID}_") for item in after)
    (same,) = dr.async_entries_for_config_entry(devices, loaded.entry_id)
    assert (same.id, same.identifiers) == (device.id, {(DOMAIN, NEW_ID)})
    assert hass.states.get("stt.speech_to_text").state != "unavailable"


async def test_app_beside_another_server_is_a_server_of_its_own(
    hass: HomeAssistant, entry: MockConfigEntry, elsewhere: FakeServer
) -> None:
    elsewhere.id = NEW_ID
    result = await start(hass, SOURCE_HASSIO, app(elsewhere))
    assert (result["step_id"], entry.unique_id) == ("hassio_confirm", SERVER_ID)


async def test_what_the_server_announces_is_what_the_flow_takes(
    hass: HomeAssistant, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce = pytest.importorskip("wyoming_server.announce", reason="wants the server's own package")
    _, service = announce.services(SERVER_ID, "tcp://0.0.0.0:10300", ("0.0.0.0", server.port))
    found = info_from_service(announce._info("kitchen", service, ["192.168.1.9"]))
    assert found
    assert (str(found.ip_address), found.port, found.type) == (
        "192.168.1.9",
        server.port,
        "_stt-failover._tcp.local.",
    )
    here = mdns(server, **found.properties)
    assert (await start(hass, SOURCE_ZEROCONF, here))["step_id"] == "zeroconf_confirm"
