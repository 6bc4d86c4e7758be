"""The integration within Home Assistant's test plugin, beside a server that answers as a test wants."""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

# The plugin pins a whole Home Assistant, so that it has an environment of its own.
_IS_HERE = importlib.util.find_spec("pytest_homeassistant_custom_component") is not None
collect_ignore_glob = [] if _IS_HERE else ["test_*.py"]

if _IS_HERE:
    from homeassistant.const import CONF_HOST, CONF_PORT, CONF_TOKEN
    from homeassistant.setup import async_setup_component
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    # Before there is a Home Assistant: else the plugin's own folder of this name would be found.
    import custom_components.stt_failover  # noqa: F401 - imported for that
    from tests.integration.fake_server import SERVER_ID, TOKEN, FakeServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from homeassistant.core import HomeAssistant


@pytest.fixture(autouse=True)
def _custom_integrations(enable_custom_integrations: None) -> None:
    """Home Assistant loads what is in custom_components."""


@pytest.fixture(autouse=True)
def _no_mdns(mock_async_zeroconf: Any) -> None:
    """Nothing is announced or looked for in the network."""


@pytest.fixture
async def server(socket_enabled: None) -> AsyncIterator[FakeServer]:
    """A server of which all is well."""
    fake = await FakeServer().start()
    yield fake
    await fake.stop()


@pytest.fixture
def entry(hass: HomeAssistant, server: FakeServer) -> MockConfigEntry:
    """The server as an entry of Home Assistant, not set up yet."""
    entry = MockConfigEntry(
        domain="stt_failover",
        title="Speech to text",
        unique_id=SERVER_ID,
        entry_id="01JDSTTFAILOVER0000000000",
        data={CONF_HOST: "127.0.0.1", CONF_PORT: server.port, CONF_TOKEN: TOKEN},
    )
    entry.add_to_hass(hass)
    return entry


@pytest.fixture
async def loaded(hass: HomeAssistant, entry: MockConfigEntry) -> MockConfigEntry:
    """The entry, set up, with the feed of events open."""
    await async_setup_component(hass, "homeassistant", {})
    await async_setup_component(hass, "repairs", {})
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    await until(lambda: bool(entry.runtime_data.feed_is_open))
    return entry


@pytest.fixture
def pauses() -> Iterator[list[float]]:
    """The pauses before the feed is opened again, which take no time."""
    with recorded_pauses() as taken:
        yield taken


@contextmanager
def recorded_pauses() -> Iterator[list[float]]:
    """Let the coordinator wait for a moment only, whatever it wants."""
    taken: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        taken.append(seconds)
        await sleep(0.01)

    with patch("custom_components.stt_failover.coordinator.PAUSE", pause):
        yield taken


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks are about to make true; pytest's limit ends a wait in vain."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - anything may make it true
            await asyncio.sleep(0.005)
