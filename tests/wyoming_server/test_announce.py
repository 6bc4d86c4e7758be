from __future__ import annotations

import errno
import functools
import secrets
from typing import TYPE_CHECKING

import pytest
import wyoming.zeroconf
from zeroconf import BadTypeInNameException, NonUniqueNameException
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from wyoming_server.announce import AUTO, announce
from wyoming_server.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE = "_wyoming._tcp.local."


class FakeZeroconf:
    """What wyoming.zeroconf.HomeAssistantZeroconf does, without a network."""

    made: list[FakeZeroconf]
    construction_fails: Exception | None
    registration_fails: Exception | None

    def __init__(self, port: int, name: str | None, host: str | None) -> None:
        if self.construction_fails:
            raise self.construction_fails
        self.given = (port, name, host)
        self.name = name or "0123456789ab"
        self.is_registered = self.is_closed = False
        self._aiozc = self
        self.made.append(self)

    async def register_server(self) -> None:
        if self.registration_fails:
            raise self.registration_fails
        self.is_registered = True

    async def async_close(self) -> None:
        self.is_closed = True


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> type[FakeZeroconf]:
    class Library(FakeZeroconf):
        made: list[FakeZeroconf] = []  # noqa: RUF012 - one list for each test
        construction_fails = None
        registration_fails = None

    monkeypatch.setattr(wyoming.zeroconf, "HomeAssistantZeroconf", Library)
    return Library


@pytest.mark.parametrize(
    ("uri", "name", "given"),
    [
        ("tcp://192.168.1.5:10300", "kitchen", (10300, "kitchen", "192.168.1.5")),
        ("tcp://0.0.0.0:10301", "kitchen", (10301, "kitchen", None)),
        ("tcp://[::]:10301", "kitchen", (10301, "kitchen", None)),
        ("tcp://0.0.0.0:10300", AUTO, (10300, None, None)),
    ],
)
async def test_it_announces_where_others_reach_the_server(
    library: type[FakeZeroconf], uri: str, name: str, given: tuple[object, ...]
) -> None:
    withdraw = await announce(uri, name)
    (service,) = library.made
    assert service.given == given
    assert service.is_registered
    assert not service.is_closed
    await withdraw()
    assert service.is_closed


@pytest.mark.parametrize(
    "uri",
    ["unix:///run/stt.sock", "stdio://", "tcp://localhost:10300", "tcp://[fe80::1]:10300", "tcp://0.0.0.0:0"],
)
async def test_what_cannot_be_announced_is_refused(library: type[FakeZeroconf], uri: str) -> None:
    with pytest.raises(SettingsError) as caught:
        await announce(uri, "kitchen")
    assert str(caught.value) == (
        "ZEROCONF needs a URI with an IPv4 address and a port, such as tcp://0.0.0.0:10300"
    )
    assert library.made == []


async def test_a_machine_without_a_network_is_one_clear_line(library: type[FakeZeroconf]) -> None:
    library.construction_fails = OSError(errno.ENETUNREACH, "Network is unreachable")
    with pytest.raises(SettingsError) as caught:
        await announce("tcp://0.0.0.0:10300", "kitchen")
    assert str(caught.value) == "ZEROCONF: cannot use the network of this machine (Network is unreachable)"


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (NonUniqueNameException(), "ZEROCONF: another server in the network is called 'kitchen'"),
        (BadTypeInNameException("Too long"), "ZEROCONF: cannot announce the name 'kitchen' (Too long)"),
        (OSError("gone"), "ZEROCONF: cannot announce the name 'kitchen' (gone)"),
    ],
)
async def test_a_name_that_is_not_taken_is_one_clear_line_and_nothing_is_left(
    library: type[FakeZeroconf], failure: Exception, text: str
) -> None:
    library.registration_fails = failure
    with pytest.raises(SettingsError) as caught:
        await announce("tcp://0.0.0.0:10300", "kitchen")
    assert str(caught.value) == text
    assert library.made[0].is_closed


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AsyncZeroconf]:
    """The real library, kept to this machine."""
    here = functools.partial(AsyncZeroconf, interfaces=["127.0.0.1"])
    monkeypatch.setattr(wyoming.zeroconf, "AsyncZeroconf", here)
    return here


async def test_with_the_real_library_others_find_the_server_until_it_is_withdrawn(
    loopback: Callable[[], AsyncZeroconf],
) -> None:
    name = f"stt-{secrets.token_hex(4)}"
    withdraw = await announce("tcp://127.0.0.1:10300", name)
    client = loopback()
    try:
        found = AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}")
        assert await found.async_request(client.zeroconf, 3000)
        assert found.parsed_addresses() == ["127.0.0.1"]
        assert found.port == 10300
        with pytest.raises(SettingsError, match=f"another server in the network is called '{name}'"):
            await announce("tcp://127.0.0.1:10301", name)
    finally:
        await client.async_close()
        await withdraw()
    later = loopback()
    try:
        assert not await AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}").async_request(later.zeroconf, 300)
    finally:
        await later.async_close()
