from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from homeassistant.exceptions import HomeAssistantError

from custom_components.stt_failover.coordinator import client_of
from custom_components.stt_failover.errors import (
    CannotConnectError,
    RejectedError,
    ServerError,
    TooManyAttemptsError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from custom_components.stt_failover.exceptions import translated_errors
from custom_components.stt_failover.models import Config, Status
from tests.integration.conftest import until
from tests.integration.fake_server import TOKEN, backend, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from homeassistant.core import HomeAssistant

    from custom_components.stt_failover.client import Client
    from tests.integration.fake_server import FakeServer


@pytest.fixture
async def client(hass: HomeAssistant, server: FakeServer) -> Client:
    return client_of(hass, {"host": "127.0.0.1", "port": server.port, "token": TOKEN})


async def test_status_is_read_with_its_backends_in_their_order(client: Client) -> None:
    read = await client.status()
    assert list(read.backends) == ["assemblyai", "assemblyai_sync", "whisper", "local"]
    assert read.backends["local"].today.seconds == 310.2
    assert read.last
    assert read.last.at.isoformat() == "2026-11-24T10:15:30+00:00"
    assert (read.day.failovers, read.day.availability) == (2, 0.9917)


async def test_every_page_is_asked_by_its_method_and_with_what_it_takes(
    client: Client, server: FakeServer
) -> None:
    await client.health()
    await client.config()
    await client.update_config({"DEADLINE": 5, "KEY_TERMS": None})
    await client.test()
    await client.test(["local"], {"LOCAL_MODEL": "tiny"})
    await client.warm()
    await client.close_breakers()
    await client.traces()
    assert server.requests == [
        ("GET", "/health", None),
        ("GET", "/api/config", None),
        ("PATCH", "/api/config", {"settings": {"DEADLINE": 5, "KEY_TERMS": None}}),
        ("POST", "/api/test", {}),
        ("POST", "/api/test", {"backends": ["local"], "settings": {"LOCAL_MODEL": "tiny"}}),
        ("POST", "/api/warm", None),
        ("POST", "/api/close-breakers", None),
        ("GET", "/api/traces", None),
    ]


@pytest.mark.parametrize(
    ("code", "answer", "kind"),
    [
        (401, {"error": "the token is wrong", "code": "unauthorized"}, UnauthorizedError),
        (429, {"error": "wait", "code": "too-many-attempts"}, TooManyAttemptsError),
        (409, {"error": "fixed", "code": "fixed-setting", "setting": "DEADLINE"}, RejectedError),
        (400, {"error": "bad", "code": "bad-request", "setting": 5}, RejectedError),
        (503, {"error": "full"}, CannotConnectError),
        (500, "defect", UnexpectedAnswerError),
        (302, "elsewhere", UnexpectedAnswerError),
        (200, "[]", UnexpectedAnswerError),
        (200, "no json", UnexpectedAnswerError),
    ],
)
async def test_refusal_becomes_an_error_of_its_kind_and_translated(
    client: Client, server: FakeServer, code: int, answer: Any, kind: type[ServerError]
) -> None:
    server.refusals["/api/status"] = (code, answer)
    with pytest.raises(kind):
        await client.status()
    with pytest.raises(HomeAssistantError) as caught, translated_errors():
        await client.status()
    assert caught.value.translation_key


async def test_token_is_not_carried_to_where_an_answer_points(client: Client, server: FakeServer) -> None:
    server.refusals["/api/status"] = (302, {"headers": {"Location": "/api/traces"}})
    with pytest.raises(UnexpectedAnswerError):
        await client.status()
    assert [path for _, path, _ in server.requests] == ["/api/status"]


async def test_rejection_names_the_setting(client: Client, server: FakeServer) -> None:
    refusal = {"error": "DEADLINE is fixed", "code": "fixed-setting", "setting": "DEADLINE"}
    server.refusals["/api/config"] = (409, refusal)
    with pytest.raises(RejectedError) as caught:
        await client.update_config({"DEADLINE": 5})
    assert (caught.value.code, caught.value.setting) == ("fixed-setting", "DEADLINE")


async def test_feed_that_is_full_or_refused_says_why(client: Client, server: FakeServer) -> None:
    for code, kind in ((503, CannotConnectError), (401, UnauthorizedError), (404, UnexpectedAnswerError)):
        server.refusals["/api/events"] = (code, {})
        with pytest.raises(kind):
            await anext(client.events())


async def test_feed_of_a_server_that_is_away_cannot_be_opened(client: Client, server: FakeServer) -> None:
    await server.stop()
    with pytest.raises(CannotConnectError):
        await anext(client.events())


async def test_feed_that_is_not_opened_in_time_is_given_up(client: Client, server: FakeServer) -> None:
    server.answers.clear()
    with (
        patch("custom_components.stt_failover.client.HANDSHAKE", 0.05),
        pytest.raises(CannotConnectError, match="TimeoutError"),
    ):
        await anext(client.events())
    server.answers.set()


@pytest.mark.parametrize("expected_lingering_timers", [True])  # of aiohttp, for a ping that is not sent
async def test_feed_that_is_left_is_closed(client: Client, server: FakeServer) -> None:
    feed = client.events()
    await anext(feed)
    assert server.feeds == 1
    await feed.aclose()
    await until(lambda: server.feeds == 0)


async def test_who_answers_is_asked_without_the_token(client: Client, server: FakeServer) -> None:
    await client.health()
    assert server.signed == []
    await client.status()
    assert server.signed == ["/api/status"]


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.pop(name)


@pytest.mark.parametrize(
    "spoil",
    [
        *(
            _without(name)
            for name in ("id", "strategy", "endpointing", "languages", "uptime", "backends", "day")
        ),
        lambda data: data.update(backends=[1]),
        lambda data: data.update(backends=[backend("local", enabled="yes")]),
        lambda data: data.update(backends=[backend("local", median_ms="41")]),
        lambda data: data.update(backends=[backend("local", over_budget=None)]),
        lambda data: data.update(uptime=True),
        lambda data: data["last"].update(at="yesterday"),
        lambda data: data.update(problem=5),
    ],
)
def test_status_in_which_something_is_wrong_is_not_believed(spoil: Callable[[dict[str, Any]], None]) -> None:
    data = status()
    spoil(data)
    with pytest.raises(UnexpectedAnswerError):
        Status.from_json(data)


def test_config_that_names_no_settings_is_not_believed() -> None:
    with pytest.raises(UnexpectedAnswerError):
        Config.from_json({})


def test_config_tells_what_counts_after_a_restart() -> None:
    read = Config.from_json(
        {"settings": {"URI": {"value": "tcp://x:1", "source": "flag"}}, "restart": ["URI"]}
    )
    assert read.restart == ("URI",)
    assert read.settings["URI"].is_fixed
    assert "tcp" not in repr(read), "a value may be an address or a name"
