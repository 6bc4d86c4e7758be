"""The names that people in this house say: what speech models are told to expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from homeassistant.components.homeassistant.exposed_entities import (
    async_listen_entity_updates,
    async_should_expose,
)
from homeassistant.const import EVENT_STATE_CHANGED
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
    intent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from homeassistant.core import CALLBACK_TYPE

ASSISTANT: Final = "conversation"
"""Whose exposed entities count: those of Assist."""

MAX_NAMES: Final = 200
"""Speech models take about a hundred, and the server's own come on top."""
MAX_LENGTH: Final = 50
"""Characters; a longer name is none that people say, and AssemblyAI takes none."""

_SPOKEN_DOMAINS: Final = frozenset(
    {
        "automation",
        "climate",
        "cover",
        "fan",
        "humidifier",
        "input_boolean",
        "input_select",
        "lawn_mower",
        "light",
        "lock",
        "media_player",
        "person",
        "scene",
        "script",
        "siren",
        "switch",
        "timer",
        "todo",
        "vacuum",
        "valve",
        "water_heater",
        "weather",
    }
)
"""What people give orders to or ask for by name; the rest, such as sensors, comes after these."""


def gather(hass: HomeAssistant) -> tuple[str, ...]:
    """Names and aliases of areas, floors and exposed entities, most important first, at most MAX_NAMES.

    Rooms first, because they are few and in most sentences. Aliases last: some are there only because a
    name was misheard before.
    """
    places: list[ar.AreaEntry | fr.FloorEntry] = [
        *sorted(ar.async_get(hass).async_list_areas(), key=lambda area: area.name),
        *sorted(fr.async_get(hass).async_list_floors(), key=lambda floor: floor.name),
    ]
    names = [place.name for place in places]
    aliases = [alias for place in places for alias in sorted(place.aliases)]
    other_names: list[str] = []
    other_aliases: list[str] = []
    registry = er.async_get(hass)
    for state in sorted(hass.states.async_all(), key=lambda state: state.entity_id):
        if not async_should_expose(hass, ASSISTANT, state.entity_id):
            continue
        called = intent.async_get_entity_aliases(hass, registry.async_get(state.entity_id), state=state)
        is_spoken = state.domain in _SPOKEN_DOMAINS
        (names if is_spoken else other_names).extend(called[:1])
        (aliases if is_spoken else other_aliases).extend(called[1:])
    return tuple(_chosen([*names, *aliases, *other_names, *other_aliases]))


def _chosen(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        text = " ".join(name.split())
        key = text.casefold()
        if text and len(text) <= MAX_LENGTH and key not in seen:
            seen.add(key)
            yield text
        if len(seen) == MAX_NAMES:
            return


class Names:
    """What `gather` gives, kept until something in it may have changed."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._names: tuple[str, ...] | None = None
        self._unsubscribe: list[CALLBACK_TYPE] = []

    @callback
    def get(self) -> tuple[str, ...]:
        """The names as they are now."""
        if self._names is None:
            self._names = gather(self._hass)
        return self._names

    @callback
    def listen(self) -> None:
        """Begin to notice changes; `close` ends it."""
        bus = self._hass.bus
        self._unsubscribe = [
            bus.async_listen(ar.EVENT_AREA_REGISTRY_UPDATED, self._forget),
            bus.async_listen(fr.EVENT_FLOOR_REGISTRY_UPDATED, self._forget),
            bus.async_listen(er.EVENT_ENTITY_REGISTRY_UPDATED, self._forget, _matters),
            bus.async_listen(dr.EVENT_DEVICE_REGISTRY_UPDATED, self._forget, _matters),
            bus.async_listen(EVENT_STATE_CHANGED, self._forget, _renames),
            async_listen_entity_updates(self._hass, ASSISTANT, self._forget),
        ]

    @callback
    def close(self) -> None:
        """Stop listening."""
        while self._unsubscribe:
            self._unsubscribe.pop()()

    @callback
    def _forget(self, _event: Event[Any] | None = None) -> None:
        self._names = None


@callback
def _matters(data: Mapping[str, Any]) -> bool:
    # Options change whenever somebody asks whether an entity is exposed; a real change of that is told apart.
    return data["action"] != "update" or not data["changes"].keys() <= {"options"}


@callback
def _renames(data: EventStateChangedData) -> bool:
    """Whether an entity came, went or is called otherwise: most changes of state are none of these."""
    old, new = data["old_state"], data["new_state"]
    return old is None or new is None or old.name != new.name
