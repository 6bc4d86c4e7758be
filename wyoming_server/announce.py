"""Makes the server known in the home network, so that Home Assistant finds it by itself."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from wyoming_server.errors import SettingsError
from wyoming_server.server import is_unspecified

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

AUTO: Final = "auto"
"""The name that stands for this machine's hardware address."""


async def announce(uri: str, name: str) -> Callable[[], Awaitable[None]]:
    """Announce a listening address over mDNS; returns what takes the announcement back.

    Raises SettingsError where that is not possible.
    """
    # Only those who announce pay for these imports.
    from wyoming.zeroconf import HomeAssistantZeroconf  # noqa: PLC0415
    from zeroconf import Error, NonUniqueNameException  # noqa: PLC0415

    host, port = _address(uri)
    try:
        service = HomeAssistantZeroconf(port, None if name == AUTO else name, host)
    except OSError as error:
        raise SettingsError(
            f"ZEROCONF: cannot use the network of this machine ({error.strerror or error})"
        ) from None
    withdraw = service._aiozc.async_close  # noqa: SLF001 - the library has no public way to take it back
    try:
        await service.register_server()
    except NonUniqueNameException:
        await withdraw()
        raise SettingsError(f"ZEROCONF: another server in the network is called {service.name!r}") from None
    except (OSError, Error) as error:
        await withdraw()
        raise SettingsError(f"ZEROCONF: cannot announce the name {service.name!r} ({error})") from None
    return withdraw


def _address(uri: str) -> tuple[str | None, int]:
    """The host and port to announce; None for the host leaves it to the library to find one."""
    parts = urlsplit(uri)
    host = parts.hostname or ""
    try:
        # Home Assistant drops services at the bind-all address.
        known = None if is_unspecified(host) else str(ipaddress.IPv4Address(host))
    except ValueError:
        known = ""
    if not parts.port or known == "":
        raise SettingsError(
            "ZEROCONF needs a URI with an IPv4 address and a port, such as tcp://0.0.0.0:10300"
        )
    return known, parts.port
