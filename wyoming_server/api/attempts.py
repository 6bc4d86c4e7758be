"""Who has tried wrong tokens too often; pure, the clock is given."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ALLOWED: Final = 10
_WINDOW_SECONDS: Final = 60.0
_ADDRESSES: Final = 1024
_IPV6_PREFIX: Final = 64
"""What one household or one stranger gets."""


class Attempts:
    """Remembers wrong tokens by address, of the latest 1024 addresses; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until that address may try again; 0 where it may now."""
        failures = self._failures.get(network_of(address))
        if failures is None or len(failures) < _ALLOWED:
            return 0.0
        return max(failures[0] + _WINDOW_SECONDS - self._clock(), 0.0)

    def fail(self, address: str) -> None:
        """That address has tried a wrong token."""
        network = network_of(address)
        self._failures.setdefault(network, deque(maxlen=_ALLOWED)).append(self._clock())
        self._failures.move_to_end(network)
        while len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)


def network_of(address: str) -> str:
    """The address itself, or of an IPv6 address the network that one stranger has at least."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, ipaddress.IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
