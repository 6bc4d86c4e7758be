from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from homeassistant.components.binary_sensor import BinarySensorDeviceClass
from homeassistant.const import EntityCategory

from tests.integration.conftest import until
from tests.integration.entities import facts, state

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer


async def test_problem_of_the_server_and_connectivity_of_each_backend(
    hass: HomeAssistant, loaded: MockConfigEntry
) -> None:
    connectivity = {
        "translation": "connectivity",
        "category": EntityCategory.DIAGNOSTIC,
        "class": BinarySensorDeviceClass.CONNECTIVITY,
    }
    assert facts(hass, "binary_sensor") == {
        "assemblyai_connectivity": connectivity,
        "assemblyai_sync_connectivity": connectivity,
        "local_connectivity": connectivity,
        "problem": {"translation": "problem", "class": BinarySensorDeviceClass.PROBLEM},
        "whisper_connectivity": connectivity,
    }


@pytest.mark.parametrize(("problem", "expected"), [(None, "off"), ("all-open", "on"), ("unanswered", "on")])
async def test_problem_is_on_with_its_reason(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, problem: str | None, expected: str
) -> None:
    await server.push(problem=problem, uptime=1.0)
    await until(lambda: loaded.runtime_data.data.uptime == 1.0)
    shown = state(hass, "binary_sensor", "problem")
    assert shown.state == expected
    assert shown.attributes["reason"] == problem


@pytest.mark.parametrize(
    ("breaker", "cause", "expected"),
    [
        ("closed", None, "on"),
        ("open", "sign-in", "off"),
        ("half-open", "network", "off"),
        (None, None, "unknown"),
    ],
)
async def test_connectivity_is_off_while_the_backend_is_left_out(
    hass: HomeAssistant,
    loaded: MockConfigEntry,
    server: FakeServer,
    breaker: str | None,
    cause: str | None,
    expected: str,
) -> None:
    await server.push_backend("whisper", state=breaker, cause=cause, retry_in=1.5)
    await until(lambda: loaded.runtime_data.data.backends["whisper"].retry_in == 1.5)
    shown = state(hass, "binary_sensor", "whisper_connectivity")
    assert shown.state == expected
    assert shown.attributes["reason"] == cause
    assert state(hass, "binary_sensor", "local_connectivity").state == "on"
