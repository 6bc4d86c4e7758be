from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from homeassistant.data_entry_flow import FlowResultType

from custom_components.stt_failover.keys import DOTS
from tests.integration.config_flows import (
    KEY,
    REFUSED,
    WORKER,
    answer,
    connected,
)
from tests.integration.flows import filled

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant

    from tests.integration.fake_server import FakeServer


@pytest.mark.parametrize(
    ("backend", "code", "field", "error"),
    [
        ("assemblyai", "sign-in-refused", "assemblyai_api_key", "key_refused"),
        ("assemblyai", "unreachable", "assemblyai_api_key", "unreachable"),
        ("assemblyai", "rate-limited", "assemblyai_api_key", "rate_limited"),
        ("whisper", "sign-in-refused", "whisper_api_key", "key_refused"),
        ("whisper", "unreachable", "whisper_service_url", "unreachable"),
        ("whisper", "missing", "whisper_service_url", "incomplete"),
        ("whisper", "no-words", "whisper_service_url", "test_failed"),
        ("whisper", None, "whisper_service_url", "test_failed"),
    ],
)
async def test_key_that_does_not_work_is_said_at_its_field_and_not_saved(
    hass: HomeAssistant, server: FakeServer, backend: str, code: str | None, field: str, error: str
) -> None:
    server.results[backend] = REFUSED | {"code": code}
    given = {"assemblyai_api_key": KEY, "whisper_service_url": WORKER, "local_enabled": True}
    result = await answer(hass, await connected(hass, server), **given)
    assert (result["step_id"], result["errors"]) == ("keys", {field: error})
    assert result["description_placeholders"]["reason"] == "the key is wrong"
    assert filled(result) == given
    assert not server.stored
    server.results.clear()
    result = await answer(hass, result, **given)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert server.stored == {"ASSEMBLYAI_API_KEY": KEY, "WHISPER_SERVICE_URL": WORKER}


async def test_keys_of_a_worker_that_moves_are_given_again(hass: HomeAssistant, server: FakeServer) -> None:
    for name in ("WHISPER_API_KEY", "WHISPER_PROXY_KEY"):
        server.settings[name] = {"value": None, "source": "stored", "is_set": True}
    server.settings["WHISPER_PROXY_SECRET"] = {"value": None, "source": "environment", "is_set": True}
    server.settings["WHISPER_SERVICE_URL"] = {"value": "ws://192.168.1.19:10301", "source": "stored"}
    result = await connected(hass, server)
    given = filled(result) | {"whisper_service_url": WORKER, "whisper_api_key": KEY}
    result = await answer(hass, result, **given)
    assert result["errors"] == {"whisper_proxy_key": "key_again"}
    assert not server.bodies("POST", "/api/test")
    result = await answer(hass, result, **given | {"whisper_proxy_key": ""})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert server.stored == {
        "WHISPER_SERVICE_URL": WORKER,
        "WHISPER_API_KEY": KEY,
        "WHISPER_PROXY_KEY": None,
    }


async def test_key_can_be_saved_although_its_service_is_away(hass: HomeAssistant, server: FakeServer) -> None:
    server.results["assemblyai"] = REFUSED | {"code": "unreachable"}
    result = await connected(hass, server)
    assert "save_anyway" not in result["data_schema"].schema
    result = await answer(hass, result, assemblyai_api_key=KEY)
    assert "save_anyway" in result["data_schema"].schema
    result = await answer(hass, result, assemblyai_api_key=KEY, save_anyway=True)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert server.stored == {"ASSEMBLYAI_API_KEY": KEY, "LOCAL_ENABLED": False}


async def test_server_that_could_ask_nobody_is_not_set_up(hass: HomeAssistant, server: FakeServer) -> None:
    result = await answer(hass, await connected(hass, server), local_enabled=False)
    assert result["errors"] == {"base": "no_backend"}
    result = await answer(hass, result, local_enabled=True)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_local_model_is_switched_without_a_test(hass: HomeAssistant, server: FakeServer) -> None:
    server.settings["ASSEMBLYAI_API_KEY"] = {"value": None, "source": "stored", "is_set": True}
    result = await answer(hass, await connected(hass, server), assemblyai_api_key=DOTS, local_enabled=False)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert server.stored == {"LOCAL_ENABLED": False}
    assert not server.bodies("POST", "/api/test")


@pytest.mark.parametrize(
    ("refusal", "errors"),
    [
        (
            {"error": "no such address", "code": "bad-setting", "setting": "WHISPER_SERVICE_URL"},
            {"whisper_service_url": "rejected"},
        ),
        ({"error": "no", "code": "bad-setting", "setting": "DEADLINE"}, {"base": "rejected"}),
        ({"error": "defect", "code": "internal"}, {"base": "rejected"}),
    ],
)
async def test_what_the_server_does_not_take_is_said_where_it_is(
    hass: HomeAssistant, server: FakeServer, refusal: dict[str, str], errors: dict[str, str]
) -> None:
    result = await connected(hass, server)
    server.refusals["/api/config"] = (400, refusal)
    result = await answer(hass, result, whisper_service_url=WORKER, local_enabled=True)
    assert result["errors"] == errors
    server.refusals.clear()
    result = await answer(hass, result, whisper_service_url=WORKER, local_enabled=True)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_server_that_goes_away_before_the_keys_are_tried_can_be_tried_again(
    hass: HomeAssistant, server: FakeServer
) -> None:
    result = await connected(hass, server)
    await server.stop()
    result = await answer(hass, result, assemblyai_api_key=KEY)
    assert result["errors"] == {"base": "cannot_connect"}
    await server.start()
    assert (await answer(hass, result, assemblyai_api_key=KEY))["type"] is FlowResultType.CREATE_ENTRY
