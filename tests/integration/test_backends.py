from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from homeassistant.helpers import device_registry as dr

from tests.integration.conftest import until
from tests.integration.entities import entries, state
from tests.integration.fake_server import SERVER_ID, backend

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer

_PLATFORMS = ("sensor", "binary_sensor", "switch")


def _backends(hass: HomeAssistant, platform: str) -> set[str]:
    """Whose entities there are."""
    keys = ("cost_today", "connectivity", "backend")
    return {
        key.removesuffix(f"_{end}") for key in entries(hass, platform) for end in keys if key.endswith(end)
    }


@pytest.mark.parametrize("platform", _PLATFORMS)
async def test_backend_that_goes_takes_its_entities_along_and_one_that_comes_brings_its_own(
    hass: HomeAssistant,
    loaded: MockConfigEntry,
    server: FakeServer,
    caplog: pytest.LogCaptureFixture,
    platform: str,
) -> None:
    assert _backends(hass, platform) == {"assemblyai", "assemblyai_sync", "whisper", "local"}
    await server.push(backends=[backend("assemblyai_sync"), backend("local"), backend("newcomer")])
    await until(lambda: _backends(hass, platform) == {"assemblyai_sync", "local", "newcomer"})
    await hass.async_block_till_done()
    assert state(hass, "binary_sensor", "newcomer_connectivity").state == "on"
    await server.push(backends=[backend("assemblyai"), backend("local")])
    await until(lambda: _backends(hass, platform) == {"assemblyai", "local"})
    await hass.async_block_till_done()
    assert state(hass, "binary_sensor", "assemblyai_connectivity").state == "on"
    assert "unique ID" not in caplog.text  # nothing that stayed was made again


@pytest.mark.parametrize("platform", _PLATFORMS)
async def test_backend_that_went_while_home_assistant_was_not_running_is_removed(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, platform: str
) -> None:
    assert await hass.config_entries.async_unload(loaded.entry_id)
    server.status["backends"] = [backend("local")]
    assert await hass.config_entries.async_setup(loaded.entry_id)
    await hass.async_block_till_done()
    assert _backends(hass, platform) == {"local"}


async def test_status_with_the_same_backends_adds_nothing(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(hass.states.async_all())
    await server.push(uptime=1.0)
    await until(lambda: loaded.runtime_data.data.uptime == 1.0)
    await hass.async_block_till_done()
    assert len(hass.states.async_all()) == before
    assert "does not generate unique IDs" not in caplog.text


async def test_everything_belongs_to_one_device(hass: HomeAssistant, loaded: MockConfigEntry) -> None:
    (device,) = dr.async_entries_for_config_entry(dr.async_get(hass), loaded.entry_id)
    assert device.identifiers == {("stt_failover", SERVER_ID)}
    for platform in (*_PLATFORMS, "button", "event", "select", "stt"):
        assert entries(hass, platform), platform
        assert {entry.device_id for entry in entries(hass, platform).values()} == {device.id}
