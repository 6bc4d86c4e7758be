from __future__ import annotations

from typing import TYPE_CHECKING

from homeassistant.config_entries import SOURCE_REAUTH, ConfigEntryState

from tests.integration.conftest import until

if TYPE_CHECKING:
    import pytest
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers import issue_registry as ir
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer


async def test_entry_is_set_up_from_the_servers_status_and_let_go_again(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    assert loaded.state is ConfigEntryState.LOADED
    assert loaded.runtime_data.data.backends["whisper"].state == "closed"
    assert await hass.config_entries.async_unload(loaded.entry_id)
    assert loaded.state is ConfigEntryState.NOT_LOADED
    await until(lambda: not server._sockets)


async def test_server_that_is_away_is_tried_again(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer
) -> None:
    await server.stop()
    await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == "cannot_connect"


async def test_refused_token_at_setup_asks_the_person_for_another(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer
) -> None:
    server.token = "another"
    await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_ERROR
    assert [flow["context"]["source"] for flow in hass.config_entries.flow.async_progress()] == [
        SOURCE_REAUTH
    ]


async def test_too_many_wrong_tokens_are_followed_by_the_pause_that_the_server_wants(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer
) -> None:
    server.refusals["/api/status"] = (429, {"error": "wait", "headers": {"Retry-After": "42"}})
    await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == "too_many_attempts"


async def test_other_server_at_the_same_address_is_not_taken_for_this_one(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer
) -> None:
    server.id = "another"
    await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == "wrong_server"


async def test_server_that_is_too_old_is_told_and_forgotten_with_the_entry(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer, issue_registry: ir.IssueRegistry
) -> None:
    server.version = "0.0.9"
    await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    [issue] = issue_registry.issues.values()
    assert issue.translation_key == "server_too_old"
    assert issue.translation_placeholders == {
        "name": "Speech to text",
        "version": "0.0.9",
        "minimum": "0.1.0",
    }
    await hass.config_entries.async_remove(entry.entry_id)
    assert not issue_registry.issues


async def test_server_that_was_too_old_is_no_longer_told_of_after_its_update(
    hass: HomeAssistant, entry: MockConfigEntry, server: FakeServer, issue_registry: ir.IssueRegistry
) -> None:
    server.version = "0.0.9"
    await hass.config_entries.async_setup(entry.entry_id)
    server.version = "0.2.0"
    await hass.config_entries.async_reload(entry.entry_id)
    assert entry.state is ConfigEntryState.LOADED
    assert not issue_registry.issues


async def test_no_token_is_in_the_log(
    loaded: MockConfigEntry, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.stop()
    await until(lambda: not loaded.runtime_data.last_update_success)
    assert server.token not in caplog.text
