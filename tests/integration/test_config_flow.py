from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from homeassistant.config_entries import SOURCE_HASSIO, SOURCE_ZEROCONF
from homeassistant.const import CONF_HOST, CONF_PORT, CONF_TOKEN
from homeassistant.data_entry_flow import FlowResultType, InvalidData

from tests.integration.config_flows import (
    KEY,
    address,
    answer,
    app,
    connected,
    mdns,
    start,
)
from tests.integration.fake_server import SERVER_ID, TOKEN, FakeServer
from tests.integration.flows import filled
from tests.integration.wyoming_peer import peer

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.wyoming_peer import Client


async def test_person_who_types_the_address_gets_an_entry_without_keys(
    hass: HomeAssistant, server: FakeServer
) -> None:
    result = await start(hass)
    assert (result["type"], result["step_id"]) == (FlowResultType.FORM, "user")
    result = await answer(hass, result, **address(server, host=" 127.0.0.1 ", token=f" {TOKEN}\n"))
    assert (result["step_id"], result["errors"]) == ("keys", {})
    assert filled(result) == {"local_enabled": True}
    result = await answer(hass, result, assemblyai_api_key=KEY, local_enabled=True)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert (result["title"], result["data"]) == ("STT Failover", address(server))
    assert result["result"].unique_id == SERVER_ID
    assert server.stored == {"ASSEMBLYAI_API_KEY": KEY}
    assert server.bodies("POST", "/api/test") == [
        {"backends": ["assemblyai"], "settings": {"ASSEMBLYAI_API_KEY": KEY}}
    ]


async def test_server_without_changes_is_neither_tested_nor_changed(
    hass: HomeAssistant, server: FakeServer
) -> None:
    result = await answer(hass, await connected(hass, server), local_enabled=True)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert not server.bodies("POST", "/api/test")
    assert not server.bodies("PATCH", "/api/config")


@pytest.mark.parametrize(
    ("page", "refusal", "error"),
    [
        ("/health", (404, "nothing here"), "unexpected_answer"),
        ("/health", (200, "<html>"), "unexpected_answer"),
        ("/health", (503, ""), "cannot_connect"),
        ("/api/config", (401, {"error": "wrong", "code": "unauthorized"}), "invalid_auth"),
        ("/api/config", (429, {"error": "wait", "code": "too-many-attempts"}), "too_many_attempts"),
        ("/api/config", (403, {"error": "no", "code": "forbidden"}), "rejected"),
        ("/api/config", (200, {"settings": {"DEADLINE": {}}}), "unexpected_answer"),
    ],
)
async def test_connection_that_fails_is_explained_and_can_be_tried_again(
    hass: HomeAssistant, server: FakeServer, page: str, refusal: tuple[int, Any], error: str
) -> None:
    server.refusals[page] = refusal
    result = await connected(hass, server)
    assert (result["step_id"], result["errors"]) == ("user", {"base": error})
    assert filled(result)[CONF_HOST] == "127.0.0.1"
    server.refusals.clear()
    assert (await answer(hass, result, **address(server)))["step_id"] == "keys"


async def test_server_that_is_away_can_be_tried_again(hass: HomeAssistant, server: FakeServer) -> None:
    await server.stop()
    result = await connected(hass, server)
    assert result["errors"] == {"base": "cannot_connect"}
    await server.start()
    assert (await answer(hass, result, **address(server)))["step_id"] == "keys"


async def test_what_is_no_host_is_said_at_its_field(hass: HomeAssistant, server: FakeServer) -> None:
    result = await start(hass)
    result = await answer(hass, result, **address(server, host="http://127.0.0.1/"))
    assert result["errors"] == {CONF_HOST: "invalid_host"}
    assert (await answer(hass, result, **address(server)))["step_id"] == "keys"


async def test_port_of_wyoming_is_known_for_what_it_is(hass: HomeAssistant, server: FakeServer) -> None:
    async def refuse(client: Client) -> None:
        await client.reader.readline()

    async with peer(refuse) as wyoming:
        with patch("custom_components.stt_failover.config_flow.WYOMING_PORT", wyoming.port):
            result = await start(hass)
            result = await answer(hass, result, **address(server, port=wyoming.port))
            assert result["errors"] == {CONF_PORT: "wyoming_port"}
            assert result["description_placeholders"]["port"] == "10380"
    assert (await answer(hass, result, **address(server)))["step_id"] == "keys"


