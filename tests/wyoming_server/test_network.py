from __future__ import annotations

import socket
from ipaddress import ip_address

import ifaddr
import pytest

from wyoming_server import network
from wyoming_server.network import Interface, interfaces, reachable, source

LAN = Interface(addresses=(ip_address("192.168.1.5"), ip_address("2001:db8:5::5"), ip_address("fd00::5")))
SECOND = Interface(addresses=(ip_address("10.0.0.5"),))
DOCKER = Interface(addresses=(ip_address("172.17.0.1"),), is_bridge=True)


def at(host: str, *found: Interface, own: str | None = None) -> list[str]:
    route = ip_address(own) if own else None
    return [str(address) for address in reachable(host, lambda: found, lambda _: route)]


def test_what_listens_everywhere_is_reached_at_the_interface_with_the_way_out() -> None:
    assert at("0.0.0.0", DOCKER, SECOND, LAN, own="192.168.1.5") == ["192.168.1.5"]
    assert at("0.0.0.0", DOCKER, SECOND, LAN, own="10.0.0.5") == ["10.0.0.5"]


def test_what_listens_everywhere_by_ipv6_is_not_reached_by_ipv4() -> None:
    assert at("::", DOCKER, LAN, own="fd00::5") == ["2001:db8:5::5", "fd00::5"]
    assert at("::", DOCKER, SECOND) == []


def test_without_a_way_out_every_interface_counts_but_bridges_to_containers() -> None:
    assert at("0.0.0.0", DOCKER, SECOND, LAN) == ["10.0.0.5", "192.168.1.5"]


def test_the_way_out_through_a_tunnel_is_none() -> None:
    assert at("0.0.0.0", DOCKER, LAN, own="10.8.0.2") == ["192.168.1.5"]


def test_a_bridge_counts_where_it_has_the_way_out_or_there_is_nothing_else() -> None:
    assert at("0.0.0.0", DOCKER, LAN, own="172.17.0.1") == ["172.17.0.1"]
    assert at("0.0.0.0", DOCKER) == ["172.17.0.1"]
    assert at("::", DOCKER, LAN) == ["2001:db8:5::5", "fd00::5"]


def test_without_a_network_nothing_is_reached() -> None:
    assert at("0.0.0.0") == at("::") == []


@pytest.mark.parametrize("host", ["192.168.1.7", "2001:db8::7"])
def test_what_listens_at_one_address_is_reached_there(host: str) -> None:
    assert at(host, LAN, own="192.168.1.5") == [host]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost", "fe80::1", "169.254.1.1", ""])
def test_what_listens_for_this_machine_alone_is_not_reached_by_others(host: str) -> None:
    assert at(host, LAN, own="192.168.1.5") == []


def test_loopback_is_none_of_the_interfaces() -> None:
    addresses = [address for interface in interfaces() for address in interface.addresses]
    assert not [address for address in addresses if address.is_loopback or address.is_link_local]


def test_interfaces_that_the_system_does_not_tell_of_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError

    monkeypatch.setattr(ifaddr, "get_adapters", fail)
    assert interfaces() == []


def test_an_interface_that_does_not_exist_or_is_loopback_leads_nowhere() -> None:
    assert not network._leads_to_others("no-such-device")
    assert not network._leads_to_others("lo")


@pytest.mark.parametrize(("version", "family"), [(4, socket.AF_INET), (6, socket.AF_INET6)])
def test_the_own_address_is_one_that_this_machine_has(version: int, family: socket.AddressFamily) -> None:
    own = source(version)
    if own is not None:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(own), 0))
