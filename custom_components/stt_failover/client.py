"""The client of the server's API; knows nothing of Home Assistant. Every error is a ServerError."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from yarl import URL

from . import models
from .errors import (
    CannotConnectError,
    RejectedError,
    TooManyAttemptsError,
    UnauthorizedError,
    UnexpectedAnswerError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping

    from .read import Json

TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
TEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=40)
"""Trying backends takes the server up to 30 s."""
HANDSHAKE: Final = 10.0
"""Seconds for the feed of events to be opened."""
HEARTBEAT: Final = 20.0
"""Seconds after which a silent feed is asked whether it still lives."""
MAX_EVENT: Final = 1 << 20
"""Bytes of one event of the feed; the server's are far smaller."""


class Client:
    """One server; `session` belongs to the caller."""

    def __init__(self, session: aiohttp.ClientSession, host: str, port: int, token: str) -> None:
        self._session = session
        self._url = URL.build(scheme="http", host=host, port=port)
        self._token = token

    async def health(self) -> models.Health:
        """Ask who answers. The token is not sent: it may be somebody else."""
        return models.Health.from_json(await self._request("GET", "/health", is_signed=False))

    async def status(self) -> models.Status:
        """Ask how everything is."""
        return models.Status.from_json(await self._request("GET", "/api/status"))

    async def config(self) -> models.Config:
        """Ask for the settings."""
        return models.Config.from_json(await self._request("GET", "/api/config"))

    async def update_config(self, settings: Mapping[str, Any]) -> models.Config:
        """Change settings, all or none; None takes a stored value away."""
        body = {"settings": dict(settings)}
        return models.Config.from_json(await self._request("PATCH", "/api/config", body))

    async def test(
        self, backends: Iterable[str] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[models.TestResult]:
        """Try backends (all enabled ones) on a recording, with `settings` before those that are stored."""
        body: dict[str, Any] = {}
        if backends is not None:
            body["backends"] = list(backends)
        if settings:
            body["settings"] = dict(settings)
        return models.test_results(await self._request("POST", "/api/test", body, TEST_TIMEOUT))

    async def warm(self) -> None:
        """Let every backend get ready."""
        await self._request("POST", "/api/warm")

    async def close_breakers(self) -> models.Status:
        """Have every backend asked again."""
        return models.Status.from_json(await self._request("POST", "/api/close-breakers"))

    async def traces(self) -> list[Json]:
        """Ask for the latest utterances, newest last."""
        return models.traces(await self._request("GET", "/api/traces"))

    async def events(self) -> AsyncGenerator[models.Status | models.Happening]:
        """What happens, as it happens, the status first. Ends by an error only."""
        try:
            async with asyncio.timeout(HANDSHAKE):
                socket = await self._session.ws_connect(
                    self._url / "api/events",
                    headers=self._headers(),
                    heartbeat=HEARTBEAT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1),
                    max_msg_size=MAX_EVENT,
                )
            try:
                async for message in socket:
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        continue
                    try:
                        data = message.json()
                    except ValueError:
                        raise UnexpectedAnswerError("the server sent an event that is no JSON") from None
                    if (event := models.event(_as_object(data))) is not None:
                        yield event
            finally:
                await socket.close()
        except aiohttp.WSServerHandshakeError as error:
            retry_after = error.headers.get("Retry-After") if error.headers else None
            raise _refusal(error.status, {}, retry_after) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise CannotConnectError(_reason(error)) from None
        raise CannotConnectError("the server has closed the feed of events")

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    async def _request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        timeout: aiohttp.ClientTimeout = TIMEOUT,  # noqa: ASYNC109 - aiohttp bounds it, phase by phase
        *,
        is_signed: bool = True,
    ) -> Json:
        try:
            async with self._session.request(
                method,
                self._url.with_path(path),
                headers=self._headers() if is_signed else None,
                json=body,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                status, retry_after = response.status, response.headers.get("Retry-After")
                try:
                    data = await response.json(content_type=None)
                except ValueError:
                    data = None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise CannotConnectError(_reason(error)) from None
        if status not in (HTTPStatus.OK, HTTPStatus.ACCEPTED):
            raise _refusal(status, data if isinstance(data, dict) else {}, retry_after)
        return _as_object(data)


def _as_object(data: object) -> Json:
    if not isinstance(data, dict):
        raise UnexpectedAnswerError("what answers there is no stt-failover server")
    return data


def _refusal(status: int, data: Json, retry_after: str | None) -> Exception:
    message = str(data.get("error", f"the server answered {status}"))
    if status == HTTPStatus.UNAUTHORIZED:
        return UnauthorizedError(message)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return TooManyAttemptsError(message, _seconds(retry_after))
    if isinstance(code := data.get("code"), str):
        setting = data.get("setting")
        return RejectedError(message, code, setting if isinstance(setting, str) else None)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return CannotConnectError(message)
    return UnexpectedAnswerError(message)


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
