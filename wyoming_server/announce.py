"""Makes the server known in the home network, so that Home Assistant finds it by itself."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Never
from urllib.parse import urlsplit

from modal_whisper.version import __version__
from wyoming_server.network import reachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

    from wyoming_server.network import Address

_LOGGER = logging.getLogger(__name__)

AUTO: Final = "auto"
"""The name that stands for one made of the server's id."""
WYOMING_TYPE: Final = "_wyoming._tcp.local."
"""What Home Assistant's own integration looks for."""
API_TYPE: Final = "_stt-failover._tcp.local."
"""What ours looks for."""

LOOK_AGAIN_SECONDS: Final = 15.0
"""How soon it is seen that this machine has got another address, or a network at last."""
_MAX_NAME_BYTES: Final = 63
_MAX_ANSWER_MS: Final = 1500.0
"""How long somebody who has a name may take to say so to everybody: at most once a second it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is to be found, and where it listens."""

    kind: str
    """Its type in mDNS."""
    host: str
    port: int
    server: str
    """The host's name in mDNS, of letters, digits and hyphens."""
    properties: dict[str, str] = field(default_factory=dict)


def services(server_id: str, uri: str, api: tuple[str, int] | None = None) -> list[Service]:
    """What is told of a server that listens for Wyoming at `uri`, and for its API at a host and port."""
    parts = urlsplit(uri)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        return []
    # Each with a host name of its own: they may listen at different addresses.
    host = f"stt-failover-{server_id[:12]}"
    told = [Service(kind=WYOMING_TYPE, host=parts.hostname, port=parts.port, server=host)]
    if api:
        properties = {"version": __version__, "id": server_id, "wyoming_port": str(parts.port)}
        told.append(
            Service(kind=API_TYPE, host=api[0], port=api[1], server=f"{host}-api", properties=properties)
        )
    return told


class Announcer:
    """Announces services under one name wherever others can reach them, and follows this machine's addresses.

    Whatever is in the way is logged, tried again, and harms nobody: a server that is not found still answers.
    """

    def __init__(
        self,
        name: str,
        server_id: str,
        told: Sequence[Service],
        *,
        reach: Callable[[str], tuple[Address, ...]] = reachable,
        speak: Callable[[list[str]], AsyncZeroconf] | None = None,
        ask: Callable[[AsyncZeroconf, str, str], Awaitable[bool]] | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        given = "" if name == AUTO else _label(name)
        own = given or f"stt-failover-{server_id[:8]}"
        self._names = (own, _label(own, f"-{server_id[:6]}"))
        self._is_given = bool(given)
        self._services = told
        self._reach = reach
        self._speak = speak or _speak
        self._ask = ask or _is_taken
        self._pause = pause
        self._mdns: AsyncZeroconf | None = None
        self._complaint = ""

    async def run(self) -> Never:
        """Keep everything announced until it is cancelled, then take it back."""
        announced: list[tuple[Service, tuple[Address, ...]]] | None = None
        try:
            while True:
                plan = [
                    (service, where) for service in self._services if (where := self._reach(service.host))
                ]
                if plan != announced:
                    await self._withdraw()
                    announced = plan if await self._announce(plan) else None
                await self._pause(LOOK_AGAIN_SECONDS)
        finally:
            await self._withdraw()

    async def _announce(self, plan: Sequence[tuple[Service, tuple[Address, ...]]]) -> bool:
        from zeroconf import Error, NonUniqueNameException  # noqa: PLC0415 - only who announces pays for it

        if not plan:
            self._complain("there is no address here that others can reach it at")
            return False
        where = sorted({str(address) for _, addresses in plan for address in addresses})
        for name in self._names:
            try:
                self._mdns = self._speak(where)
                if name == self._names[0] and self._is_given:
                    await self._look_for(name)
                infos = [_info(name, service, addresses) for service, addresses in plan]
                # Each ends when its name has been found to be free, and then tells everybody.
                telling = [await self._mdns.async_register_service(info) for info in infos]
                await asyncio.gather(*telling)
            except NonUniqueNameException:
                await self._withdraw()
                self._complain(f"another server in the network is called {name!r}")
            except (OSError, RuntimeError, Error) as error:
                await self._withdraw()
                self._complain(str(error) or type(error).__name__)
                return False
            else:
                _LOGGER.info("announced in the network as %r at %s", name, ", ".join(where))
                self._complaint = ""
                return True
        return False

    async def _look_for(self, name: str) -> None:
        """Raise NonUniqueNameException where another server has this name.

        Registering looks, too, but not well enough for two servers of one machine: either may get the answer.
        """
        from zeroconf import NonUniqueNameException  # noqa: PLC0415 - see above

        assert self._mdns  # noqa: S101 - whoever asks can speak
        asking = [self._ask(self._mdns, service.kind, name) for service in self._services]
        if any(await asyncio.gather(*asking)):
            raise NonUniqueNameException

    async def _withdraw(self) -> None:
        """Say goodbye, so that nobody goes on to show what is gone."""
        mdns, self._mdns = self._mdns, None
        if mdns:
            try:
                await mdns.async_close()
            except (OSError, RuntimeError) as error:
                _LOGGER.debug("no goodbye in the network (%s)", error)

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            _LOGGER.warning("the server is not announced in the network: %s", complaint)


def _label(name: str, ending: str = "") -> str:
    """A name as one label of mDNS: a dot would end it, and it has 63 bytes."""
    words = " ".join(re.sub(r"[\x00-\x1f\x7f.]", " ", name).split())
    room = _MAX_NAME_BYTES - len(ending.encode())
    return words.encode()[:room].decode(errors="ignore").rstrip() + ending


def _info(name: str, service: Service, addresses: Sequence[Address]) -> ServiceInfo:
    from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415 - see above

    return AsyncServiceInfo(
        service.kind,
        f"{name}.{service.kind}",
        parsed_addresses=[str(address) for address in addresses],
        port=service.port,
        server=f"{service.server}.local.",
        properties=service.properties,
    )


async def _is_taken(mdns: AsyncZeroconf, kind: str, name: str) -> bool:
    from zeroconf import DNSQuestionType  # noqa: PLC0415 - see above
    from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415 - see above

    info = AsyncServiceInfo(kind, f"{name}.{kind}")
    return await info.async_request(mdns.zeroconf, _MAX_ANSWER_MS, question_type=DNSQuestionType.QM)


def _speak(addresses: list[str]) -> AsyncZeroconf:
    from zeroconf.asyncio import AsyncZeroconf  # noqa: PLC0415 - see above

    return AsyncZeroconf(interfaces=addresses)