async def test_api_on_the_port_of_wyoming_is_taken(hass: HomeAssistant, server: FakeServer) -> None:
    with patch("custom_components.stt_failover.config_flow.WYOMING_PORT", server.port):
        assert (await connected(hass, server))["step_id"] == "keys"


async def test_port_is_a_port(hass: HomeAssistant, server: FakeServer) -> None:
    result = await start(hass)
    with pytest.raises(InvalidData):
        await hass.config_entries.flow.async_configure(result["flow_id"], address(server, port=70000))


async def test_server_that_is_too_old_is_named_as_such(hass: HomeAssistant, server: FakeServer) -> None:
    server.version = "0.0.1"
    result = await connected(hass, server)
    assert result["errors"] == {"base": "server_too_old"}
    assert result["description_placeholders"]["reason"] == "0.0.1"
    server.version = "not a version"
    assert (await answer(hass, result, **address(server)))["step_id"] == "keys"


async def test_same_server_is_not_added_twice_but_its_new_address_is_kept(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, data=address(server, host="old.local"))
    result = await connected(hass, server)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")
    assert entry.data == address(server)


async def test_server_in_the_network_needs_its_token_only(hass: HomeAssistant, server: FakeServer) -> None:
    result = await start(hass, SOURCE_ZEROCONF, mdns(server, id=SERVER_ID, version="0.1.0"))
    assert (result["step_id"], result["errors"]) == ("zeroconf_confirm", {})
    flow = hass.config_entries.flow.async_progress()[0]
    assert flow["context"]["title_placeholders"] == {"name": "STT Failover (127.0.0.1)"}
    result = await answer(hass, result, token="wrong")
    assert (result["step_id"], result["errors"]) == ("zeroconf_confirm", {"base": "invalid_auth"})
    result = await answer(hass, result, token=TOKEN)
    result = await answer(hass, result, local_enabled=True)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"] == address(server)
    assert result["result"].unique_id == SERVER_ID


async def test_announcement_without_an_id_is_no_server(hass: HomeAssistant, server: FakeServer) -> None:
    result = await start(hass, SOURCE_ZEROCONF, mdns(server))
    assert result["reason"] == "invalid_discovery"


async def test_announced_server_that_cannot_be_reached_is_not_offered(
    hass: HomeAssistant, server: FakeServer
) -> None:
    await server.stop()
    result = await start(hass, SOURCE_ZEROCONF, mdns(server, id=SERVER_ID))
    assert result["reason"] == "cannot_connect"


async def test_announced_server_that_is_another_one_is_not_taken_over(
    hass: HomeAssistant, server: FakeServer
) -> None:
    result = await start(hass, SOURCE_ZEROCONF, mdns(server, id="another"))
    result = await answer(hass, result, token=TOKEN)
    assert (result["step_id"], result["errors"]) == ("zeroconf_confirm", {"base": "wrong_server"})


async def test_app_is_set_up_without_typing(hass: HomeAssistant, server: FakeServer) -> None:
    result = await start(hass, SOURCE_HASSIO, app(server))
    assert result["step_id"] == "hassio_confirm"
    await server.stop()
    result = await answer(hass, result)
    assert (result["step_id"], result["errors"]) == ("hassio_confirm", {"base": "cannot_connect"})
    await server.start()
    result = await answer(hass, result)
    assert result["step_id"] == "keys"
    result = await answer(hass, result, local_enabled=True)
    assert (result["type"], result["data"]) == (FlowResultType.CREATE_ENTRY, address(server))


async def test_app_that_has_a_new_token_is_followed(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    result = await start(hass, SOURCE_HASSIO, app(server, token="new"))
    assert result["reason"] == "already_configured"
    assert entry.data[CONF_TOKEN] == "new"


@pytest.mark.parametrize("changes", [{"host": "http://x"}, {"port": None}])
async def test_app_that_says_nothing_usable_is_not_offered(
    hass: HomeAssistant, server: FakeServer, changes: dict[str, Any]
) -> None:
    found = app(server, **changes)
    if changes.get("port", 0) is None:
        del found.config["port"]
    assert (await start(hass, SOURCE_HASSIO, found))["reason"] == "invalid_discovery"


async def test_app_that_cannot_be_reached_is_not_offered(hass: HomeAssistant, server: FakeServer) -> None:
    await server.stop()
    assert (await start(hass, SOURCE_HASSIO, app(server)))["reason"] == "cannot_connect"
