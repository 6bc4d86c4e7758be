from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import until
from tests.integration.entities import facts, state

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.fake_server import FakeServer


def _shown(hass: HomeAssistant) -> dict[str, Any]:
    ours = ("event_type", "from", "to", "backend", "reason", "milliseconds")
    attributes = state(hass, "event", "failover").attributes
    return {name: attributes[name] for name in ours if name in attributes}


async def test_event_knows_failover_and_recovery(hass: HomeAssistant, loaded: MockConfigEntry) -> None:
    assert facts(hass, "event") == {"failover": {"translation": "failover"}}
    shown = state(hass, "event", "failover")
    assert shown.state == "unknown"
    assert shown.attributes["event_types"] == ["failover", "recovery"]


@pytest.mark.parametrize(("to", "milliseconds"), [("whisper", 812.5), (None, None)])
async def test_failover_fires_with_who_to_whom_and_why(
    hass: HomeAssistant,
    loaded: MockConfigEntry,
    server: FakeServer,
    to: str | None,
    milliseconds: float | None,
) -> None:
    await server.say(
        {"type": "failover", "from": "assemblyai", "to": to, "code": "unreachable", "ms": milliseconds}
    )
    await until(lambda: state(hass, "event", "failover").state != "unknown")
    assert _shown(hass) == {
        "event_type": "failover",
        "from": "assemblyai",
        "to": to,
        "reason": "unreachable",
        "milliseconds": milliseconds,
    }


async def test_recovery_fires_with_the_reason_why_the_backend_had_been_left_out(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await server.push_backend("whisper", state="open", cause="rate-limit")
    await server.push_backend("whisper", state="closed", cause=None)
    await server.say({"type": "recovery", "backend": "whisper"})
    await until(lambda: state(hass, "event", "failover").state != "unknown")
    assert _shown(hass) == {"event_type": "recovery", "backend": "whisper", "reason": "rate-limit"}


async def test_recovery_from_what_had_been_before_the_start_has_its_reason_and_an_unseen_one_has_none(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.status["backends"][0] |= {"state": "open", "cause": "network"}
    assert await hass.config_entries.async_reload(loaded.entry_id)
    server.status["backends"][0] |= {"state": "closed", "cause": None}
    await until(lambda: bool(loaded.runtime_data.feed_is_open))
    await server.say({"type": "recovery", "backend": "assemblyai"})
    await until(lambda: state(hass, "event", "failover").attributes.get("reason") == "network")
    await server.say({"type": "recovery", "backend": "local"})
    await until(lambda: state(hass, "event", "failover").attributes.get("backend") == "local")
    assert _shown(hass)["reason"] is None


async def test_other_happenings_fire_nothing(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await server.say({"type": "budget", "backend": "whisper", "dollars": 1.0})
    await server.say({"type": "utterance", "trace": {}})
    await server.push(uptime=1.0)
    await until(lambda: loaded.runtime_data.data.uptime == 1.0)
    assert state(hass, "event", "failover").state == "unknown"


async def test_unloaded_event_listens_no_more(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    coordinator = loaded.runtime_data
    assert coordinator._happening_listeners
    assert await hass.config_entries.async_unload(loaded.entry_id)
    assert not coordinator._happening_listeners
