"""Which addresses of this machine others can reach."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from fcntl import ioctl
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Address = IPv4Address | IPv6Address

_ELSEWHERE: Final = {4: "224.0.0.251", 6: "2001:db8::1"}
"""Where a route is looked up to, without a packet: where mDNS is spoken, and an address that nobody has."""
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}

_SIOCGIFFLAGS: Final = 0x8913
_UP, _LOOPBACK, _POINT_TO_POINT, _MULTICAST = 0x1, 0x8, 0x10, 0x1000
_WANTED: Final = _UP | _MULTICAST  # a cable that is out is soon in again


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface with its addresses."""

    addresses: tuple[Address, ...]
    is_bridge: bool = False
    """Joins others inside of this machine, mostly containers."""


def reachable(
    host: str,
    look: Callable[[], Sequence[Interface]] | None = None,
    route: Callable[[int], Address | None] | None = None,
) -> tuple[Address, ...]:
    """The addresses at which others reach what listens at `host`; none where it is this machine alone.

    What listens everywhere is reached at the interface with the way to the rest of the network: an address of
    any other one may be seen, but not reached, by whoever is told of it. Where no interface has that way, or
    it is a tunnel, every interface counts; bridges only where there is nothing else.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return ()
    if not address.is_unspecified:
        return () if address.is_loopback or address.is_link_local else (address,)
    version = address.version
    found = {
        interface: tuple(item for item in interface.addresses if item.version == version)
        for interface in (look or interfaces)()
    }
    own = (route or source)(version)
    for addresses in found.values():
        if own in addresses:
            return addresses
    proper = [addresses for interface, addresses in found.items() if not interface.is_bridge]
    return tuple(item for addresses in (proper if any(proper) else found.values()) for item in addresses)


def interfaces() -> list[Interface]:
    """Those that are up and lead to others, without addresses that count on one cable only."""
    import ifaddr  # noqa: PLC0415 - only those who announce pay for it

    found: list[Interface] = []
    try:
        adapters = list(ifaddr.get_adapters())
    except OSError:
        return found
    for adapter in adapters:
        own = (ip_address(item.ip if isinstance(item.ip, str) else item.ip[0]) for item in adapter.ips)
        addresses = tuple(item for item in own if not item.is_loopback and not item.is_link_local)
        if addresses and _leads_to_others(adapter.name):
            is_bridge = Path("/sys/class/net", adapter.name, "bridge").exists()
            found.append(Interface(addresses=addresses, is_bridge=is_bridge))
    return found


def source(version: int) -> Address | None:
    """The address from which this machine speaks to the rest of the network by IPv4 or IPv6."""
    with suppress(OSError), socket.socket(_FAMILIES[version], socket.SOCK_DGRAM) as probe:
        probe.connect((_ELSEWHERE[version], 9))
        return ip_address(probe.getsockname()[0])
    return None


def _leads_to_others(name: str) -> bool:
    """Whether it is up, and no tunnel to a single other machine."""
    if sys.platform != "linux":
        return True
    request = struct.pack("16sH14x", name.encode()[:15], 0)
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        _, flags = struct.unpack("16sH14x", ioctl(probe, _SIOCGIFFLAGS, request))
        return flags & _WANTED == _WANTED and not flags & (_LOOPBACK | _POINT_TO_POINT)
    return False
