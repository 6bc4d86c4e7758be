"""What somebody wants to be set otherwise, checked before anything is changed."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from wyoming_server.errors import SettingsError
from wyoming_server.settings import NAMES, WrongSettingError, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wyoming_server.settings import LoadedSettings, Settings
    from wyoming_server.sources import Sources

AFTER_RESTART: Final = frozenset(
    {"URI", "API_HOST", "API_PORT", "API_TOKEN", "API_TRUSTED", "ZEROCONF", "LOG_FORMAT", "SELF_CHECK"}
)
"""The settings that are looked at only when the server starts."""
_MAX_SHOWN: Final = 80
_LOOK_UP_SECONDS: Final = 5.0

_KEYS: Final = {
    "ASSEMBLYAI_STREAMING_URL": ("ASSEMBLYAI_API_KEY",),
    "ASSEMBLYAI_SYNC_URL": ("ASSEMBLYAI_API_KEY",),
    "WHISPER_SERVICE_URL": ("WHISPER_API_KEY", "WHISPER_PROXY_KEY", "WHISPER_PROXY_SECRET"),
}
"""The keys that are sent to each address."""
_ASSEMBLYAI: Final = re.compile(r"(wss|https)://([a-z0-9-]+\.)+assemblyai\.com(:443)?(/.*)?", re.IGNORECASE)
"""The service's own hosts, in any region."""
_SECURE: Final = {"wss": 443, "https": 443}
_PLAIN_PORT: Final = 80


class FixedSettingError(SettingsError):
    """The setting comes from the command line or the environment, which beat what is stored."""

    def __init__(self, name: str, source: str) -> None:
        super().__init__(f"{name} is set by {_place(source)} of the server; change it there")
        self.name = name


def with_changes(sources: Sources, changes: Mapping[str, Any]) -> LoadedSettings:
    """The settings with these values by upper-case names; None takes a stored value away.

    A key that is kept goes to no other address than before. Raises FixedSettingError and WrongSettingError.
    """
    for name in changes:
        if name not in NAMES:
            raise WrongSettingError(name, f"{name[:_MAX_SHOWN]!r} is no setting of this server")
        if name == "SETTINGS_FILE":
            raise WrongSettingError(name, "SETTINGS_FILE cannot be kept in the file that it names")
        if sources.is_fixed(name):
            raise FixedSettingError(name, sources.of(name))
    stored = {name: value for name, value in {**sources.stored, **changes}.items() if value is not None}
    settings = resolve(sources.with_stored(stored))
    for name in _KEYS.keys() & changes.keys():
        _keep_keys(name, sources, changes, settings)
    return settings


def differing(one: Settings, other: Settings) -> list[str]:
    """The names of the settings in which the two differ."""
    return [name for name in NAMES if getattr(one, name.lower()) != getattr(other, name.lower())]


async def check_listening(running: Settings, before: Settings, after: Settings) -> None:
    """Raise WrongSettingError where the changed settings would keep the server from its next start.

    `running` are those that it was started with, so that their ports are its own.
    """
    if after.api_host != before.api_host:
        await _try_to_listen("API_HOST", after.api_host, 0)
    if after.api_port not in {0, before.api_port, running.api_port}:
        await _try_to_listen("API_PORT", after.api_host, after.api_port)
    if after.uri != before.uri:
        parts = urlsplit(after.uri)
        if parts.scheme != "tcp":  # which might end the API for good, and cannot be tried from here
            raise WrongSettingError(
                "URI", "URI can be changed to a tcp:// address; others are given at the start"
            )
        is_ours = parts.port == urlsplit(running.uri).port
        await _try_to_listen("URI", parts.hostname or "", 0 if is_ours else parts.port or 0)


def _keep_keys(name: str, sources: Sources, changes: Mapping[str, Any], settings: LoadedSettings) -> None:
    """Refuse to send a key that the client need not know to an address that it chooses."""
    url = str(getattr(settings, name.lower()))
    if not url or _address(url) == _address(str(sources.values.get(name, ""))) or _ASSEMBLYAI.fullmatch(url):
        return
    kept = [key for key in _KEYS[name] if getattr(settings, key.lower()) and not changes.get(key)]
    for key in kept:
        if sources.is_fixed(key):
            place = _place(sources.of(key))
            raise WrongSettingError(name, f"{key} is set by {place} of the server; change {name} there, too")
    if kept:
        raise WrongSettingError(name, f"give {', '.join(kept)} again together with a new address in {name}")


def _address(url: str) -> tuple[bool, str, int] | None:
    """Whom a connection to that URL reaches, and whether it is encrypted; None where it is none."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or _SECURE.get(parts.scheme, _PLAIN_PORT)
    except ValueError:
        return None
    return parts.scheme in _SECURE, parts.hostname or "", port


async def _try_to_listen(name: str, host: str, port: int) -> None:
    try:
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            await asyncio.to_thread(_bind, host, port)
    except TimeoutError:
        reason = "its name cannot be looked up in time"
    except (OSError, ValueError) as error:  # ValueError: an impossible host
        reason = getattr(error, "strerror", None) or str(error)
    else:
        return
    where = f"{host} port {port}" if port else host
    raise WrongSettingError(name, f"{name}: the server could not listen on {where[:_MAX_SHOWN]} ({reason})")


def _bind(host: str, port: int) -> None:
    """Raise OSError where no address of that host can be listened on."""
    failure = OSError("it has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
        except OSError as error:
            failure = error
        else:
            return
    raise failure


def _place(source: str) -> str:
    return "the command line" if source == "flag" else "the environment"
