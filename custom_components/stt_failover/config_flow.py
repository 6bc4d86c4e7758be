"""Sets a server up: found or typed in, then the keys of its backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, override

import probatio
from homeassistant.config_entries import (
    SOURCE_HASSIO,
    SOURCE_IGNORE,
    SOURCE_RECONFIGURE,
    SOURCE_ZEROCONF,
    ConfigFlow,
    ConfigFlowResult,
)
from homeassistant.const import CONF_HOST, CONF_PORT, CONF_TOKEN
from homeassistant.core import callback
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)

from . import keys
from .const import DEFAULT_PORT, DOMAIN, LOGGER, MIN_SERVER_VERSION, TITLE, WYOMING_PORT
from .coordinator import client_of, is_too_old
from .errors import RejectedError, ServerError
from .exceptions import explanation
from .moves import answers_still, rename_server
from .options_flow import SttFailoverOptionsFlow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from homeassistant.helpers.service_info.hassio import HassioServiceInfo
    from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo

    from .client import Client
    from .coordinator import SttFailoverConfigEntry
    from .models import Config

_TOKEN: Final = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD))
_ADDRESS: Final = {
    probatio.Required(CONF_HOST): TextSelector(),
    probatio.Required(CONF_PORT, default=DEFAULT_PORT): probatio.All(
        NumberSelector(NumberSelectorConfig(min=1, max=65535, mode=NumberSelectorMode.BOX)),
        probatio.Coerce(int),
    ),
}
_USER: Final = probatio.Schema(_ADDRESS | {probatio.Required(probatio.Secret(CONF_TOKEN)): _TOKEN})
_CONNECTION: Final = probatio.Schema(_ADDRESS | {probatio.Optional(probatio.Secret(CONF_TOKEN)): _TOKEN})
_ONLY_TOKEN: Final = probatio.Schema({probatio.Required(probatio.Secret(CONF_TOKEN)): _TOKEN})


class SttFailoverConfigFlow(ConfigFlow, domain=DOMAIN):
    """Every step can be tried again after it went wrong."""

    VERSION = 1
    MINOR_VERSION = 1

    _client: Client
    _config: Config

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}
        self._server_id = ""
        self._reason = ""
        self._old_host = ""
        self._can_save_anyway = False

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: SttFailoverConfigEntry) -> SttFailoverOptionsFlow:
        """Give the flow for everything that is no key."""
        return SttFailoverOptionsFlow()

    @override
    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take host, port and token from a person."""
        errors: dict[str, str] = {}
        if user_input is not None and not (errors := await self._connect_typed(user_input)):
            await self.async_set_unique_id(self._server_id, raise_on_progress=False)
            self._abort_if_unique_id_configured(updates=self._data)
            return await self.async_step_keys()
        return self._form("user", _USER, errors, user_input)

    @override
    async def async_step_zeroconf(self, discovery_info: ZeroconfServiceInfo) -> ConfigFlowResult:
        """Take a server over that announces itself in the network."""
        server_id = discovery_info.properties.get("id")
        if not server_id or discovery_info.port is None:
            return self.async_abort(reason="invalid_discovery")
        self._data = {CONF_HOST: discovery_info.host, CONF_PORT: discovery_info.port, CONF_TOKEN: ""}
        await self.async_set_unique_id(server_id)
        entry = self.hass.config_entries.async_entry_for_domain_unique_id(DOMAIN, server_id)
        if entry and (entry.source == SOURCE_IGNORE or await answers_still(self.hass, entry)):
            self._abort_if_unique_id_configured()
        self._show_name()
        try:
            health = await client_of(self.hass, self._data).health()
        except ServerError as error:
            return self._abort(self._name(error))
        if entry:
            return await self.async_step_moved() if health.id == server_id else self._abort("wrong_server")
        return await self.async_step_zeroconf_confirm()

    async def async_step_moved(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask before a server is followed to another address, where its token would be sent."""
        entry = self.hass.config_entries.async_entry_for_domain_unique_id(DOMAIN, self.unique_id or "")
        if entry is None or await answers_still(self.hass, entry):
            return self.async_abort(reason="already_configured")
        self._old_host = entry.data[CONF_HOST]
        moved = self._data | {CONF_TOKEN: entry.data[CONF_TOKEN]}
        errors: dict[str, str] = {}
        if user_input is not None and not (errors := await self._connect(moved)):
            return self.async_update_reload_and_abort(entry, data_updates=self._data, reason="moved")
        return self._form("moved", probatio.Schema({}), errors)

    async def async_step_zeroconf_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take the token, which the network is not told."""
        errors: dict[str, str] = {}
        if user_input is not None and not (errors := await self._connect(self._data | user_input)):
            return await self.async_step_keys()
        return self._form("zeroconf_confirm", _ONLY_TOKEN, errors)

    @override
    async def async_step_hassio(self, discovery_info: HassioServiceInfo) -> ConfigFlowResult:
        """Take an app over, whose token comes from the Supervisor."""
        try:
            self._data = {name: discovery_info.config[name] for name in (CONF_HOST, CONF_PORT, CONF_TOKEN)}
            health = await client_of(self.hass, self._data).health()
        except KeyError, ValueError:
            return self.async_abort(reason="invalid_discovery")
        except ServerError as error:
            return self._abort(self._name(error))
        await self.async_set_unique_id(health.id)
        self._abort_if_unique_id_configured(updates=self._data)
        for entry in self._async_current_entries(include_ignore=False):
            if all(entry.data[name] == self._data[name] for name in (CONF_HOST, CONF_PORT)):
                # The app was installed anew: another server for itself, the same one for its household.
                rename_server(self.hass, entry, health.id)
                return self.async_update_reload_and_abort(
                    entry, unique_id=health.id, data_updates=self._data, reason="already_configured"
                )
        self._show_name()
        return await self.async_step_hassio_confirm()

    async def async_step_hassio_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask whether the app shall be used."""
        errors: dict[str, str] = {}
        if user_input is not None and not (errors := await self._connect(self._data)):
            return await self.async_step_keys()
        return self._form("hassio_confirm", probatio.Schema({}), errors)

    async def async_step_keys(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take the keys, try them, and have the server keep them."""
        errors: dict[str, str] = {}
        if user_input is not None and not (errors := await self._save_keys(user_input)):
            if self.source == SOURCE_RECONFIGURE:
                return self.async_abort(reason="reconfigure_successful")
            return self.async_create_entry(title=TITLE, data=self._data)
        schema = keys.schema(self._config, can_save_anyway=self._can_save_anyway)
        return self._form("keys", schema, errors, user_input or keys.shown(self._config))

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:
        """Begin where the server refuses the token."""
        self._data = dict(entry_data)
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take a new token."""
        errors: dict[str, str] = {}
        if user_input is not None and not (errors := await self._connect(self._data | user_input)):
            await self.async_set_unique_id(self._server_id)
            self._abort_if_unique_id_mismatch(reason="wrong_server")
            return self.async_update_reload_and_abort(self._get_reauth_entry(), data_updates=self._data)
        return self._form("reauth_confirm", _ONLY_TOKEN, errors)

    async def async_step_reconfigure(
        self,
        user_input: dict[str, Any] | None = None,  # noqa: ARG002 - a menu has none
    ) -> ConfigFlowResult:
        """Ask what is to be changed."""
        self._data = dict(self._get_reconfigure_entry().data)
        return self.async_show_menu(step_id="reconfigure", menu_options=["connection", "stored_keys"])

    async def async_step_connection(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Take another address, and another token where one is given."""
        errors: dict[str, str] = {}
        if user_input is not None and not (errors := await self._connect_typed(self._data | user_input)):
            await self.async_set_unique_id(self._server_id)
            self._abort_if_unique_id_mismatch(reason="wrong_server")
            return self.async_update_reload_and_abort(
                self._get_reconfigure_entry(), data_updates=self._data, reason="reconfigure_successful"
            )
        filled = user_input or {name: self._data[name] for name in (CONF_HOST, CONF_PORT)}
        return self._form("connection", _CONNECTION, errors, filled)

    async def async_step_stored_keys(
        self,
        user_input: dict[str, Any] | None = None,  # noqa: ARG002 - the form is that of the next step
    ) -> ConfigFlowResult:
        """Ask the server what it has before the keys are changed."""
        if errors := await self._connect(self._data):
            return self._abort(next(iter(errors.values())))
        return await self.async_step_keys()

    def _show_name(self) -> None:
        self.context["title_placeholders"] = {"name": f"{TITLE} ({self._data[CONF_HOST]})"}

    async def _connect_typed(self, data: dict[str, Any]) -> dict[str, str]:
        """The same for an address that a person has typed in."""
        errors = await self._connect(data)
        is_silent = errors.get("base") in ("cannot_connect", "unexpected_answer")
        return {CONF_PORT: "wyoming_port"} if is_silent and data[CONF_PORT] == WYOMING_PORT else errors

    async def _connect(self, data: dict[str, Any]) -> dict[str, str]:
        """Try the connection and keep what is learnt; give the errors of the form."""
        data = data | {CONF_HOST: data[CONF_HOST].strip(), CONF_TOKEN: data[CONF_TOKEN].strip()}
        try:
            client = client_of(self.hass, data)
            health = await client.health()
            if is_too_old(health.version):
                self._reason = health.version
                return {"base": "server_too_old"}
            self._config = await client.config()
        except ValueError:
            return {CONF_HOST: "invalid_host"}
        except ServerError as error:
            return {"base": self._name(error)}
        if self.unique_id not in (None, health.id) and self.source in (SOURCE_ZEROCONF, SOURCE_HASSIO):
            return {"base": "wrong_server"}
        self._data, self._client, self._server_id = data, client, health.id
        return {}

    async def _save_keys(self, given: dict[str, Any]) -> dict[str, str]:
        changed = keys.changes(self._config, given)
        if (errors := keys.mistakes(self._config, changed)) or not changed:
            return errors
        try:
            if not given.get(keys.CONF_SAVE_ANYWAY):
                failed = await keys.failures(self._client, self._config, changed)
                if failed:
                    self._can_save_anyway = True
                    self._reason = "; ".join(result.message or result.code or "" for result in failed)
                    return keys.form_errors(failed)
            await self._client.update_config(changed)
        except RejectedError as error:
            field = error.setting if error.setting in keys.SETTINGS else None
            return {field.lower() if field else "base": self._name(error)}
        except ServerError as error:
            return {"base": self._name(error)}
        return {}

    def _name(self, error: ServerError) -> str:
        LOGGER.debug("The server gave no usable answer: %s", error)
        self._reason = str(error)
        return str(explanation(error)["translation_key"])

    def _placeholders(self) -> dict[str, str]:
        return {
            "host": str(self._data.get(CONF_HOST, "")),
            "old_host": self._old_host,
            "port": str(DEFAULT_PORT),
            "reason": self._reason,
            "minimum": MIN_SERVER_VERSION,
            "dots": keys.DOTS,
            "example": "wss://name.modal.run",
            "example_at_home": "ws://192.168.1.20:10301",
        }

    def _abort(self, reason: str) -> ConfigFlowResult:
        return self.async_abort(reason=reason, description_placeholders=self._placeholders())

    def _form(
        self,
        step: str,
        schema: probatio.Schema,
        errors: dict[str, str],
        filled: Mapping[str, Any] | None = None,
    ) -> ConfigFlowResult:
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(schema, filled),
            errors=errors,
            description_placeholders=self._placeholders(),
        )
