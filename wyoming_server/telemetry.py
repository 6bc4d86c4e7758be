"""Whether traces are sent to a collector, as the environment says; what sends them is in otel.py."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from modal_whisper.extras import how_to_install

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wyoming_server.otel import Telemetry

_LOGGER = logging.getLogger(__name__)

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def start(environ: Mapping[str, str], clock: Callable[[], float]) -> Telemetry | None:
    """What sends traces to the collector that the environment names; None where it names none.

    `clock` is that of the engine. The exporter reads the environment of the process itself, too: `environ` is
    to be that. Raises nothing: without a collector the server hears people just as well.
    """
    endpoint = next((environ[name] for name in _ENDPOINTS if environ.get(name)), None)
    is_off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or is_off or environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "otlp":
        return None
    try:
        from wyoming_server import otel  # noqa: PLC0415 - an extra, and half a second for who does not want it

        telemetry = otel.Telemetry(otel.provider(otel.Exporter(endpoint)), clock=clock)
    except ImportError:
        _LOGGER.warning("no traces are sent, OpenTelemetry is missing: %s", how_to_install("otel"))
        return None
    except Exception as error:  # noqa: BLE001 - variables that the SDK does not take raise what they like
        _LOGGER.warning("no traces are sent, an OTEL_ variable is wrong: %s", error)
        return None
    _LOGGER.info("traces are sent to %s", otel.shown(endpoint))
    return telemetry
