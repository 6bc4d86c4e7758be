from __future__ import annotations

from typing import TYPE_CHECKING

from homeassistant.const import CONF_HOST, CONF_PORT

from custom_components.stt_failover.const import DOMAIN
from custom_components.stt_failover.keys import DOTS
from tests.integration.config_flows import (
    KEY,
    REFUSED,
    WORKER,
    address,
    answer,
    choose,
    connected,
)
from tests.integration.fake_server import TOKEN, FakeServer
from tests.integration.flows import checked, filled, read_only

if TYPE_CHECKING:
    import pytest
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry


async def test_refused_token_can_be_replaced(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    server.token = "new"
    result = checked(await entry.start_reauth_flow(hass))
    assert result["step_id"] == "reauth_confirm"
    result = await answer(hass, result, token="wrong")
    assert result["errors"] == {"base": "invalid_auth"}
    result = await answer(hass, result, token=" new ")
    assert result["reason"] == "reauth_successful"
    assert entry.data == address(server, token="new")


async def test_token_of_another_server_is_not_kept(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    server.id = "another"
    result = await answer(hass, checked(await entry.start_reauth_flow(hass)), token=TOKEN)
    assert result["reason"] == "wrong_server"


async def test_address_can_be_changed_and_the_token_stays(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, data=address(server, host="old.local", port=1))
    result = await choose(hass, checked(await entry.start_reconfigure_flow(hass)), "connection")
    assert filled(result) == {CONF_HOST: "old.local", CONF_PORT: 1}
    new = {CONF_HOST: "127.0.0.1", CONF_PORT: server.port}
    result = await answer(hass, result, **new, token="wrong")
    assert result["errors"] == {"base": "invalid_auth"}
    result = await answer(hass, result, **new)
    assert result["reason"] == "reconfigure_successful"
    assert entry.data == address(server)


async def test_address_of_another_server_is_not_kept(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    server.id = "another"
    result = await choose(hass, checked(await entry.start_reconfigure_flow(hass)), "connection")
    result = await answer(hass, result, **address(server))
    assert result["reason"] == "wrong_server"


async def test_stored_keys_are_shown_as_dots_kept_changed_and_removed(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    for name in ("ASSEMBLYAI_API_KEY", "WHISPER_API_KEY", "WHISPER_PROXY_KEY"):
        server.settings[name] = {"value": None, "source": "stored", "is_set": True}
    server.settings["WHISPER_SERVICE_URL"] = {"value": WORKER, "source": "stored"}
    result = await choose(hass, checked(await entry.start_reconfigure_flow(hass)), "stored_keys")
    shown = filled(result)
    assert shown == {
        "assemblyai_api_key": DOTS,
        "whisper_service_url": WORKER,
        "whisper_api_key": DOTS,
        "whisper_proxy_key": DOTS,
        "local_enabled": True,
    }
    del shown["whisper_proxy_key"]
    result = await answer(hass, result, **shown | {"whisper_api_key": KEY})
    assert result["reason"] == "reconfigure_successful"
    assert server.stored == {"WHISPER_API_KEY": KEY, "WHISPER_PROXY_KEY": None}
    assert server.bodies("POST", "/api/test")[0]["backends"] == ["whisper"]


async def test_worker_that_is_given_up_is_not_tried(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    server.settings["WHISPER_SERVICE_URL"] = {"value": WORKER, "source": "stored"}
    server.settings["WHISPER_API_KEY"] = {"value": None, "source": "stored", "is_set": True}
    result = await choose(hass, checked(await entry.start_reconfigure_flow(hass)), "stored_keys")
    result = await answer(hass, result, local_enabled=True)
    assert result["reason"] == "reconfigure_successful"
    assert server.stored == {"WHISPER_SERVICE_URL": None, "WHISPER_API_KEY": None}
    assert not server.bodies("POST", "/api/test")


async def test_what_the_environment_fixes_is_shown_and_left_alone(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    server.settings["ASSEMBLYAI_API_KEY"] = {"value": None, "source": "environment", "is_set": True}
    server.settings["LOCAL_ENABLED"] = {"value": True, "source": "flag"}
    result = await choose(hass, checked(await entry.start_reconfigure_flow(hass)), "stored_keys")
    assert read_only(result) == {"assemblyai_api_key", "local_enabled"}
    result = await answer(hass, result, assemblyai_api_key="other", local_enabled=False)
    assert result["reason"] == "reconfigure_successful"
    assert not server.stored


async def test_keys_of_a_server_that_is_away_cannot_be_changed(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    await server.stop()
    result = await choose(hass, checked(await entry.start_reconfigure_flow(hass)), "stored_keys")
    assert result["reason"] == "cannot_connect"


async def test_no_secret_stays_in_home_assistant(
    hass: HomeAssistant, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.results["assemblyai"] = REFUSED
    result = await answer(hass, await connected(hass, server), assemblyai_api_key=KEY)
    server.results.clear()
    await answer(hass, result, assemblyai_api_key=KEY)
    [entry] = hass.config_entries.async_entries(DOMAIN)
    assert KEY not in str(entry.as_dict())
    assert KEY not in caplog.text
    assert TOKEN not in caplog.text
