from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import secrets
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from zeroconf import NonUniqueNameException, NotRunningException
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from modal_whisper import __version__
from wyoming_server.announce import API_TYPE, AUTO, LOOK_AGAIN_SECONDS, WYOMING_TYPE, Announcer, services

if TYPE_CHECKING:
    from collections.abc import Callable

    from wyoming_server.network import Address

SERVER_ID = "5f0c6a5e0d2b4f6f9d6a3c1b7e8f9a0b"
EVERYWHERE = "tcp://0.0.0.0:10301"


class Network:
    """This machine's network as the announcer finds it; a test changes it and lets it look again."""

    def __init__(self) -> None:
        self.addresses = {"0.0.0.0": ["192.168.1.9"]}
        self.taken: set[str] = set()
        """Names that are found to be so when they are registered."""
        self.in_use: set[str] = set()
        """Names that somebody has who says so when asked."""
        self.failures: list[Exception] = []
        self.spoken: list[Spoken] = []
        self.announcing: asyncio.Task[Any] | None = None
        self._looks = asyncio.Semaphore(0)
        self._paused = asyncio.Event()
        self.pauses: list[float] = []

    def reach(self, host: str) -> tuple[Address, ...]:
        return tuple(ip_address(item) for item in self.addresses.get(host, []))

    def speak(self, addresses: list[str]) -> AsyncZeroconf:
        if self.failures:
            raise self.failures.pop()
        self.spoken.append(Spoken(self, addresses))
        return self.spoken[-1]

    async def ask(self, mdns: AsyncZeroconf, kind: str, name: str) -> bool:
        return f"{name}.{kind}" in self.in_use

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._paused.set()
        await self._looks.acquire()

    async def announce(self, name: str, uri: str = EVERYWHERE, api: tuple[str, int] | None = None) -> None:
        """Begin, and return when all has been said."""
        announcer = Announcer(
            name,
            SERVER_ID,
            services(SERVER_ID, uri, api),
            reach=self.reach,
            speak=self.speak,
            ask=self.ask,
            pause=self.pause,
        )
        self.announcing = asyncio.create_task(announcer.run())
        await self._paused.wait()

    async def look_again(self) -> None:
        """Return when it has looked, and has said what there was to say."""
        self._paused.clear()
        self._looks.release()
        await self._paused.wait()

    async def stop(self) -> None:
        assert self.announcing
        self.announcing.cancel()
        await asyncio.wait([self.announcing])

    @property
    def announced(self) -> list[AsyncServiceInfo]:
        """What others can find at the moment."""
        return [info for spoken in self.spoken if not spoken.is_closed for info in spoken.infos]

    @property
    def names(self) -> list[str]:
        return [info.name for info in self.announced]


class Spoken:
    """What zeroconf.asyncio.AsyncZeroconf does, without a network."""

    def __init__(self, network: Network, addresses: list[str]) -> None:
        self._network = network
        self.addresses = addresses
        self.infos: list[AsyncServiceInfo] = []
        self.is_closed = False

    async def async_register_service(self, info: AsyncServiceInfo) -> asyncio.Future[None]:
        if info.name in self._network.taken:
            raise NonUniqueNameException
        telling = asyncio.get_running_loop().create_future()
        telling.set_result(None)
        self.infos.append(info)
        return telling

    async def async_close(self) -> None:
        self.is_closed = True


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def test_wyoming_is_announced_where_others_reach_it_until_the_end(network: Network) -> None:
    await network.announce("kitchen")
    (spoken,), (info,) = network.spoken, network.announced
    assert spoken.addresses == ["192.168.1.9"]
    assert (info.type, info.name) == (WYOMING_TYPE, f"kitchen.{WYOMING_TYPE}")
    assert (info.parsed_addresses(), info.port) == (["192.168.1.9"], 10301)
    assert network.pauses == [LOOK_AGAIN_SECONDS]
    await network.stop()
    assert spoken.is_closed
    assert network.announced == []


