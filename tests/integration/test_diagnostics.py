from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from homeassistant.components.diagnostics import REDACTED
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import get_system_health_info
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry

from tests.integration.flows import ENGLISH

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry
    from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

    from tests.integration.fake_server import FakeServer

MARK = "marked-7c3d"


async def diagnostics(hass: HomeAssistant, client: ClientSessionGenerator, entry: MockConfigEntry) -> Any:
    await async_setup_component(hass, "diagnostics", {})
    return await get_diagnostics_for_config_entry(hass, client, entry)


async def test_diagnostics_tell_how_it_goes_without_secrets_words_and_addresses(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.settings["KEY_TERMS"]["value"] = [MARK]
    server.settings["WHISPER_SERVICE_URL"]["value"] = f"wss://{MARK}"
    server.settings["ASSEMBLYAI_API_KEY"] = {"value": MARK, "source": "stored", "is_set": True}
    attempt = {"backend": "local", "outcome": "won", "error": MARK, "text": MARK, "started": 0.1}
    server.traces = [{"at": "2026-11-24T10:15:30+00:00", "text": MARK, "error": MARK, "attempts": [attempt]}]
    told = await diagnostics(hass, hass_client, loaded)
    text = json.dumps(told)
    for secret in (MARK, server.token, server.id, "127.0.0.1", "10300"):
        assert secret not in text
    assert told["settings"]["DEADLINE"] == {"value": 8.0, "source": "default", "is_set": True}
    assert told["settings"]["STRATEGY"]["value"] == "hedge"
    assert told["settings"]["KEY_TERMS"]["value"] == REDACTED
    assert told["settings"]["ASSEMBLYAI_API_KEY"] == {"value": REDACTED, "source": "stored", "is_set": True}
    assert told["entry"] == {"host": REDACTED, "port": server.port, "token": REDACTED}
    assert told["status"]["backends"]["local"]["state"] == "closed"
    assert told["connected"] is True
    [trace] = told["traces"]
    assert (trace["at"], trace["failed"]) == ("2026-11-24T10:15:30+00:00", True)
    assert trace["attempts"][0]["outcome"] == "won"


async def test_diagnostics_of_a_server_that_is_away_tell_what_was_known(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await server.stop()
    told = await diagnostics(hass, hass_client, loaded)
    assert told["settings"] == {"error": "CannotConnectError"}
    assert told["traces"] == []
    assert told["status"]["strategy"] == "hedge"


async def test_system_health_counts_servers_and_utterances(
    hass: HomeAssistant, loaded: MockConfigEntry
) -> None:
    await async_setup_component(hass, "system_health", {})
    await hass.async_block_till_done()
    told = await get_system_health_info(hass, "stt_failover")
    assert told == {"servers": 1, "connected": 1, "versions": "0.1.0", "utterances": 120, "answered": 119}
    assert set(told) == set(ENGLISH["system_health"]["info"])
