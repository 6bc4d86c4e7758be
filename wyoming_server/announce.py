"""Makes the server known in the home network, so that Home Assistant finds it by itself."""

from __future__ import annotations

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
    from wyoming.zeroconf import HomeAssistantZeroconf  # noqa: PLC0415 - only those who announce pay for it

    parts = urlsplit(uri)
    if parts.scheme != "tcp" or parts.port is None:
        raise SettingsError("ZEROCONF needs a URI that begins with tcp://")
    # Home Assistant drops services at the bind-all address; without a host the library finds a real one.
    host = parts.hostname if parts.hostname and not is_unspecified(parts.hostname) else None
    try:
        service = HomeAssistantZeroconf(parts.port, None if name == AUTO else name, host)
        await service.register_server()
    except OSError as error:
        raise SettingsError(f"ZEROCONF: cannot announce the server ({error.strerror or error})") from None
    return service._aiozc.async_close  # noqa: SLF001 - the library has no public way to take it back
