from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from homeassistant.const import EntityCategory
from homeassistant.exceptions import HomeAssistantError

from tests.integration.conftest import until
from tests.integration.entities import entity_id, facts, state

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer


async def _choose(hass: HomeAssistant, option: str) -> None:
    chosen = {"entity_id": entity_id(hass, "select", "strategy"), "option": option}
    await hass.services.async_call("select", "select_option", chosen, blocking=True)


async def test_strategy_can_be_chosen_from_three(hass: HomeAssistant, loaded: MockConfigEntry) -> None:
    assert facts(hass, "select") == {
        "strategy": {
            "translation": "strategy",
            "category": EntityCategory.CONFIG,
            "options": ["failover", "hedge", "race"],
        }
    }
    assert state(hass, "select", "strategy").state == "hedge"


@pytest.mark.parametrize(("strategy", "expected"), [("race", "race"), ("newcomer", "unknown")])
async def test_strategy_is_the_server_s(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, strategy: str, expected: str
) -> None:
    await server.push(strategy=strategy)
    await until(lambda: state(hass, "select", "strategy").state == expected)


async def test_choice_is_stored_by_the_server(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await _choose(hass, "failover")
    assert server.bodies("PATCH", "/api/config") == [{"settings": {"STRATEGY": "failover"}}]


async def test_strategy_that_the_environment_decides_cannot_be_chosen(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.refusals["/api/config"] = (
        409,
        {"error": "STRATEGY comes from the environment", "code": "fixed-setting"},
    )
    with pytest.raises(HomeAssistantError) as caught:
        await _choose(hass, "race")
    assert caught.value.translation_key == "rejected"
    assert caught.value.translation_placeholders == {"reason": "STRATEGY comes from the environment"}
