"""The pages of the API, see docs/api.md."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from modal_whisper.version import __version__
from wyoming_server.api import config
from wyoming_server.api.feed import Feed, SlowReaderError
from wyoming_server.api.refusals import ApiError, answer, bad_request
from wyoming_server.api.status import status
from wyoming_server.changes import FixedSettingError
from wyoming_server.errors import SettingsError
from wyoming_server.settings import BACKENDS, WrongSettingError
from wyoming_server.store import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from wyoming_server.api.sockets import Sockets
    from wyoming_server.house import House

_LOGGER = logging.getLogger(__name__)

_BODY_SECONDS: Final = 10.0
_MOST_TESTS: Final = 8
_SEND_SECONDS: Final = 10.0
"""For a client of the feed to take a message."""


class Pages:
    """Of one house.

    `wyoming_uri` tells where its Wyoming server listens; `want_token` raises ApiError for who lacks it.
    """

    def __init__(
        self,
        house: House,
        sockets: Sockets,
        wyoming_uri: Callable[[], str],
        want_token: Callable[[web.Request], None],
    ) -> None:
        self._house = house
        self._sockets = sockets
        self._wyoming_uri = wyoming_uri
        self._want_token = want_token
        self._tests = 0
        self._feed = Feed(self._status_body, house.history)
        house.listen(self._feed)
        house.observe(lambda _: self._feed.poke())

    async def health(self, _: web.Request) -> web.Response:
        """GET /health."""
        return answer({"status": "ok", "version": __version__, "id": self._house.server_id})

    async def status(self, _: web.Request) -> web.Response:
        """GET /api/status."""
        return answer(self._status_body())

    async def traces(self, _: web.Request) -> web.Response:
        """GET /api/traces."""
        return answer({"traces": [dated.as_json() for dated in self._house.history.latest]})

    async def day(self, _: web.Request) -> web.Response:
        """GET /api/day."""
        return answer({"hours": [hour.as_json() for hour in self._house.hours.latest]})

    async def config(self, _: web.Request) -> web.Response:
        """GET /api/config."""
        return answer({"settings": config.shown(self._house.settings)})

    async def change_config(self, request: web.Request) -> web.Response:
        """PATCH /api/config."""
        self._want_token(request)
        changes = config.changes_in(await _body(request))
        async with _refusing(changes):
            restart = await self._house.change(changes)
        return answer({"settings": config.shown(self._house.settings), "restart": restart})

    async def test(self, request: web.Request) -> web.Response:
        """POST /api/test."""
        body = await _body(request)
        names = config.names_in(body, BACKENDS)
        changes = config.changes_in(body, is_required=False)
        if changes:
            self._want_token(request)
        if self._tests >= _MOST_TESTS:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too-many-tests",
                f"{_MOST_TESTS} tests run or wait already; try again later",
            )
        self._tests += 1
        try:
            async with _refusing(changes):
                verdicts = await self._house.try_out(names, changes)
        finally:
            self._tests -= 1
        return answer({"results": [_rounded(asdict(verdict)) for verdict in verdicts]})

    async def warm(self, _: web.Request) -> web.Response:
        """POST /api/warm."""
        self._house.engine.warm()
        return answer({}, HTTPStatus.ACCEPTED)

    async def close_breakers(self, _: web.Request) -> web.Response:
        """POST /api/close-breakers."""
        self._house.engine.close_breakers()
        return answer(self._status_body())

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET /api/events, a WebSocket."""
        async with self._sockets.open(request) as socket:
            telling = asyncio.create_task(self._tell(socket, request), name="tell a client what happens")
            try:
                with suppress(ConnectionError):
                    async for _ in socket:  # it need not say anything
                        pass
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
        return socket

    async def _tell(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        try:
            with self._feed.subscription() as subscription:
                while True:
                    message = await subscription.next()
                    async with asyncio.timeout(_SEND_SECONDS):
                        await socket.send_json(message)
        except (SlowReaderError, TimeoutError):
            _LOGGER.info("a client of the feed does not read; it is dropped")
        except ConnectionError:
            _LOGGER.debug("a client of the feed has left")
        except Exception:
            _LOGGER.exception("the feed has a defect")
        if request.transport:  # to close it would be to wait for a client that does not read
            request.transport.abort()

    def _status_body(self) -> dict[str, Any]:
        return status(self._house, self._wyoming_uri())


async def _body(request: web.Request) -> dict[str, Any]:
    """What a client has sent; nothing counts as an empty object. Raises ApiError and 413."""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            raw = await request.read()
        body = json.loads(raw) if raw.strip() else {}
    except TimeoutError:
        raise bad_request(f"the body did not come within {_BODY_SECONDS:g} s") from None
    except web.RequestPayloadError:
        raise bad_request("the body is not encoded as its headers say") from None
    except (ValueError, RecursionError):
        raise bad_request("the body is no JSON") from None
    if not isinstance(body, dict):
        raise bad_request("the body must be one JSON object")
    return body


@asynccontextmanager
async def _refusing(changes: Mapping[str, Any]) -> AsyncIterator[None]:
    """Turn what is wrong with settings into what a client is told."""
    try:
        yield
    except StoreError as error:
        _LOGGER.error("settings could not be kept: %s", error)  # noqa: TRY400 - the line says it all
        raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", str(error)) from None
    except FixedSettingError as error:
        raise ApiError(HTTPStatus.CONFLICT, "fixed-setting", str(error), setting=error.name) from None
    except SettingsError as error:
        name = error.name if isinstance(error, WrongSettingError) else next(iter(changes), None)
        raise ApiError(HTTPStatus.BAD_REQUEST, "bad-setting", str(error), setting=name) from None


def _rounded(verdict: dict[str, Any]) -> dict[str, Any]:
    ms = verdict["ms"]
    return {**verdict, "ms": None if ms is None else round(ms, 1)}
