from __future__ import annotations

import errno
import itertools
import secrets
from typing import TYPE_CHECKING

import pytest
import wyoming.zeroconf
from zeroconf import BadTypeInNameException, NonUniqueNameException
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from modal_whisper import __version__
from wyoming_server.announce import AUTO, ApiNotice, announce
from wyoming_server.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE = "_wyoming._tcp.local."
API = "_stt-failover._tcp.local."
SERVER_ID = "5f0c6a5e0d2b4f6f9d6a3c1b7e8f9a0b"


class FakeZeroconf:
    """What wyoming.zeroconf.HomeAssistantZeroconf does, without a network."""

    made: list[FakeZeroconf]
    construction_fails: Exception | None
    registration_fails: Exception | None
    api_fails: Exception | None

    def __init__(self, port: int, name: str | None, host: str | None) -> None:
        if self.construction_fails:
            raise self.construction_fails
        self.given = (port, name, host)
        self.port = port
        self.name = name or "0123456789ab"
        self.host = host or "192.168.1.9"
        self.registered: list[AsyncServiceInfo] = []
        self.is_registered = self.is_closed = False
        self._aiozc = self
        self.made.append(self)

    async def register_server(self) -> None:
        if self.registration_fails:
            raise self.registration_fails
        self.is_registered = True

    async def async_register_service(self, info: AsyncServiceInfo) -> None:
        if self.api_fails:
            raise self.api_fails
        self.registered.append(info)

    async def async_close(self) -> None:
        self.is_closed = True


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> type[FakeZeroconf]:
    class Library(FakeZeroconf):
        made: list[FakeZeroconf] = []  # noqa: RUF012 - one list for each test
        construction_fails = None
        registration_fails = None
        api_fails = None

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


def notice(host: str, port: int = 10380) -> ApiNotice:
    return ApiNotice(host=host, port=port, server_id=SERVER_ID)


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "192.168.1.9"), ("::", "192.168.1.9"), ("192.168.1.7", "192.168.1.7")],
)
async def test_it_announces_the_api_where_others_reach_that(
    library: type[FakeZeroconf], host: str, address: str
) -> None:
    withdraw = await announce("tcp://0.0.0.0:10301", "kitchen", notice(host))
    (service,) = library.made
    (info,) = service.registered
    assert (info.type, info.name) == (API, f"kitchen.{API}")
    assert (info.server, info.parsed_addresses(), info.port) == (f"{SERVER_ID}.local.", [address], 10380)
    assert info.decoded_properties == {"version": __version__, "id": SERVER_ID, "wyoming_port": "10301"}
    await withdraw()
    assert service.is_closed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "fe80::1", "stt.example"])
async def test_an_api_that_others_cannot_reach_is_not_announced_but_wyoming_is(
    library: type[FakeZeroconf], host: str
) -> None:
    await announce("tcp://0.0.0.0:10300", "kitchen", notice(host))
    (service,) = library.made
    assert service.is_registered
    assert service.registered == []


async def test_without_an_api_wyoming_alone_is_announced(library: type[FakeZeroconf]) -> None:
    await announce("tcp://0.0.0.0:10300", "kitchen")
    assert library.made[0].registered == []


async def test_an_api_whose_name_is_taken_leaves_nothing_announced(library: type[FakeZeroconf]) -> None:
    library.api_fails = NonUniqueNameException()
    with pytest.raises(SettingsError, match="another server in the network is called 'kitchen'"):
        await announce("tcp://0.0.0.0:10300", "kitchen", notice("0.0.0.0"))
    assert library.made[0].is_closed


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
    """The real library, kept to this machine. Those with one address would get each other's answers."""
    addresses = (f"127.0.0.{number}" for number in itertools.count(1))

    def here() -> AsyncZeroconf:
        return AsyncZeroconf(interfaces=[next(addresses)])

    monkeypatch.setattr(wyoming.zeroconf, "AsyncZeroconf", here)
    return here


async def test_with_the_real_library_others_find_the_server_until_it_is_withdrawn(
    loopback: Callable[[], AsyncZeroconf],
) -> None:
    name = f"stt-{secrets.token_hex(4)}"
    withdraw = await announce("tcp://127.0.0.1:10300", name, notice("0.0.0.0", 10381))
    try:
        with pytest.raises(SettingsError, match=f"another server in the network is called '{name}'"):
            await announce("tcp://127.0.0.1:10301", name)
        client = loopback()
        try:
            api = AsyncServiceInfo(API, f"{name}.{API}")
            assert await api.async_request(client.zeroconf, 3000)
            found = AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}")
            # The address may come before its host; then it is known the second time.
            for _ in range(2):
                await found.async_request(client.zeroconf, 500)
        finally:
            await client.async_close()
    finally:
        await withdraw()
    assert (found.parsed_addresses(), found.port) == (["127.0.0.1"], 10300)
    assert (api.parsed_addresses(), api.port) == (["127.0.0.1"], 10381)
    assert api.decoded_properties == {"version": __version__, "id": SERVER_ID, "wyoming_port": "10300"}
    later = loopback()
    try:
        for kind in (SERVICE, API):
            assert not await AsyncServiceInfo(kind, f"{name}.{kind}").async_request(later.zeroconf, 300)
    finally:
        await later.async_close()
