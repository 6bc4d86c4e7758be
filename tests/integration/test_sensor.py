from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.components.sensor import SensorDeviceClass, SensorStateClass
from homeassistant.const import EntityCategory
from homeassistant.helpers.entity_registry import RegistryEntryDisabler
from homeassistant.util import dt as dt_util

from tests.integration.conftest import until
from tests.integration.entities import enable_all, entries, facts, state
from tests.integration.fake_server import backend, status

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer

_DIAGNOSTIC = EntityCategory.DIAGNOSTIC
_DISABLED = RegistryEntryDisabler.INTEGRATION
_MILLISECONDS = {
    "category": _DIAGNOSTIC,
    "class": SensorDeviceClass.DURATION,
    "unit": "ms",
    "state_class": SensorStateClass.MEASUREMENT,
}
_SECONDS = {
    "category": _DIAGNOSTIC,
    "class": SensorDeviceClass.DURATION,
    "unit": "s",
    "state_class": SensorStateClass.TOTAL_INCREASING,
    "disabled": _DISABLED,
}
_DOLLARS = {"class": SensorDeviceClass.MONETARY, "unit": "USD", "state_class": SensorStateClass.TOTAL}


async def test_sensors_of_the_server(hass: HomeAssistant, loaded: MockConfigEntry) -> None:
    found = facts(hass, "sensor")
    found["failovers"].pop("unit", None)  # the translation's
    expected: dict[str, dict[str, Any]] = {
        "answered_by": {
            "class": SensorDeviceClass.ENUM,
            "options": ["assemblyai", "assemblyai_sync", "whisper", "local", "nobody"],
        },
        "availability": {
            "category": _DIAGNOSTIC,
            "unit": "%",
            "state_class": SensorStateClass.MEASUREMENT,
        },
        "failovers": {"category": _DIAGNOSTIC, "state_class": SensorStateClass.MEASUREMENT},
        "median_time_to_transcript": _MILLISECONDS,
        "time_to_transcript": {**_MILLISECONDS, "disabled": _DISABLED},
    }
    expected = {key: {"translation": key, **fact} for key, fact in expected.items()}
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("name", ["assemblyai", "assemblyai_sync", "whisper", "local"])
async def test_sensors_of_a_backend(hass: HomeAssistant, loaded: MockConfigEntry, name: str) -> None:
    found = facts(hass, "sensor")
    dollars = {**_DOLLARS, "disabled": _DISABLED} if name == "local" else _DOLLARS
    assert {
        key: found[f"{name}_{key}"] for key in ("cost_month", "cost_today", "seconds_month", "seconds_today")
    } == {
        "cost_month": {"translation": "cost_month", **dollars},
        "cost_today": {"translation": "cost_today", **dollars},
        "seconds_month": {"translation": "seconds_month", **_SECONDS},
        "seconds_today": {"translation": "seconds_today", **_SECONDS},
    }


async def test_figures_are_those_of_the_server(hass: HomeAssistant, loaded: MockConfigEntry) -> None:
    await enable_all(hass, loaded.entry_id)
    shown = {key: state(hass, "sensor", key).state for key in entries(hass, "sensor")}
    figures = {
        "cost_month": "0.6513",
        "cost_today": "0.0388",
        "seconds_month": "5210.7",
        "seconds_today": "310.2",
    }
    assert shown == {
        "answered_by": "assemblyai",
        "availability": "99.17",
        "failovers": "2",
        "median_time_to_transcript": "40.1",
        "time_to_transcript": "38.2",
    } | {
        f"{name}_{key}": value
        for name in ("assemblyai", "assemblyai_sync", "whisper", "local")
        for key, value in figures.items()
    }


async def test_figures_follow_what_the_server_pushes(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await server.push(
        last={**status()["last"], "backend": "whisper"},
        backends=[backend("whisper", today={"seconds": 1.0, "dollars": 2.5})],
    )
    await until(lambda: state(hass, "sensor", "answered_by").state == "whisper")
    assert state(hass, "sensor", "whisper_cost_today").state == "2.5"


@pytest.mark.parametrize(
    ("answered", "expected"), [("", "nobody"), ("local", "local"), ("newcomer", "unknown")]
)
async def test_who_answered_is_nobody_or_a_backend_that_is_known(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, answered: str, expected: str
) -> None:
    await server.push(last={**status()["last"], "backend": answered})
    await until(lambda: state(hass, "sensor", "answered_by").state == expected)


async def test_nothing_is_known_before_the_first_utterance(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.status["last"] = None
    server.status["day"] |= {
        "utterances": 0,
        "answered": 0,
        "failovers": 0,
        "availability": None,
        "median_ms": None,
    }
    await enable_all(hass, loaded.entry_id)
    for key in ("answered_by", "availability", "median_time_to_transcript", "time_to_transcript"):
        assert state(hass, "sensor", key).state == "unknown", key
    assert state(hass, "sensor", "failovers").state == "0"


async def test_cost_has_been_counted_since_the_beginning_of_the_day_or_month(
    hass: HomeAssistant, loaded: MockConfigEntry
) -> None:
    midnight = dt_util.start_of_local_day()
    assert state(hass, "sensor", "whisper_cost_today").attributes["last_reset"] == midnight.isoformat()
    first = dt_util.start_of_local_day(dt_util.now().replace(day=1))
    assert state(hass, "sensor", "whisper_cost_month").attributes["last_reset"] == first.isoformat()


async def test_seconds_need_no_beginning(hass: HomeAssistant, loaded: MockConfigEntry) -> None:
    await enable_all(hass, loaded.entry_id)
    assert "last_reset" not in state(hass, "sensor", "whisper_seconds_today").attributes


async def test_all_are_unavailable_while_the_server_is_away(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, pauses: list[float]
) -> None:
    await server.stop()
    await until(lambda: state(hass, "sensor", "answered_by").state == "unavailable")
    assert state(hass, "sensor", "whisper_cost_today").state == "unavailable"
