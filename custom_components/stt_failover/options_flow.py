"""Changes how the server works. All but one option are the server's own settings, and it keeps them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from homeassistant.config_entries import ConfigFlowResult, OptionsFlow

from . import options
from .const import CONF_SEND_NAMES
from .coordinator import client_of
from .errors import ServerError
from .exceptions import explanation

if TYPE_CHECKING:
    from .models import Config


class SttFailoverOptionsFlow(OptionsFlow):
    """One form in sections."""

    _config: Config

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the server's settings, and have it change them."""
        client = client_of(self.hass, self.config_entry.data)
        errors: dict[str, str] = {}
        reason = ""
        try:
            if user_input is None:
                self._config = await client.config()
            elif not (errors := _mistakes(self._config, user_input)):
                if changed := options.changes(self._config, user_input):
                    await client.update_config(changed)
                send_names = user_input["names"].get(CONF_SEND_NAMES, True)
                return self.async_create_entry(data={CONF_SEND_NAMES: send_names})
        except ServerError as error:
            key, reason = str(explanation(error)["translation_key"]), str(error)
            if user_input is None:
                return self.async_abort(reason=key, description_placeholders={"reason": reason})
            errors["base"] = key
        send_names = self.config_entry.options.get(CONF_SEND_NAMES, True)
        filled = user_input or options.shown(self._config, send_names=send_names)
        return self.async_show_form(
            step_id="init",
            data_schema=self.add_suggested_values_to_schema(options.schema(self._config), filled),
            errors=errors,
            description_placeholders={"fixed": _fixed(self._config), "reason": reason},
        )


def _mistakes(config: Config, given: dict[str, Any]) -> dict[str, str]:
    # At the top of the form: what stands at a field of a section is not shown.
    deadlines = given.get("deadlines", {})
    if deadlines.get("hedge_min", 0) > deadlines.get("hedge_max", math.inf):
        return {"base": "hedge_order"}
    if "BACKENDS" not in config.settings:
        return {}
    order = options.order_of(given)
    if not order:
        return {"base": "no_backend"}
    return {"base": "backend_twice"} if len(set(order)) < len(order) else {}


def _fixed(config: Config) -> str:
    shown = {"BACKENDS"} | {option.name for section in options.SECTIONS.values() for option in section}
    fixed = sorted(name for name in shown & set(config.settings) if config.settings[name].is_fixed)
    return ", ".join(fixed) or "-"
