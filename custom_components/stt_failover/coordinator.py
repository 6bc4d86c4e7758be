"""Keeps the server's feed of events open: the status is pushed, nothing is polled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Never, override

from awesomeversion import AwesomeVersion, AwesomeVersionException
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_HOST, CONF_PORT, CONF_TOKEN
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryAuthFailed
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed

from .client import Client
from .const import BACKENDS, DOMAIN, LOGGER, MIN_SERVER_VERSION
from .errors import ServerError, TooManyAttemptsError, UnauthorizedError
from .exceptions import explanation
from .issues import Issues
from .models import Happening, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds before the feed is opened again: doubled from the first to the longest while the server is away."""
PAUSE: Final = asyncio.sleep

type SttFailoverConfigEntry = ConfigEntry[SttFailoverCoordinator]


class SttFailoverCoordinator(DataUpdateCoordinator[Status]):
    """The status of one server, as the server pushes it."""

    config_entry: SttFailoverConfigEntry

    def __init__(self, hass: HomeAssistant, entry: SttFailoverConfigEntry) -> None:
        super().__init__(hass, LOGGER, config_entry=entry, name=entry.title)
        self.host: str = entry.data[CONF_HOST]
        self.client = client_of(hass, entry.data)
        self.issues = Issues(hass, entry)
        self.feed_is_open = False
        self.remembered_order: tuple[str, ...] = BACKENDS
        """Of the backends, those included that somebody has switched off."""
        self._happening_listeners: list[Callable[[Happening], None]] = []

    @property
    def server_id(self) -> str:
        """What identifies the server for its life."""
        return self.data.id

    @callback
    def async_follow(self) -> None:
        """Open the feed of events, for as long as the entry is loaded."""
        self.config_entry.async_create_background_task(self.hass, self._follow(), f"{DOMAIN} feed of events")

    @callback
    def async_add_happening_listener(self, listener: Callable[[Happening], None]) -> CALLBACK_TYPE:
        """Have `listener` called with every utterance, failover, recovery and budget; gives its end."""
        self._happening_listeners.append(listener)

        @callback
        def remove() -> None:
            self._happening_listeners.remove(listener)

        return remove

    @callback
    @override
    def async_set_updated_data(self, data: Status) -> None:
        """Take a status over: from the feed, or as the answer to a request."""
        if not self.last_update_success:
            LOGGER.info("%s is back", self.name)
        if data.version != self.data.version:
            self._keep_version(data.version)
        super().async_set_updated_data(data)
        self.issues.update(data)

    @override
    async def _async_update_data(self) -> Status:
        """Ask once: at setup, and where a person asks for an update."""
        try:
            await self._check_server()
            status = await self.client.status()
        except UnauthorizedError as error:
            raise ConfigEntryAuthFailed(**explanation(error)) from error
        except TooManyAttemptsError as error:
            raise UpdateFailed(**explanation(error), retry_after=error.retry_after) from error
        except ServerError as error:
            raise UpdateFailed(**explanation(error)) from error
        self.issues.update(status)
        return status

    async def _check_server(self) -> None:
        """Raise UpdateFailed where another server answers there, or one that is too old."""
        health = await self.client.health()
        if health.id != self.config_entry.unique_id:
            raise UpdateFailed(
                translation_domain=DOMAIN,
                translation_key="wrong_server",
                translation_placeholders={"host": self.host},
            )
        if is_too_old(health.version):
            self.issues.server_too_old(health.version)
            raise UpdateFailed(
                translation_domain=DOMAIN,
                translation_key="server_too_old",
                translation_placeholders={"version": health.version, "minimum": MIN_SERVER_VERSION},
            )
        self.issues.server_is_new_enough()

    async def _follow(self) -> Never:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._check_server()
                async for event in self.client.events():
                    if isinstance(event, Status):
                        pause = FIRST_PAUSE
                        self.feed_is_open = True
                        self.async_set_updated_data(event)
                    else:
                        self._tell(event)
            except UnauthorizedError as error:
                self._lost(error)
                pause = LONGEST_PAUSE
            except TooManyAttemptsError as error:
                self._lost(error)
                pause = max(pause, error.retry_after or 0)
            except (ServerError, UpdateFailed) as error:
                self._lost(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the feed must go on
                LOGGER.exception("The feed of events has a defect")
                self._lost(error)
            await PAUSE(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    @callback
    def _keep_version(self, version: str) -> None:
        devices = dr.async_get(self.hass)
        identifier = (DOMAIN, self.server_id)
        if device := devices.async_get_device_by_identifier(identifier, self.config_entry.entry_id):
            devices.async_update_device(device.id, sw_version=version)

    @callback
    def _lost(self, error: Exception) -> None:
        self.feed_is_open = False
        if isinstance(error, UnauthorizedError) and not isinstance(self.last_exception, UnauthorizedError):
            self.config_entry.async_start_reauth(self.hass)
        self.async_set_update_error(error)

    @callback
    def _tell(self, happening: Happening) -> None:
        for listener in tuple(self._happening_listeners):
            listener(happening)


def client_of(hass: HomeAssistant, data: Mapping[str, Any]) -> Client:
    """Make a client from what an entry holds; raises ValueError where the host cannot be one."""
    return Client(async_get_clientsession(hass), data[CONF_HOST], data[CONF_PORT], data[CONF_TOKEN])


def is_too_old(version: str) -> bool:
    """Whether a server of this version has another API; one whose version nobody can read has not."""
    try:
        return AwesomeVersion(version) < AwesomeVersion(MIN_SERVER_VERSION)
    except AwesomeVersionException:
        return False
