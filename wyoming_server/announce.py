"""Makes the server known in the home network, so that Home Assistant finds it by itself."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from modal_whisper.version import __version__
from wyoming_server.errors import SettingsError
from wyoming_server.server import is_unspecified

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wyoming.zeroconf import HomeAssistantZeroconf

AUTO: Final = "auto"
"""The name that stands for this machine's hardware address."""
API_TYPE: Final = "_stt-failover._tcp.local."
"""What the integration looks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiNotice:
    """What is announced of the API."""

    host: str
    """Where it listens; it is announced only where others can reach that."""
    port: int
    server_id: str


async def announce(uri: str, name: str, api: ApiNotice | None = None) -> Callable[[], Awaitable[None]]:
    """Announce a listening address, and the API, over mDNS; returns what takes the announcement back.

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
        if api and (api_host := _reachable(api.host, service.host)):
            await _register_api(service, api_host, api)
    except NonUniqueNameException:
        await withdraw()
        raise SettingsError(f"ZEROCONF: another server in the network is called {service.name!r}") from None
    except (OSError, Error) as error:
        await withdraw()
        raise SettingsError(f"ZEROCONF: cannot announce the name {service.name!r} ({error})") from None
    return withdraw


async def _register_api(service: HomeAssistantZeroconf, host: str, api: ApiNotice) -> None:
    from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415 - see announce

    info = AsyncServiceInfo(
        API_TYPE,
        f"{service.name}.{API_TYPE}",
        addresses=[socket.inet_aton(host)],
        port=api.port,
        # Told after the service then; clients pass over the address of a host that they do not know yet.
        server=f"{api.server_id}.local.",
        properties={"version": __version__, "id": api.server_id, "wyoming_port": str(service.port)},
    )
    await service._aiozc.async_register_service(info)  # noqa: SLF001 - it announces Wyoming alone


def _reachable(host: str, own: str) -> str | None:
    """The IPv4 address by which others reach what listens at `host`, on the machine that is `own`."""
    if is_unspecified(host):
        return own
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return None
    return None if address.is_loopback else str(address)


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