async def test_the_api_is_announced_with_what_a_client_must_know(network: Network) -> None:
    network.addresses["192.168.1.7"] = ["192.168.1.7"]
    await network.announce("kitchen", api=("192.168.1.7", 10380))
    wyoming, api = network.announced
    assert (api.type, api.name) == (API_TYPE, f"kitchen.{API_TYPE}")
    assert (api.parsed_addresses(), api.port) == (["192.168.1.7"], 10380)
    assert api.decoded_properties == {"version": __version__, "id": SERVER_ID, "wyoming_port": "10301"}
    assert wyoming.server != api.server
    assert network.spoken[0].addresses == ["192.168.1.7", "192.168.1.9"]


async def test_an_api_for_this_machine_alone_is_not_announced_but_wyoming_is(network: Network) -> None:
    await network.announce("kitchen", api=("127.0.0.1", 10380))
    assert network.names == [f"kitchen.{WYOMING_TYPE}"]


async def test_an_api_that_others_reach_is_announced_where_wyoming_is_not(network: Network) -> None:
    await network.announce("kitchen", "tcp://127.0.0.1:10300", ("0.0.0.0", 10380))
    assert network.names == [f"kitchen.{API_TYPE}"]


@pytest.mark.parametrize("uri", ["unix:///run/stt.sock", "stdio://"])
def test_what_has_no_port_is_not_announced(uri: str) -> None:
    assert services(SERVER_ID, uri, ("0.0.0.0", 10380)) == []


async def test_the_name_of_its_own_is_made_of_the_server_id_and_so_lasts(network: Network) -> None:
    await network.announce(AUTO)
    assert network.names == [f"stt-failover-5f0c6a5e.{WYOMING_TYPE}"]


def test_host_names_are_valid_and_others_for_other_servers() -> None:
    for own_id in (SERVER_ID, "0" * 32):
        told = services(own_id, EVERYWHERE, ("0.0.0.0", 10380))
        assert [service.server for service in told] == [
            f"stt-failover-{own_id[:12]}",
            f"stt-failover-{own_id[:12]}-api",
        ]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Küche oben", "Küche oben"),
        ("2. Stock", "2 Stock"),
        ("a..b\n\tc", "a b c"),
        ("ü" * 40, "ü" * 31),
        ("x" * 70, "x" * 63),
        (" . ", "stt-failover-5f0c6a5e"),
    ],
)
async def test_any_name_is_made_one_that_mdns_takes(network: Network, name: str, label: str) -> None:
    await network.announce(name, api=("0.0.0.0", 10380))
    assert network.names == [f"{label}.{WYOMING_TYPE}", f"{label}.{API_TYPE}"]


@pytest.mark.parametrize("kind", [WYOMING_TYPE, API_TYPE])
@pytest.mark.parametrize("name", ["kitchen", "ü" * 40])
async def test_a_name_that_another_one_has_gets_an_ending_of_the_servers_own(
    network: Network, caplog: pytest.LogCaptureFixture, kind: str, name: str
) -> None:
    network.taken = {f"{name[:31]}.{kind}"}
    await network.announce(name, api=("0.0.0.0", 10380))
    label = f"{name[:28]}-5f0c6a"
    assert network.names == [f"{label}.{WYOMING_TYPE}", f"{label}.{API_TYPE}"]
    assert f"another server in the network is called '{name[:31]}'" in caplog.text
    assert f"announced in the network as '{label}' at 192.168.1.9" in caplog.text


async def test_a_name_that_somebody_on_the_same_machine_has_gets_an_ending_too(network: Network) -> None:
    network.in_use = {f"kitchen.{API_TYPE}"}
    await network.announce("kitchen", api=("0.0.0.0", 10380))
    assert network.names == [f"kitchen-5f0c6a.{WYOMING_TYPE}", f"kitchen-5f0c6a.{API_TYPE}"]


async def test_for_a_name_of_its_own_nobody_is_asked(network: Network) -> None:
    network.in_use = {f"stt-failover-5f0c6a5e.{WYOMING_TYPE}"}
    await network.announce(AUTO)
    assert network.names == [f"stt-failover-5f0c6a5e.{WYOMING_TYPE}"]


