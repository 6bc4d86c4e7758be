"""Who this server is, and what lets a client in; both are made at the first start and kept."""

from __future__ import annotations

import logging
import secrets
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wyoming_server.settings import resolve
from wyoming_server.store import Kept, StoreError

if TYPE_CHECKING:
    from wyoming_server.settings import LoadedSettings
    from wyoming_server.store import Store

_LOGGER = logging.getLogger(__name__)
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """The server's own name among others, and the token of its API."""

    server_id: str
    """32 hexadecimal digits."""
    token: str = field(repr=False)
    is_new: bool
    """Whether the token was made just now, so that nobody can know it."""
    is_kept: bool = True
    """Whether both will be the same after a restart."""


def keep_id(store: Store) -> str:
    """The server's id alone, made and kept where there is none; a token is for those who have an API."""
    kept = store.read()
    own_id = kept.server_id or uuid.uuid4().hex
    if not kept.server_id:
        try:
            store.write(Kept(kept.settings, own_id))
        except StoreError as error:
            _LOGGER.warning("%s; the server's id will be another after a restart", error)
    return own_id


def establish(settings: LoadedSettings, store: Store) -> tuple[LoadedSettings, Identity]:
    """The server's identity, made and kept where there is none, and the settings with its token.

    Where it cannot be kept, it lasts until the server stops, and the log says why. Raises StoreError where
    the file cannot be read.
    """
    kept = store.read()
    stored = dict(kept.settings)
    server_id = kept.server_id or uuid.uuid4().hex
    is_new = not settings.api_token
    token = settings.api_token or secrets.token_urlsafe(_TOKEN_BYTES)
    if is_new:
        stored["API_TOKEN"] = token
    is_kept = True
    if is_new or not kept.server_id:
        try:
            store.write(Kept(stored, server_id))
        except StoreError as error:
            is_kept = False
            _LOGGER.warning("%s; the server's id and token will be others after a restart", error)
    else:
        store.back_up(at_once=True)
    settings = resolve(settings.sources.with_stored(stored))
    return settings, Identity(server_id, token, is_new, is_kept)
