"""Reaching a service over HTTP, with every way to fail turned into the right BackendError."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from wyoming_server.errors import (
    BackendError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from yarl import URL

_CLOSE_TIMEOUT = 1.0
"""Seconds to wait for the peer's half of the closing handshake."""


def new_session() -> aiohttp.ClientSession:
    """A session for all backends: keys and voices go where the settings say, however a service redirects."""
    connector = aiohttp.TCPConnector(limit=0)  # the number of utterances is what is limited
    return aiohttp.ClientSession(connector=connector, middlewares=[_stay_there])


async def _stay_there(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    response = await handler(request)
    if response.status // 100 == HTTPStatus.MULTIPLE_CHOICES // 100:
        response.close()
        raise aiohttp.TooManyRedirects(response.request_info, (), status=response.status)
    return response


async def open_socket(
    session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], within: float
) -> aiohttp.ClientWebSocketResponse:
    """Open a WebSocket `within` seconds; raises UnreachableError and its kin."""
    try:
        async with asyncio.timeout(within):
            return await session.ws_connect(
                url, headers=headers, timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT)
            )
    except TimeoutError:
        raise UnreachableError(f"no connection within {within:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise error_for_failure(error) from None


async def close_socket(web_socket: aiohttp.ClientWebSocketResponse) -> None:
    """Close it in little more than a second, and let go of it even if the peer takes nothing any more."""
    raw = web_socket.get_extra_info("socket")
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * _CLOSE_TIMEOUT):
                await web_socket.close()
    finally:
        if raw is not None:
            with suppress(OSError):  # closed already
                raw.shutdown(socket.SHUT_RDWR)  # what could not be sent would keep it open


def error_for_failure(error: aiohttp.ClientError | OSError) -> BackendError:
    """The error that a connection that cannot be made, is answered otherwise, or broke, stands for."""
    match error:
        case aiohttp.WSServerHandshakeError(status=status, headers=headers):
            return error_for_status(status, headers.get("Retry-After") if headers else None)
        case aiohttp.TooManyRedirects(status=status):
            return error_for_status(status, None)
        case aiohttp.ClientConnectorCertificateError():
            return UnreachableError("its TLS certificate is not trusted")
        case aiohttp.ClientConnectorDNSError():
            return UnreachableError("its host name cannot be resolved")
        case _:
            return UnreachableError(
                f"cannot connect ({getattr(error, 'strerror', None) or type(error).__name__})"
            )


def error_for_status(status: int, retry_after: str | None) -> BackendError:
    """The error that an HTTP status other than success stands for."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN):
        return SignInRefusedError(f"sign-in refused (HTTP {status})")
    # The other form, a date, is not worth a parser here.
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError("too many requests (HTTP 429)", seconds)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return OverloadedError(f"the service has a fault (HTTP {status})", seconds)
    return RejectedError(f"the service does not take the request (HTTP {status}); check its URL")


class BackgroundTasks:
    """Work that goes on after the answer has left, such as ending a session, until it is waited for."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, work: Coroutine[None, None, None]) -> None:
        """Run the coroutine without waiting for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Return when all of it is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)