async def test_nothing_is_announced_while_both_names_are_taken(network: Network) -> None:
    network.taken = {f"kitchen.{WYOMING_TYPE}", f"kitchen-5f0c6a.{WYOMING_TYPE}"}
    await network.announce("kitchen")
    assert network.announced == []
    network.taken.clear()
    await network.look_again()
    assert network.names == [f"kitchen.{WYOMING_TYPE}"]


async def test_another_address_is_followed_and_the_same_one_left_alone(network: Network) -> None:
    await network.announce("kitchen")
    await network.look_again()
    assert len(network.spoken) == 1
    network.addresses["0.0.0.0"] = ["192.168.1.77"]
    await network.look_again()
    assert [spoken.is_closed for spoken in network.spoken] == [True, False]
    (info,) = network.announced
    assert info.parsed_addresses() == ["192.168.1.77"]


async def test_a_network_that_comes_late_is_waited_for_with_one_complaint(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    network.addresses.clear()
    await network.announce("kitchen")
    await network.look_again()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "the server is not announced in the network: there is no address here that others can reach it at"
    ]
    network.addresses["0.0.0.0"] = ["192.168.1.9"]
    await network.look_again()
    assert network.names == [f"kitchen.{WYOMING_TYPE}"]
    network.addresses.clear()
    await network.look_again()
    assert network.announced == []


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (RuntimeError("No adapter found for IP address 192.168.1.9"), "No adapter found"),
        (NotRunningException(), "NotRunningException"),
    ],
)
async def test_a_network_that_fails_is_tried_again(
    network: Network, caplog: pytest.LogCaptureFixture, failure: Exception, reason: str
) -> None:
    network.failures = [failure]
    await network.announce("kitchen")
    assert reason in caplog.text
    await network.look_again()
    assert network.names == [f"kitchen.{WYOMING_TYPE}"]


async def test_a_goodbye_that_nobody_hears_is_no_failure(network: Network) -> None:
    await network.announce("kitchen")

    async def fail() -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    network.spoken[0].async_close = fail
    network.addresses["0.0.0.0"] = ["192.168.1.77"]
    await network.look_again()
    assert network.spoken[1].infos
    assert network.announcing
    assert not network.announcing.done()


@pytest.fixture
def loopback() -> Callable[[], AsyncZeroconf]:
    """The real library, kept to this machine. Those with one address would get each other's answers."""
    addresses = (f"127.0.0.{number}" for number in itertools.count(1))
    return lambda: AsyncZeroconf(interfaces=[next(addresses)])


async def test_with_the_real_library_others_find_the_server_until_it_is_withdrawn(
    network: Network, loopback: Callable[[], AsyncZeroconf]
) -> None:
    name = f"Küche {secrets.token_hex(4)}"
    network.speak = lambda _: loopback()
    await network.announce(name, api=("0.0.0.0", 10381))
    second = Network()
    second.speak = lambda _: loopback()
    await second.announce(name)
    client = loopback()
    try:
        infos = [
            AsyncServiceInfo(kind, f"{label}.{kind}")
            for kind, label in [(WYOMING_TYPE, name), (API_TYPE, name), (WYOMING_TYPE, f"{name}-5f0c6a")]
        ]
        assert all(await asyncio.gather(*(info.async_request(client.zeroconf, 3000) for info in infos)))
        assert [(info.parsed_addresses(), info.port) for info in infos] == [
            (["192.168.1.9"], 10301),
            (["192.168.1.9"], 10381),
            (["192.168.1.9"], 10301),
        ]
        assert infos[1].decoded_properties["id"] == SERVER_ID
        await asyncio.gather(network.stop(), second.stop())
    finally:
        await client.async_close()
    later = loopback()
    try:
        for kind in (WYOMING_TYPE, API_TYPE):
            assert not await AsyncServiceInfo(kind, f"{name}.{kind}").async_request(later.zeroconf, 300)
    finally:
        await later.async_close()
