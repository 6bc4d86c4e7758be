"""What a change of settings may not do, whoever has the token."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.wyoming_server.houses import KEY
from wyoming_server import changes as changes_module
from wyoming_server.changes import check_listening, with_changes
from wyoming_server.settings import WrongSettingError, validate
from wyoming_server.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Mapping

STREAMING, SYNC, WORKER = "ASSEMBLYAI_STREAMING_URL", "ASSEMBLYAI_SYNC_URL", "WHISPER_SERVICE_URL"
WITH_KEY = {"ASSEMBLYAI_API_KEY": KEY}
WITH_WORKER = {
    WORKER: "ws://worker:10301",
    "WHISPER_API_KEY": "a-key",
    "WHISPER_PROXY_KEY": "wk-1",
    "WHISPER_PROXY_SECRET": "ws-1",
}
OF_WORKER = {name: value for name, value in WITH_WORKER.items() if name != WORKER}


def changed(
    stored: Mapping[str, Any], changes: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Any:
    return with_changes(Sources({}, environment or {}, stored), changes)


# Keys go where they went before


@pytest.mark.parametrize(
    ("stored", "changes", "kept"),
    [
        (WITH_KEY, {STREAMING: "wss://evil.example"}, "ASSEMBLYAI_API_KEY"),
        (WITH_KEY, {STREAMING: "ws://streaming.assemblyai.com"}, "ASSEMBLYAI_API_KEY"),
        (WITH_KEY, {STREAMING: "wss://streaming.assemblyai.com:8443"}, "ASSEMBLYAI_API_KEY"),
        (WITH_KEY, {STREAMING: "wss://streaming.assemblyai.com.evil.example"}, "ASSEMBLYAI_API_KEY"),
        (WITH_KEY, {STREAMING: "wss://evilassemblyai.com"}, "ASSEMBLYAI_API_KEY"),
        (WITH_KEY, {STREAMING: "wss://evil.example\\.assemblyai.com"}, "ASSEMBLYAI_API_KEY"),
        (WITH_KEY, {SYNC: "https://evil.example"}, "ASSEMBLYAI_API_KEY"),
        (WITH_KEY, {SYNC: "https://evil.example/.assemblyai.com"}, "ASSEMBLYAI_API_KEY"),
        (WITH_WORKER, {WORKER: "ws://evil.example:10301"}, ", ".join(OF_WORKER)),
        (WITH_WORKER, {WORKER: "ws://worker:10302"}, ", ".join(OF_WORKER)),
        (OF_WORKER, {WORKER: "ws://worker:10301"}, ", ".join(OF_WORKER)),
        (
            WITH_WORKER,
            {WORKER: "ws://evil.example", "WHISPER_API_KEY": "mine"},
            "WHISPER_PROXY_KEY, WHISPER_PROXY_SECRET",
        ),
        (
            {**WITH_WORKER, WORKER: "wss://worker"},
            {WORKER: "ws://worker:443", "WHISPER_PROXY_KEY": "", "WHISPER_PROXY_SECRET": None},
            "WHISPER_API_KEY",
        ),
    ],
)
def test_a_stored_key_goes_to_no_new_address(
    stored: dict[str, Any], changes: dict[str, Any], kept: str
) -> None:
    name = next(iter(changes))
    with pytest.raises(WrongSettingError) as caught:
        changed(stored, changes)
    assert str(caught.value) == f"give {kept} again together with a new address in {name}"
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("stored", "changes"),
    [
        (WITH_KEY, {STREAMING: "wss://streaming.eu.assemblyai.com"}),
        (
            WITH_KEY,
            {STREAMING: "wss://streaming.us.assemblyai.com/", SYNC: "https://SYNC.assemblyai.com:443"},
        ),
        (WITH_KEY | {STREAMING: "wss://my.proxy"}, {STREAMING: None}),
        (WITH_KEY | {STREAMING: "wss://my.proxy"}, {STREAMING: "wss://my.proxy/other"}),
        (WITH_KEY | {STREAMING: "wss://my.proxy"}, {STREAMING: " WSS://MY.proxy:443 ".lower()}),
        (WITH_KEY, {STREAMING: "wss://my.proxy", "ASSEMBLYAI_API_KEY": "mine"}),
        (WITH_KEY, {STREAMING: "wss://my.proxy", "ASSEMBLYAI_API_KEY": None}),
        ({}, {STREAMING: "wss://my.proxy"}),
        (WITH_WORKER, {WORKER: ""}),
        (WITH_WORKER, {WORKER: None}),
        (WITH_WORKER, {WORKER: "http://worker:10301/"}),
        (WITH_WORKER, {WORKER: "ws://other", **dict.fromkeys(OF_WORKER, "mine")}),
        (WITH_WORKER, {WORKER: "ws://other", **dict.fromkeys(OF_WORKER, "")}),
        (WITH_WORKER, {"DEADLINE": 5}),
        # What the file holds by now is not this client's doing.
        (WITH_KEY | {STREAMING: "wss://my.proxy"}, {"DEADLINE": 5}),
    ],
)
def test_other_changes_of_addresses_are_taken(stored: dict[str, Any], changes: dict[str, Any]) -> None:
    settings = changed(stored, changes)
    for name, value in changes.items():
        if isinstance(value, str):
            assert getattr(settings, name.lower()) == value.strip()


def test_where_the_key_is_fixed_the_address_is_changed_there_too() -> None:
    with pytest.raises(WrongSettingError, match="is set by the environment of the server; change"):
        changed({}, {STREAMING: "wss://evil.example"}, WITH_KEY)
    assert changed({}, {STREAMING: "wss://streaming.eu.assemblyai.com"}, WITH_KEY)


# The next start


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"API_HOST": "192.0.2.1"}, "API_HOST"),
        ({"API_HOST": "no such host"}, "API_HOST"),
        ({"API_HOST": "x" * 300}, "API_HOST"),
        ({"API_HOST": "1.2.3.4.5"}, "API_HOST"),
        ({"URI": "tcp://192.0.2.1:10300"}, "URI"),
    ],
)
async def test_an_address_that_is_not_this_machines_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(WrongSettingError, match=f"^{name}: the server could not listen on ") as caught:
        await check_listening(validate({}), validate({}), validate(changes))
    assert caught.value.name == name
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["API_PORT", "URI"])
async def test_a_port_that_somebody_else_has_is_refused(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        value = f"tcp://127.0.0.1:{port}" if name == "URI" else port
        with pytest.raises(WrongSettingError, match=f"^{name}: .* port {port} "):
            await check_listening(validate({}), validate({}), validate({name: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"API_HOST": "0.0.0.0"},
        {"API_HOST": "localhost"},
        {"API_HOST": "127.0.0.5"},
        {"API_PORT": 0},
        {"DEADLINE": 5},
    ],
)
async def test_an_address_that_the_server_can_listen_on_is_taken(changes: dict[str, Any]) -> None:
    await check_listening(validate({}), validate({}), validate(changes))


@pytest.mark.parametrize("uri", ["unix:///tmp/somewhere", "stdio://"])
async def test_a_door_that_leaves_no_way_back_is_refused(uri: str) -> None:
    with pytest.raises(WrongSettingError, match=r"^URI can be changed to a tcp:// address"):
        await check_listening(validate({}), validate({}), validate({"URI": uri}))


async def test_the_servers_own_ports_are_not_in_its_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as wyoming:
        port = wyoming.getsockname()[1]
        before = validate({"URI": f"tcp://127.0.0.1:{port}", "API_PORT": port})
        elsewhere = validate({"URI": "tcp://0.0.0.0:1", "API_PORT": 2})
        after = validate({"URI": f"tcp://0.0.0.0:{port}", "API_PORT": port})
        await check_listening(before, before, after)
        await check_listening(before, elsewhere, after)


async def test_a_name_that_is_looked_up_for_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    never = asyncio.get_running_loop().create_future()

    async def look_up(*_: object) -> None:
        await never

    monkeypatch.setattr(asyncio, "to_thread", look_up)
    monkeypatch.setattr(changes_module, "_LOOK_UP_SECONDS", 0.01)
    with pytest.raises(WrongSettingError, match="cannot be looked up in time"):
        await check_listening(validate({}), validate({}), validate({"API_HOST": "slow.example"}))
