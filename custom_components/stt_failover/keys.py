"""The form for keys and addresses: what the backends need before they can be asked.

Nothing of it is kept in Home Assistant. A secret that the server has is shown as dots: left alone it stays,
emptied it is taken away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import probatio
from homeassistant.helpers.selector import (
    BooleanSelector,
    BooleanSelectorConfig,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .client import Client
    from .models import Config, TestResult

ASSEMBLYAI_KEY: Final = "ASSEMBLYAI_API_KEY"
WORKER_URL: Final = "WHISPER_SERVICE_URL"
WORKER_KEY: Final = "WHISPER_API_KEY"
LOCAL: Final = "LOCAL_ENABLED"

TEXTS: Final = {
    ASSEMBLYAI_KEY: TextSelectorType.PASSWORD,
    WORKER_URL: TextSelectorType.URL,
    WORKER_KEY: TextSelectorType.PASSWORD,
    "WHISPER_PROXY_KEY": TextSelectorType.PASSWORD,
    "WHISPER_PROXY_SECRET": TextSelectorType.PASSWORD,
}
SETTINGS: Final = (*TEXTS, LOCAL)
_WORKER_KEYS: Final = (WORKER_KEY, "WHISPER_PROXY_KEY", "WHISPER_PROXY_SECRET")

CONF_SAVE_ANYWAY: Final = "save_anyway"

DOTS: Final = "••••••••"
"""What stands for a secret that is set; no key is spelt so."""

_ERRORS: Final = {
    "sign-in-refused": "key_refused",
    "unreachable": "unreachable",
    "rate-limited": "rate_limited",
    "missing": "incomplete",
}
"""The errors of the form by the codes of a test; what else goes wrong is "test_failed"."""


def schema(config: Config, *, can_save_anyway: bool) -> probatio.Schema:
    """Build the form; what the server's environment fixes is shown, but cannot be changed."""
    fields: dict[probatio.Marker, Any] = {}
    for name, kind in TEXTS.items():
        is_fixed = config.settings[name].is_fixed
        selector = TextSelector(TextSelectorConfig(type=kind, read_only=is_fixed))
        fields[probatio.Optional(probatio.Secret(name.lower()))] = selector
    is_fixed = config.settings[LOCAL].is_fixed
    fields[probatio.Optional(LOCAL.lower())] = BooleanSelector(BooleanSelectorConfig(read_only=is_fixed))
    if can_save_anyway:
        fields[probatio.Optional(CONF_SAVE_ANYWAY, default=False)] = BooleanSelector()
    return probatio.Schema(fields)


def shown(config: Config) -> dict[str, Any]:
    """Give what the form is filled with."""
    values = {name: config.settings[name] for name in SETTINGS}
    return {
        name.lower(): DOTS if setting.value is None else setting.value
        for name, setting in values.items()
        if setting.is_set
    }


def changes(config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the form changes, as the server's settings; None takes a value away."""
    before = shown(config)
    changed: dict[str, Any] = {}
    for name in SETTINGS:
        value = given.get(name.lower(), False if name == LOCAL else "")
        if isinstance(value, str):
            value = value.strip()
        if config.settings[name].is_fixed or value == before.get(
            name.lower(), "" if name in TEXTS else False
        ):
            continue
        changed[name] = None if value == "" else value
    return changed


def mistakes(config: Config, changed: Mapping[str, Any]) -> dict[str, str]:
    """Give the errors of the form for which the server need not be asked."""
    if not _names_a_backend(config, changed):
        return {"base": "no_backend"}
    if not changed.get(WORKER_URL):
        return {}
    kept = [name for name in _WORKER_KEYS if config.settings[name].is_set and name not in changed]
    return {name.lower(): "key_again" for name in kept if not config.settings[name].is_fixed}


def _names_a_backend(config: Config, changed: Mapping[str, Any]) -> bool:
    return any(
        bool(changed[name])
        if name in changed
        else config.settings[name].is_set and config.settings[name].value is not False
        for name in (ASSEMBLYAI_KEY, WORKER_URL, LOCAL)
    )


async def failures(client: Client, config: Config, changed: Mapping[str, Any]) -> list[TestResult]:
    """Try what was changed, with the settings as they would be; give what failed. Raises ServerError."""
    backends = []
    if changed.get(ASSEMBLYAI_KEY):
        backends.append("assemblyai")
    has_worker = bool(changed[WORKER_URL]) if WORKER_URL in changed else config.settings[WORKER_URL].is_set
    if has_worker and any(name.startswith("WHISPER_") for name in changed):
        backends.append("whisper")
    if not backends:
        return []
    return [result for result in await client.test(backends, changed) if not result.ok]


def form_errors(failed: list[TestResult]) -> dict[str, str]:
    """Give the error of each field that the failed backends are about."""
    errors = {}
    for result in failed:
        error = _ERRORS.get(result.code or "", "test_failed")
        field = ASSEMBLYAI_KEY
        if result.backend == "whisper":
            field = WORKER_KEY if error == "key_refused" else WORKER_URL
        errors[field.lower()] = error
    return errors
