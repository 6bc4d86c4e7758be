"""The API on a real port, and a client that has its token."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.fakes import PATIENCE
from tests.wyoming_server.houses import TOKEN, house_at
from wyoming_server.api.serve import Api
from wyoming_server.build import build_limits, build_server
from wyoming_server.settings import validate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from wyoming_server.house import House
    from wyoming_server.server import WyomingServer

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True, slots=True)
class Running:
    """A house with both of its doors open."""

    house: House
    wyoming: WyomingServer
    api: Api
    client: aiohttp.ClientSession
    """Sends the token to the API's own address."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api.port}"

    async def ask(
        self, method: str, page: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status and the JSON body of the answer."""
        data = body if isinstance(body, str | bytes) else None
        sent = {"data": data} if data is not None else {"json": body} if body is not None else {}
        async with self.client.request(method, page, headers=headers, **sent) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def running(
    path: Path, flags: Mapping[str, str] | None = None, token: str = TOKEN
) -> AsyncIterator[Running]:
    """Its settings are kept at `path`; see house_at."""
    async with house_at(path, flags) as house:
        wyoming = build_server(validate({"URI": "tcp://127.0.0.1:0"}), house.engine)
        house.observe(lambda changed: wyoming.reconfigure(build_limits(changed), changed.key_terms))
        await wyoming.start()
        api = Api(house, token, wyoming)
        await api.start("127.0.0.1", 0)
        timeout = aiohttp.ClientTimeout(PATIENCE)
        try:
            async with aiohttp.ClientSession(
                f"http://127.0.0.1:{api.port}", headers=BEARER, timeout=timeout
            ) as client:
                yield Running(house, wyoming, api, client)
        finally:
            await api.stop()
            await wyoming.stop()
