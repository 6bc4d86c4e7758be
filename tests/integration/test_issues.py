from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import async_fire_time_changed

from tests.integration.conftest import until
from tests.integration.flows import ENGLISH

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers import issue_registry as ir
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer


class Shown:
    """The repairs that a person sees now, by their translation key."""

    def __init__(self, registry: ir.IssueRegistry) -> None:
        self._registry = registry

    def __call__(self) -> list[str]:
        keys = [str(issue.translation_key) for issue in self._registry.issues.values()]
        assert set(keys) <= set(ENGLISH["issues"])
        return sorted(keys)


@pytest.fixture
def shown(issue_registry: ir.IssueRegistry) -> Shown:
    return Shown(issue_registry)


async def later(hass: HomeAssistant, **much: float) -> None:
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(**much))
    await hass.async_block_till_done()


@pytest.mark.parametrize(
    ("backend", "issue"),
    [
        ("assemblyai", "assemblyai_key_refused"),
        ("assemblyai_sync", "assemblyai_key_refused"),
        ("whisper", "whisper_key_refused"),
    ],
)
async def test_refused_key_is_told_until_it_is_accepted(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, shown: Shown, backend: str, issue: str
) -> None:
    assert shown() == []
    await server.push_backend(backend, state="open", cause="sign-in")
    await until(lambda: shown() == [issue])
    await later(hass, minutes=61)
    assert shown() == [issue], "a worker that answers is not out of reach"
    await server.push_backend(backend, state="half-open", cause="sign-in")
    await server.push_backend(backend, state="closed", cause=None)
    await until(lambda: shown() == [])


async def test_reached_budget_is_told_until_the_next_day(
    loaded: MockConfigEntry, server: FakeServer, shown: Shown, issue_registry: ir.IssueRegistry
) -> None:
    await server.push_backend("assemblyai", over_budget=True)
    await server.push_backend("whisper", over_budget=True)
    await until(lambda: shown() == ["budget_reached", "budget_reached"])
    placeholders = [issue.translation_placeholders for issue in issue_registry.issues.values()]
    assert {"name": "Speech to text", "backend": "Whisper worker"} in placeholders
    await server.push_backend("whisper", enabled=False)
    await server.push_backend("assemblyai", over_budget=False)
    await until(lambda: shown() == [])


async def test_worker_is_told_of_after_an_hour_out_of_reach_and_no_sooner(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, shown: Shown
) -> None:
    await server.push_backend("whisper", state="open", cause="network")
    await until(lambda: loaded.runtime_data.data.backends["whisper"].state == "open")
    await later(hass, minutes=59)
    assert shown() == []
    with patch("custom_components.stt_failover.issues.async_call_later") as call_later:
        await server.push_backend("whisper", state="half-open", cause="network")
        await until(lambda: loaded.runtime_data.data.backends["whisper"].state == "half-open")
        call_later.assert_not_called()  # the hour has begun already
    await later(hass, minutes=61)
    assert shown() == ["worker_unreachable"]
    await server.push_backend("whisper", state="closed", cause=None)
    await until(lambda: shown() == [])


async def test_worker_that_came_back_within_the_hour_is_not_told_of(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, shown: Shown
) -> None:
    backends = loaded.runtime_data
    await server.push_backend("whisper", state="open", cause="network")
    await until(lambda: backends.data.backends["whisper"].state == "open")
    await server.push_backend("whisper", state=None, enabled=False, cause=None)
    await until(lambda: backends.data.backends["whisper"].state is None)
    await later(hass, hours=2)
    assert shown() == []


async def test_server_without_a_worker_gives_no_reason_for_repairs(
    loaded: MockConfigEntry, server: FakeServer, shown: Shown
) -> None:
    await server.push(backends=[], strategy="race")
    await until(lambda: loaded.runtime_data.data.strategy == "race")
    assert shown() == []


async def test_nothing_is_told_any_longer_of_a_server_that_is_not_watched(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, shown: Shown
) -> None:
    await server.push_backend("assemblyai", state="open", cause="sign-in", over_budget=True)
    await server.push_backend("whisper", state="open", cause="network")
    await until(lambda: loaded.runtime_data.data.backends["whisper"].state == "open")
    await later(hass, minutes=61)
    assert len(shown()) == 3
    await hass.config_entries.async_unload(loaded.entry_id)
    assert shown() == []


async def test_repair_says_where_to_read_on(
    loaded: MockConfigEntry, server: FakeServer, shown: Shown, issue_registry: ir.IssueRegistry
) -> None:
    await server.push_backend("assemblyai", over_budget=True)
    await until(lambda: bool(shown()))
    [issue] = issue_registry.issues.values()
    assert str(issue.learn_more_url).endswith("docs/home-assistant.md")
