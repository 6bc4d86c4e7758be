from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.data_entry_flow import FlowResultType

from custom_components.stt_failover.options import SECTIONS
from tests.integration.flows import checked, filled, read_only

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer


async def start(hass: HomeAssistant, entry: MockConfigEntry) -> Any:
    return checked(await hass.config_entries.options.async_init(entry.entry_id), "options")


async def answer(hass: HomeAssistant, result: Any, given: dict[str, Any]) -> Any:
    result = await hass.config_entries.options.async_configure(result["flow_id"], given)
    return checked(result, "options")


async def test_form_shows_what_the_server_is_set_to(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    server.settings["HEDGE_BUDGET"]["value"] = 0.075
    server.settings["ASSEMBLYAI_STREAMING_URL"]["value"] = "wss://streaming.eu.assemblyai.com"
    shown = filled(await start(hass, entry))
    assert list(shown) == list(SECTIONS)
    assert shown["order"] == {
        "first": "assemblyai",
        "second": "assemblyai_sync",
        "third": "whisper",
        "fourth": "local",
        "strategy": "hedge",
    }
    assert shown["models"]["assemblyai_streaming_url"] == "eu"
    assert shown["deadlines"]["deadline"] == 8.0
    assert shown["deadlines"]["hedge_budget"] == 7.5
    assert shown["names"] == {"key_terms": [], "send_names": True}
    assert shown["endpointing"] == {"endpointing": False}


async def test_untouched_form_changes_nothing(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    result = await start(hass, entry)
    result = await answer(hass, result, filled(result))
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert not server.bodies("PATCH", "/api/config")
    assert entry.options == {"send_names": True}


async def test_changes_go_to_the_server_and_nothing_else(
    hass: HomeAssistant, server: FakeServer, loaded: MockConfigEntry
) -> None:
    result = await start(hass, loaded)
    given = filled(result)
    given["order"] = {"first": "local", "third": "whisper", "strategy": "race"}
    given["models"] |= {"assemblyai_streaming_url": "eu", "local_beam_size": 1.0}
    given["deadlines"] |= {"deadline": 5.0, "hedge_budget": 12.5}
    given["names"] = {"key_terms": ["Ecobee", "Sonos"], "send_names": False}
    given["endpointing"] = {"endpointing": True}
    result = await answer(hass, result, given)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert server.stored == {
        "BACKENDS": ["local", "whisper"],
        "STRATEGY": "race",
        "ASSEMBLYAI_STREAMING_URL": "wss://streaming.eu.assemblyai.com",
        "LOCAL_BEAM_SIZE": 1,
        "DEADLINE": 5.0,
        "HEDGE_BUDGET": 0.125,
        "KEY_TERMS": ["Ecobee", "Sonos"],
        "ENDPOINTING": True,
    }
    assert type(server.stored["LOCAL_BEAM_SIZE"]) is int
    assert loaded.options == {"send_names": False}
    feeds = [path for _, path, _ in server.requests if path == "/api/events"]
    assert len(feeds) == 1, "the entry was loaded anew"


async def test_emptied_field_gets_its_default_back(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    server.settings["DEADLINE"] = {"value": 4.0, "source": "stored"}
    server.settings["LOCAL_MODEL"] = {"value": "small", "source": "stored"}
    result = await start(hass, entry)
    given = filled(result)
    del given["deadlines"]["deadline"]
    del given["deadlines"]["hedge_max"]
    given["models"]["local_model"] = ""
    await answer(hass, result, given)
    assert server.stored == {"DEADLINE": None, "LOCAL_MODEL": None}


async def test_address_of_a_host_of_ones_own_can_be_typed_in(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    result = await start(hass, entry)
    given = filled(result)
    given["models"]["assemblyai_streaming_url"] = "wss://stt.example"
    await answer(hass, result, given)
    assert server.stored == {"ASSEMBLYAI_STREAMING_URL": "wss://stt.example"}


@pytest.mark.parametrize(
    ("order", "error"),
    [({}, "no_backend"), ({"first": "local", "third": "local"}, "backend_twice")],
)
async def test_order_that_makes_no_sense_is_said_and_can_be_mended(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry, order: dict[str, str], error: str
) -> None:
    result = await start(hass, entry)
    given = filled(result)
    given["order"] = order
    result = await answer(hass, result, given)
    assert result["errors"] == {"base": error}
    assert filled(result)["order"] == order
    given["order"] = {"first": "local", "strategy": "hedge"}
    await answer(hass, result, given)
    assert server.stored == {"BACKENDS": ["local"]}


async def test_bounds_of_hedging_that_cross_are_said_and_can_be_mended(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    result = await start(hass, entry)
    given = filled(result)
    given["deadlines"] |= {"hedge_min": 2.0, "hedge_max": 1.0}
    result = await answer(hass, result, given)
    assert result["errors"] == {"base": "hedge_order"}
    assert filled(result)["deadlines"]["hedge_min"] == 2.0
    del given["deadlines"]["hedge_max"]
    await answer(hass, result, given)
    assert server.stored == {"HEDGE_MIN": 2.0}


async def test_what_the_environment_fixes_is_shown_and_left_alone(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    for name in ("BACKENDS", "DEADLINE", "KEY_TERMS"):
        server.settings[name]["source"] = "environment"
    result = await start(hass, entry)
    assert result["description_placeholders"]["fixed"] == "BACKENDS, DEADLINE, KEY_TERMS"
    assert read_only(result) == {"first", "second", "third", "fourth", "deadline", "key_terms"}
    given = filled(result)
    given["order"]["first"], given["order"]["second"] = "local", "whisper"
    del given["order"]["third"], given["order"]["fourth"]
    given["deadlines"]["deadline"] = 2.0
    given["names"]["key_terms"] = ["Sonos"]
    await answer(hass, result, given)
    assert not server.stored


async def test_setting_that_the_server_does_not_have_is_not_shown(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    for name in ("BACKENDS", "ENDPOINTING", "LOCAL_BEAM_SIZE"):
        del server.settings[name]
    result = await start(hass, entry)
    shown = filled(result)
    assert shown["order"] == {"strategy": "hedge"}
    assert "endpointing" not in shown
    assert "local_beam_size" not in shown["models"]
    result = await answer(hass, result, shown)
    assert result["type"] is FlowResultType.CREATE_ENTRY


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((400, {"error": "DEADLINE takes more", "code": "bad-setting", "setting": "DEADLINE"}), "rejected"),
        ((401, {"error": "wrong", "code": "unauthorized"}), "invalid_auth"),
        ((429, {"error": "wait", "code": "too-many-attempts"}), "too_many_attempts"),
        ((500, "defect"), "unexpected_answer"),
    ],
)
async def test_refused_change_is_explained_and_can_be_tried_again(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry, refusal: tuple[int, Any], error: str
) -> None:
    result = await start(hass, entry)
    given = filled(result)
    given["deadlines"]["deadline"] = 5.0
    server.refusals["/api/config"] = refusal
    result = await answer(hass, result, given)
    assert result["errors"] == {"base": error}
    assert filled(result)["deadlines"]["deadline"] == 5.0
    server.refusals.clear()
    result = await answer(hass, result, given)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert server.stored == {"DEADLINE": 5.0}


async def test_options_of_a_server_that_is_away_are_not_shown(
    hass: HomeAssistant, server: FakeServer, entry: MockConfigEntry
) -> None:
    await server.stop()
    result = await start(hass, entry)
    assert result["reason"] == "cannot_connect"
