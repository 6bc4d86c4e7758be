from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from homeassistant.const import EntityCategory
from homeassistant.exceptions import HomeAssistantError

from tests.integration.entities import entity_id, facts, state
from tests.integration.fake_server import backend

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer


async def _press(hass: HomeAssistant, key: str) -> None:
    await hass.services.async_call(
        "button", "press", {"entity_id": entity_id(hass, "button", key)}, blocking=True
    )


async def test_three_buttons(hass: HomeAssistant, loaded: MockConfigEntry) -> None:
    assert facts(hass, "button") == {
        "close_breakers": {"translation": "close_breakers", "category": EntityCategory.DIAGNOSTIC},
        "test": {"translation": "test", "category": EntityCategory.DIAGNOSTIC},
        "warm": {"translation": "warm"},
    }


async def test_warm_asks_the_server_to_get_ready(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await _press(hass, "warm")
    assert server.bodies("POST", "/api/warm") == [None]


async def test_closed_breakers_are_seen_at_once(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.status["backends"] = [backend("local", state="half-open", cause="network")]
    await _press(hass, "close_breakers")
    assert state(hass, "binary_sensor", "local_connectivity").state == "off"
    server.status["backends"] = [backend("local")]
    await _press(hass, "close_breakers")
    assert state(hass, "binary_sensor", "local_connectivity").state == "on"


async def test_test_tries_every_backend(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await _press(hass, "test")
    assert len(server.bodies("POST", "/api/test")) == 1


async def test_test_that_fails_says_who_and_why(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    bad = {"ok": False, "text": None, "ms": None}
    server.results = {
        "assemblyai": {**bad, "code": "sign-in-refused", "message": "the key is refused"},
        "whisper": {**bad, "code": "unreachable", "message": None},
    }
    with pytest.raises(HomeAssistantError) as caught:
        await _press(hass, "test")
    assert caught.value.translation_key == "test_failed"
    assert caught.value.translation_placeholders == {
        "failures": "AssemblyAI: the key is refused; Whisper worker: unreachable"
    }


async def test_backend_that_nobody_has_set_up_is_no_failure(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.results["whisper"] = {"ok": False, "code": "missing", "message": "WHISPER_SERVICE_URL is not set"}
    await _press(hass, "test")


async def test_test_fails_where_nobody_is_set_up_at_all(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    missing = {"ok": False, "code": "missing", "message": "not set"}
    server.results = dict.fromkeys(("assemblyai", "assemblyai_sync", "whisper", "local"), missing)
    with pytest.raises(HomeAssistantError) as caught:
        await _press(hass, "test")
    assert caught.value.translation_key == "test_failed"


@pytest.mark.parametrize(
    ("key", "page"), [("test", "/api/test"), ("warm", "/api/warm"), ("close_breakers", "/api/close-breakers")]
)
async def test_refusal_is_an_error_in_the_language_of_the_person(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, key: str, page: str
) -> None:
    server.refusals[page] = (500, {"error": "its log says why", "code": "internal"})
    with pytest.raises(HomeAssistantError) as caught:
        await _press(hass, key)
    assert caught.value.translation_domain == "stt_failover"
    assert caught.value.translation_key == "rejected"
