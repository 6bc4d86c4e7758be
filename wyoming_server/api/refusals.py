"""How the API says no: a status, a code that programs go by, and one line for people."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from modal_whisper.errors import SttError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_TOLD: Final = {
    HTTPStatus.NOT_FOUND: ("not-found", "there is no such page; docs/api.md has them all"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("not-allowed", "the page is not for this method"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("too-large", "the body is larger than 64 KiB"),
}


class ApiError(SttError):
    """A request is refused; `fields` are told besides."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message)
        self._status = status
        self._body = {"error": message, "code": code, **fields}
        self._headers = headers

    def answer(self) -> web.Response:
        """What the client gets."""
        return answer(self._body, self._status, self._headers)


def answer(
    body: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON that nobody may keep for later."""
    return web.json_response(body, status=status, headers={**_HEADERS, **(headers or {})})


def bad_request(message: str) -> ApiError:
    """What was sent cannot be understood."""
    return ApiError(HTTPStatus.BAD_REQUEST, "bad-request", message)


def internal() -> ApiError:
    """A fault of ours."""
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the server failed; its log has the details"
    )


def refusal_of(error: web.HTTPException) -> ApiError:
    """What aiohttp has refused by itself, in our form."""
    status = HTTPStatus(error.status)
    code, message = _TOLD.get(status, ("bad-request", f"HTTP {status.value}: {status.phrase}"))
    allowed = error.headers.get("Allow")
    return ApiError(status, code, message, headers={"Allow": allowed} if allowed else None)
