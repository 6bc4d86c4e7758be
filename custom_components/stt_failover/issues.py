"""Repairs: what a person can do something about. They appear and disappear with what the server says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_call_later
from homeassistant.loader import async_get_loaded_integration

from .const import BACKEND_NAMES, BACKENDS, DOMAIN, MIN_SERVER_VERSION

if TYPE_CHECKING:
    from datetime import datetime

    from homeassistant.config_entries import ConfigEntry

    from .models import Backend, Status

PATIENCE: Final = 3600.0
"""Seconds for which the worker may be out of reach before a person is told."""

_KEYS: Final = {"assemblyai": ("assemblyai", "assemblyai_sync"), "whisper": ("whisper",)}
"""Whose key it is, and which backends sign in with it."""

_AWAY: Final = ("open", "half-open")


class Issues:
    """The repairs of one server."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        self._hass = hass
        self._entry = entry
        self._stop_waiting: CALLBACK_TYPE | None = None

    @callback
    def update(self, status: Status) -> None:
        """Show what the status gives reason for, and take back the rest."""
        for owner, names in _KEYS.items():
            refused = any(_is_refused(status.backends.get(name)) for name in names)
            self._show(f"{owner}_key_refused", ir.IssueSeverity.ERROR, shown=refused)
        for name in BACKENDS:
            backend = status.backends.get(name)
            self._show(
                f"budget_reached_{name}",
                ir.IssueSeverity.WARNING,
                shown=backend is not None and backend.enabled and backend.over_budget,
                key="budget_reached",
                placeholders={"backend": BACKEND_NAMES[name]},
            )
        if _is_unreachable(status.backends.get("whisper")):
            if self._stop_waiting is None:
                job = HassJob(self._worker_is_gone, "worker unreachable", cancel_on_shutdown=True)
                self._stop_waiting = async_call_later(self._hass, PATIENCE, job)
        else:
            self._forget_worker()

    @callback
    def server_too_old(self, version: str) -> None:
        """Tell that the server has to be updated."""
        self._show(
            "server_too_old",
            ir.IssueSeverity.ERROR,
            shown=True,
            placeholders={"version": version, "minimum": MIN_SERVER_VERSION},
        )

    @callback
    def server_is_new_enough(self) -> None:
        """Take that back."""
        self._show("server_too_old", ir.IssueSeverity.ERROR, shown=False)

    @callback
    def clear(self) -> None:
        """Take everything back, because the server is no longer watched."""
        self._forget_worker()
        for key in ("server_too_old", *(f"{owner}_key_refused" for owner in _KEYS)):
            self._show(key, ir.IssueSeverity.ERROR, shown=False)
        for name in BACKENDS:
            self._show(f"budget_reached_{name}", ir.IssueSeverity.WARNING, shown=False)

    @callback
    def _worker_is_gone(self, _now: datetime) -> None:
        self._show("worker_unreachable", ir.IssueSeverity.WARNING, shown=True)

    @callback
    def _forget_worker(self) -> None:
        if self._stop_waiting is not None:
            self._stop_waiting()
            self._stop_waiting = None
        self._show("worker_unreachable", ir.IssueSeverity.WARNING, shown=False)

    def _show(
        self,
        name: str,
        severity: ir.IssueSeverity,
        *,
        shown: bool,
        key: str | None = None,
        placeholders: dict[str, str] | None = None,
    ) -> None:
        issue_id = f"{name}_{self._entry.entry_id}"
        if not shown:
            ir.async_delete_issue(self._hass, DOMAIN, issue_id)
            return
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            issue_id,
            is_fixable=False,
            severity=severity,
            translation_key=key or name,
            translation_placeholders={"name": self._entry.title, **(placeholders or {})},
            learn_more_url=async_get_loaded_integration(self._hass, DOMAIN).documentation,
        )


def _is_refused(backend: Backend | None) -> bool:
    return backend is not None and backend.state in _AWAY and backend.cause == "sign-in"


def _is_unreachable(backend: Backend | None) -> bool:
    return backend is not None and backend.state in _AWAY and backend.cause != "sign-in"
