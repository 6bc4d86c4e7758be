"""The one door to all pages: who may come in, and every refusal as JSON."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from wyoming_server.api.attempts import Attempts
from wyoming_server.api.refusals import ApiError, internal, refusal_of
from wyoming_server.api.site import is_open

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

_LOGGER = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 64 * 1024
PROTOCOL: Final = "stt-failover"
"""The subprotocol of every WebSocket here."""
_BEARER: Final = "bearer."
_ENCODED: Final = "bearer64."
"""Before a token with characters that cannot stand in a subprotocol, in base64url."""
_UNGUESSABLE: Final = 32
"""Characters of a token that nobody guesses at any rate."""
_OPEN_PAGES: Final = frozenset({"/health"})


class Guard:
    """Lets those in who have the token, or ask from a `trusted` address; `clock` gives seconds."""

    def __init__(self, token: str, clock: Callable[[], float], trusted: Iterable[str] = ()) -> None:
        self._trusted = frozenset(trusted)
        self._token = token.encode()
        self._attempts = Attempts(clock)

    @property
    def middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """What the application calls for each request."""

        @web.middleware
        async def guard(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            try:
                self._admit(request)
                return await handler(request)
            except ApiError as error:
                return error.answer()
            except web.HTTPException as error:
                return refusal_of(error).answer()
            except ConnectionError:
                raise
            except Exception:
                _LOGGER.exception("the API has a defect at %s", request.rel_url.raw_path[:80])
                return internal().answer()

        return guard

    def want_token(self, request: web.Request) -> None:
        """Raise ApiError where a client is let in by its address alone: it need not be the owner."""
        if not self._is_right(_token_of(request)):
            raise ApiError(
                HTTPStatus.FORBIDDEN,
                "forbidden",
                "settings want the token, from this address too",
            )

    def _admit(self, request: web.Request) -> None:
        if _address_of(request) in self._trusted:
            self._bound(request)
            return  # a proxy has asked who it is, and hides under which address
        if _is_from_elsewhere(request):
            raise ApiError(
                HTTPStatus.FORBIDDEN, "forbidden", "a page of another site asks; open the API's own address"
            )
        if request.path not in _OPEN_PAGES and not is_open(request.path):
            self._authenticate(request)
        self._bound(request)

    def _bound(self, request: web.Request) -> None:
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise refusal_of(web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, 0))

    def _is_right(self, token: str | None) -> bool:
        return token is not None and hmac.compare_digest(token.encode(errors="replace"), self._token)

    def _authenticate(self, request: web.Request) -> None:
        given = _token_of(request)
        is_right = self._is_right(given)
        if is_right and len(self._token) >= _UNGUESSABLE:
            return  # nobody can lock out who has it, from the same address
        address = request.remote or ""
        if wait := self._attempts.wait(address):
            raise ApiError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-attempts",
                f"too many wrong tokens from your address; try again in {math.ceil(wait)} s",
                headers={hdrs.RETRY_AFTER: str(math.ceil(wait))},
            )
        if is_right:
            return
        if given is not None:
            self._attempts.fail(address)
        raise ApiError(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "the token is missing or wrong; the server printed it at its first start and keeps it in its "
            "settings file",
            headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
        )


def protocols_of(request: web.Request) -> list[str]:
    """The subprotocols that the client offers."""
    offered = ",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, []))
    return [item.strip() for item in offered.split(",") if item.strip()]


def _address_of(request: web.Request) -> str | None:
    """Whose connection it is, as the setting spells it; what a header claims does not count."""
    try:
        address = ipaddress.ip_address(request.remote or "")
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _token_of(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    offered = protocols_of(request)
    tokens = [item.removeprefix(_BEARER) for item in offered if item.startswith(_BEARER)]
    tokens += [_decoded(item.removeprefix(_ENCODED)) for item in offered if item.startswith(_ENCODED)]
    return tokens[0] if tokens and PROTOCOL in offered else None


def _decoded(text: str) -> str:
    """What stands in base64url, with or without its padding; empty, which no token is, for anything else."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _is_from_elsewhere(request: web.Request) -> bool:
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != request.headers.get(hdrs.HOST, "").lower()
    except ValueError:
        return True
