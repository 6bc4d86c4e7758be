"""The table of the options: which settings are shown, in which section, and by which control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import probatio
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    BooleanSelector,
    BooleanSelectorConfig,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
    TextSelectorConfig,
)

from .const import BACKENDS, CONF_SEND_NAMES, STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .models import Config

PLACES: Final = ("first", "second", "third", "fourth")
"""The fields of the order in which backends are asked; together they are the setting BACKENDS."""

REGIONS: Final = {"us": "wss://streaming.assemblyai.com", "eu": "wss://streaming.eu.assemblyai.com"}
"""AssemblyAI's hosts by the names that the form has for them; others are typed in."""

type Control = Callable[[bool], Any]
"""Makes a selector that is read-only or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A setting of the server in the form; `read` and `write` turn its value into the form's and back."""

    name: str
    control: Control
    read: Callable[[Any], Any] = lambda value: value
    write: Callable[[Any], Any] = lambda value: value

    @property
    def field(self) -> str:
        """Its name in the form."""
        return self.name.lower()


def _number(low: float, high: float, step: float, unit: str | None = None) -> Control:
    def control(read_only: bool) -> Any:  # noqa: FBT001 - one control is like the other
        config = NumberSelectorConfig(
            min=low, max=high, step=step, mode=NumberSelectorMode.BOX, read_only=read_only
        )
        if unit:
            config["unit_of_measurement"] = unit
        return NumberSelector(config)

    return control


def _seconds(name: str, low: float, high: float) -> Option:
    return Option(name=name, control=_number(low, high, 0.1, "s"))


def _price(name: str) -> Option:
    return Option(name=name, control=_number(0, 100, 0.01, "USD/h"))


def _choice(*options: str, key: str, custom: bool = False) -> Control:
    return lambda read_only: SelectSelector(
        SelectSelectorConfig(
            options=list(options), translation_key=key, custom_value=custom, read_only=read_only
        )
    )


def _text(*, multiple: bool = False) -> Control:
    return lambda read_only: TextSelector(TextSelectorConfig(multiple=multiple, read_only=read_only))


def _flag(read_only: bool) -> Any:  # noqa: FBT001 - one control is like the other
    return BooleanSelector(BooleanSelectorConfig(read_only=read_only))


def _region_of(url: str) -> str:
    return next((region for region, host in REGIONS.items() if host == url), url)


SECTIONS: Final[dict[str, tuple[Option, ...]]] = {
    "order": (Option(name="STRATEGY", control=_choice(*STRATEGIES, key="strategy")),),
    "models": (
        Option(
            name="ASSEMBLYAI_STREAMING_URL",
            control=_choice(*REGIONS, key="region", custom=True),
            read=_region_of,
            write=lambda region: REGIONS.get(region, region),
        ),
        Option(name="ASSEMBLYAI_MODEL", control=_text()),
        Option(
            name="ASSEMBLYAI_MODE", control=_choice("min_latency", "balanced", "max_accuracy", key="mode")
        ),
        Option(name="ASSEMBLYAI_LANGUAGES", control=_text(multiple=True)),
        Option(name="ASSEMBLYAI_SYNC_MODEL", control=_text()),
        Option(name="WHISPER_MODEL", control=_text()),
        Option(name="WHISPER_LANGUAGES", control=_text(multiple=True)),
        Option(name="LOCAL_MODEL", control=_text()),
        Option(name="LOCAL_BEAM_SIZE", control=_number(1, 20, 1), write=int),
    ),
    "deadlines": (
        _seconds("DEADLINE", 0.5, 60),
        _seconds("ASSEMBLYAI_TIMEOUT", 0.1, 30),
        _seconds("ASSEMBLYAI_SYNC_TIMEOUT", 0.1, 30),
        _seconds("WHISPER_TIMEOUT", 0.1, 60),
        _seconds("CONNECT_PATIENCE", 0.1, 30),
        _seconds("PROGRESS_PATIENCE", 0.5, 30),
        _seconds("HEDGE_MIN", 0, 30),
        _seconds("HEDGE_MAX", 0, 30),
        Option(
            name="HEDGE_BUDGET",
            control=_number(0, 100, 0.1, "%"),
            read=lambda share: round(share * 100, 3),
            write=lambda percent: round(percent / 100, 5),
        ),
        _seconds("MAX_UTTERANCE", 1, 600),
    ),
    "costs": (
        Option(name="DAILY_BUDGET", control=_number(0, 1000, 0.01, "USD")),
        _price("ASSEMBLYAI_PRICE"),
        _price("ASSEMBLYAI_SYNC_PRICE"),
        _price("WHISPER_PRICE"),
        _seconds("KEEP_WARM", 0, 3600),
    ),
    "names": (Option(name="KEY_TERMS", control=_text(multiple=True)),),
    "endpointing": (Option(name="ENDPOINTING", control=_flag),),
}


def schema(config: Config) -> probatio.Schema:
    """Build the form; a setting that the server does not have is left out, one that is fixed is read-only."""
    sections: dict[probatio.Marker, Any] = {}
    for name, options in SECTIONS.items():
        fields: dict[probatio.Marker, Any] = {}
        if name == "order" and "BACKENDS" in config.settings:
            control = _choice(*BACKENDS, key="backend")(config.settings["BACKENDS"].is_fixed)
            fields |= {probatio.Optional(place): control for place in PLACES}
        for option in options:
            if option.name in config.settings:
                is_fixed = config.settings[option.name].is_fixed
                fields[probatio.Optional(option.field)] = option.control(is_fixed)
        if name == "names":
            fields[probatio.Optional(CONF_SEND_NAMES)] = _flag(read_only=False)
        if fields:
            sections[probatio.Required(name)] = section(
                probatio.Schema(fields), {"collapsed": name != "order"}
            )
    return probatio.Schema(sections)


def shown(config: Config, *, send_names: bool) -> dict[str, dict[str, Any]]:
    """Give what the form is filled with, by section."""
    filled = {
        name: {
            option.field: option.read(config.settings[option.name].value)
            for option in options
            if option.name in config.settings and config.settings[option.name].value is not None
        }
        for name, options in SECTIONS.items()
    }
    if "BACKENDS" in config.settings:
        filled["order"] |= dict(zip(PLACES, config.settings["BACKENDS"].value, strict=False))
    filled["names"][CONF_SEND_NAMES] = send_names
    return filled


def changes(config: Config, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Give what the form changes, as the server's settings; an emptied field lets the default count again."""
    changed: dict[str, Any] = {}
    for name, options in SECTIONS.items():
        for option in options:
            setting = config.settings.get(option.name)
            if setting is None or setting.is_fixed:
                continue
            value = given.get(name, {}).get(option.field)
            if value in (None, ""):
                if setting.source == "stored":
                    changed[option.name] = None
            elif value != option.read(setting.value):
                changed[option.name] = option.write(value)
    backends = config.settings.get("BACKENDS")
    if backends is not None and not backends.is_fixed and (order := order_of(given)) != list(backends.value):
        changed["BACKENDS"] = order
    return changed


def order_of(given: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Give the backends that were chosen, in their order."""
    order = given.get("order", {})
    return [order[place] for place in PLACES if order.get(place)]
