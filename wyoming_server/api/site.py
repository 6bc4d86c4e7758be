"""The status page: static files that anybody may read; what they show needs the token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from wyoming_server.api.refusals import refusal_of

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

FOLDER: Final = "/page/"
"""Where the page's files are; all of them are open."""
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""No inline code, no other site. Home Assistant shows the page in a frame under its own address."""
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    kind: str
    etag: str


class Site:
    """The files of the page, read once."""

    def __init__(self, folder: Traversable | None = None) -> None:
        folder = folder or resources.files("wyoming_server.api") / "page"
        self._files = {item.name: _read(item) for item in folder.iterdir() if _suffix(item.name) in _TYPES}

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        router.add_get("/", self._index)
        router.add_get(FOLDER + "{name}", self._file)

    async def _index(self, request: web.Request) -> web.Response:
        return self._answer(request, _INDEX)

    async def _file(self, request: web.Request) -> web.Response:
        return self._answer(request, request.match_info["name"])

    def _answer(self, request: web.Request, name: str) -> web.Response:
        file = self._files.get(name)
        if file is None:
            return refusal_of(web.HTTPNotFound()).answer()
        headers = {**_HEADERS, hdrs.ETAG: f'"{file.etag}"'}
        if any(tag.value in {file.etag, "*"} for tag in request.if_none_match or ()):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=file.content, content_type=file.kind, charset="utf-8", headers=headers)


def is_open(path: str) -> bool:
    """Whether this is one of the page's addresses, which need no token."""
    return path == "/" or path.startswith(FOLDER)


def _read(item: Traversable) -> _File:
    content = item.read_bytes()
    return _File(content, _TYPES[_suffix(item.name)], hashlib.sha256(content).hexdigest()[:32])


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
