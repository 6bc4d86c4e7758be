from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.config_entries import SOURCE_REAUTH
from homeassistant.const import STATE_UNAVAILABLE

from custom_components.stt_failover.const import DOMAIN
from custom_components.stt_failover.coordinator import LONGEST_PAUSE
from tests.integration.conftest import until
from tests.integration.fake_server import SERVER_ID

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers import device_registry as dr
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from custom_components.stt_failover.coordinator import SttFailoverCoordinator
    from custom_components.stt_failover.models import Happening
    from tests.integration.fake_server import FakeServer


@pytest.fixture
def coordinator(pauses: list[float], loaded: MockConfigEntry) -> SttFailoverCoordinator:
    return loaded.runtime_data


async def test_status_that_the_server_pushes_is_there_at_once(
    coordinator: SttFailoverCoordinator, server: FakeServer
) -> None:
    told: list[str] = []
    coordinator.async_add_listener(lambda: told.append(coordinator.data.strategy))
    await server.push(strategy="race", problem="all-open", last=None)
    await until(lambda: told == ["race"])
    assert (coordinator.data.problem, coordinator.data.last) == ("all-open", None)
    asked = [path for method, path, _ in server.requests if method == "GET"]
    assert asked.count("/api/status") == 1, "only at setup is anything asked for"


async def test_what_happens_is_told_to_those_who_listen_until_they_stop(
    coordinator: SttFailoverCoordinator, server: FakeServer
) -> None:
    told: list[Happening] = []
    stop = coordinator.async_add_happening_listener(told.append)
    await server.say({"type": "failover", "from": "assemblyai", "to": None, "code": "late", "ms": None})
    await server.say({"type": "utterance", "trace": {"backend": "local"}})
    await server.say({"type": "recovery", "backend": "assemblyai"})
    await server.say({"type": "budget", "backend": "assemblyai", "dollars": 1.0})
    await server.say({"type": "something-new"})
    await until(lambda: len(told) == 4)
    assert [happening.type for happening in told] == ["failover", "utterance", "recovery", "budget"]
    assert told[0].data == {"from": "assemblyai", "to": None, "code": "late", "ms": None}
    assert told[1].data == {"backend": "local"}
    stop()
    await server.say({"type": "recovery", "backend": "local"})
    await server.push(strategy="race")
    await until(lambda: coordinator.data.strategy == "race")
    assert len(told) == 4


async def test_entities_are_gone_while_the_server_is_and_one_line_says_so(
    hass: HomeAssistant,
    coordinator: SttFailoverCoordinator,
    server: FakeServer,
    pauses: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    caplog.clear()
    await server.stop()
    await until(lambda: len(pauses) >= 8)
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    states = hass.states.async_all(("sensor", "binary_sensor", "button", "select", "switch"))
    assert states
    assert {state.state for state in states} == {STATE_UNAVAILABLE}
    await server.start()
    await until(lambda: coordinator.feed_is_open)
    assert any(state.state != STATE_UNAVAILABLE for state in hass.states.async_all("sensor"))
    ours = [record.levelname for record in caplog.records if DOMAIN in record.name]
    assert ours == ["ERROR", "INFO"]
    await server.drop()
    await until(lambda: not coordinator.feed_is_open)
    await until(lambda: coordinator.feed_is_open)
    assert pauses[-1] == 1, "after a success the pauses begin anew"


# aiohttp leaves a timer behind where the answer to its closing of a WebSocket arrives.
@pytest.mark.parametrize("expected_lingering_timers", [True])
@pytest.mark.parametrize(
    "message", ["no json", "[]", '{"type": "status"}', '{"type": "status", "status": {"id": 1}}', "{}"]
)
async def test_event_that_nobody_understands_ends_the_feed_which_is_opened_again(
    coordinator: SttFailoverCoordinator, server: FakeServer, pauses: list[float], message: str
) -> None:
    await server.say(message)
    await until(lambda: pauses == [1])
    await until(lambda: coordinator.feed_is_open)


@pytest.mark.parametrize("expected_lingering_timers", [True])  # aiohttp leaves that of its heartbeat behind
async def test_a_listener_that_fails_ends_the_feed_which_is_opened_again(
    coordinator: SttFailoverCoordinator,
    server: FakeServer,
    pauses: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: Happening) -> None:
        raise ZeroDivisionError("of a listener")

    coordinator.async_add_happening_listener(fail)
    await server.say({"type": "recovery", "backend": "assemblyai"})
    await until(lambda: bool(pauses) and coordinator.last_update_success)
    await server.push(strategy="race")
    await until(lambda: coordinator.data.strategy == "race")
    assert "The feed of events has a defect" in caplog.text


async def test_bytes_in_the_feed_are_passed_over(
    coordinator: SttFailoverCoordinator, server: FakeServer
) -> None:
    for socket in server._sockets:
        await socket.send_bytes(b"\0")
    await server.push(strategy="race")
    await until(lambda: coordinator.data.strategy == "race")


async def test_token_that_is_refused_later_asks_for_another_once_in_an_outage(
    hass: HomeAssistant, coordinator: SttFailoverCoordinator, server: FakeServer, pauses: list[float]
) -> None:
    def asked() -> list[Any]:
        return hass.config_entries.flow.async_progress_by_handler(DOMAIN)

    good = server.token
    server.token = "another"
    await server.drop()
    await until(lambda: len(pauses) >= 3)
    assert pauses[1:3] == [LONGEST_PAUSE, LONGEST_PAUSE]
    assert [flow["context"]["source"] for flow in asked()] == [SOURCE_REAUTH]
    hass.config_entries.flow.async_abort(asked()[0]["flow_id"])
    await until(lambda: len(pauses) >= 5)
    assert not asked()
    server.token = good
    await until(lambda: coordinator.feed_is_open)
    server.token = "another"
    await server.drop()
    await until(lambda: len(asked()) == 1)


async def test_too_many_attempts_are_followed_by_the_pause_that_the_server_wants(
    coordinator: SttFailoverCoordinator, server: FakeServer, pauses: list[float]
) -> None:
    server.refusals["/api/events"] = (429, {"error": "wait", "headers": {"Retry-After": "42"}})
    await server.drop()
    await until(lambda: len(pauses) >= 2)
    assert pauses[1] == 42


async def test_another_server_at_the_address_is_not_listened_to(
    coordinator: SttFailoverCoordinator, server: FakeServer, pauses: list[float]
) -> None:
    server.id = "another"
    await server.drop()
    await until(lambda: len(pauses) >= 2)
    assert not coordinator.last_update_success
    assert "Another speech-to-text server answers at 127.0.0.1" in str(coordinator.last_exception)


async def test_device_tells_the_version_of_an_updated_server(
    coordinator: SttFailoverCoordinator,
    loaded: MockConfigEntry,
    server: FakeServer,
    device_registry: dr.DeviceRegistry,
) -> None:
    def version() -> str | None:
        device = device_registry.async_get_device_by_identifier((DOMAIN, SERVER_ID), loaded.entry_id)
        assert device
        return device.sw_version

    assert version() == "0.1.0"
    await server.push(version="0.2.0")
    await until(lambda: version() == "0.2.0")


async def test_person_can_ask_for_an_update(
    hass: HomeAssistant, coordinator: SttFailoverCoordinator, server: FakeServer
) -> None:
    server.status["strategy"] = "race"
    await coordinator.async_refresh()
    assert coordinator.data.strategy == "race"
