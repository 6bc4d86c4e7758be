"""How everything is, as a client is told."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from modal_whisper.version import __version__
from wyoming_server.breaker import State
from wyoming_server.build import what_is_missing
from wyoming_server.settings import BACKENDS
from wyoming_server.statistics import answer_ms

if TYPE_CHECKING:
    from wyoming_server.health import Health
    from wyoming_server.house import House

_MONEY_DIGITS: Final = 4
_DIGITS: Final = 1


def status(house: House, uri: str) -> dict[str, Any]:
    """The body of /api/status; `uri` is where the Wyoming server listens."""
    settings, engine = house.settings, house.engine
    day = asdict(house.statistics.day)
    return {
        "id": house.server_id,
        "version": __version__,
        "wyoming": uri,
        "strategy": settings.strategy,
        "deadline": settings.deadline,
        "endpointing": settings.endpointing,
        "languages": sorted(engine.languages),
        "uptime": round(house.uptime, _DIGITS),
        "problem": _problem(house),
        "backends": [
            _backend(house, name)
            for name in (*settings.backends, *(item for item in BACKENDS if item not in settings.backends))
        ],
        "last": _last(house),
        "day": {**day, "median_ms": _rounded(day["median_ms"])},
    }


def _backend(house: House, name: str) -> dict[str, Any]:
    is_enabled = name in house.settings.backends
    health, costs = house.engine.healths.get(name), house.costs
    return {
        "name": name,
        "enabled": is_enabled,
        "missing": what_is_missing(name, house.settings) if is_enabled else None,
        "state": health.state.value if health else None,
        "cause": health.cause.value if health and health.cause else None,
        "retry_in": _retry_in(house, health) if health else None,
        "median_ms": _rounded(_ms(health.median)) if health else None,
        "p95_ms": _rounded(_ms(health.p95)) if health else None,
        "today": _cost(costs.seconds(name), costs.dollars(name)),
        "month": _cost(costs.month_seconds(name), costs.month_dollars(name)),
        "over_budget": costs.is_over_budget(name),
    }


def _retry_in(house: House, health: Health) -> float | None:
    if health.state is not State.OPEN or health.probe_at is None:
        return None
    return round(max(health.probe_at - house.now, 0.0), _DIGITS)


def _problem(house: House) -> str | None:
    healths = house.engine.healths.values()
    if not healths:
        return "no-backend"
    if all(health.state is not State.CLOSED for health in healths):
        return "all-open"
    latest = house.history.latest
    return "unanswered" if latest and latest[-1].trace.error else None


def _last(house: House) -> dict[str, Any] | None:
    if not house.history.latest:
        return None
    dated = house.history.latest[-1]
    return {
        "at": dated.at.isoformat(timespec="seconds"),
        "backend": dated.trace.backend,
        "ms": _rounded(answer_ms(dated.trace)),
        "error": dated.trace.error,
    }


def _cost(seconds: float, dollars: float) -> dict[str, float]:
    return {"seconds": round(seconds, _DIGITS), "dollars": round(dollars, _MONEY_DIGITS)}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, _DIGITS)
