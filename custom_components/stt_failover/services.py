"""The actions: a file to text, and a try of the backends."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import probatio as vol
from homeassistant.components.media_source import Unresolvable, async_resolve_media, is_media_source_id
from homeassistant.core import ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.service import async_get_config_entry

from .const import BACKEND_NAMES, BACKENDS, CONF_SEND_NAMES, DOMAIN
from .exceptions import translated_errors
from .names import gather
from .wav import CHANNELS, RATE, WIDTH, WavError, read_pcm
from .wyoming_client import Heard, Limits, NoAnswerError, Server, Wishes, listen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from homeassistant.core import HomeAssistant

    from .coordinator import SttFailoverConfigEntry, SttFailoverCoordinator

SERVICE_TRANSCRIBE: Final = "transcribe"
SERVICE_TEST: Final = "test"

ATTR_BACKEND: Final = "backend"
ATTR_BACKENDS: Final = "backends"
ATTR_CONFIG_ENTRY_ID: Final = "config_entry_id"
ATTR_FILENAME: Final = "filename"
ATTR_LANGUAGE: Final = "language"
ATTR_MEDIA: Final = "media"

_PIECE_SECONDS: Final = 0.1
_PIECE_BYTES: Final = round(_PIECE_SECONDS * RATE * WIDTH * CHANNELS)

PAUSE: Final = asyncio.sleep

TRANSCRIBE_SCHEMA: Final = vol.Schema(
    {
        vol.Optional(ATTR_CONFIG_ENTRY_ID): cv.string,
        vol.Optional(ATTR_MEDIA): vol.Schema(
            {vol.Required("media_content_id"): cv.string}, extra=vol.ALLOW_EXTRA
        ),
        vol.Optional(ATTR_FILENAME): cv.string,
        vol.Optional(ATTR_LANGUAGE): cv.string,
        vol.Optional(ATTR_BACKEND): vol.In(BACKENDS),
    }
)

TEST_SCHEMA: Final = vol.Schema(
    {
        vol.Optional(ATTR_CONFIG_ENTRY_ID): cv.string,
        vol.Optional(ATTR_BACKENDS): vol.All(cv.ensure_list, [vol.In(BACKENDS)]),
    }
)


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions."""
    hass.services.async_register(
        DOMAIN,
        SERVICE_TRANSCRIBE,
        _transcribe,
        schema=TRANSCRIBE_SCHEMA,
        supports_response=SupportsResponse.ONLY,
    )
    hass.services.async_register(
        DOMAIN, SERVICE_TEST, _test, schema=TEST_SCHEMA, supports_response=SupportsResponse.ONLY
    )


async def _transcribe(call: ServiceCall) -> ServiceResponse:
    coordinator = _coordinator(call)
    language: str | None = call.data.get(ATTR_LANGUAGE)
    if language and language.split("-")[0] not in coordinator.data.languages:
        raise _invalid("unknown_language", language=language)
    wanted = coordinator.data.backends.get(call.data.get(ATTR_BACKEND, ""))
    if ATTR_BACKEND in call.data and (wanted is None or not wanted.enabled or wanted.missing):
        raise _invalid("backend_not_asked", backend=BACKEND_NAMES[call.data[ATTR_BACKEND]])
    path = await _path(call)
    with translated_errors():
        settings = (await coordinator.client.config()).settings
    maximum = float(settings["MAX_UTTERANCE"].value)
    try:
        is_typed = ATTR_FILENAME in call.data
        read = partial(_read, call.hass, path, maximum, is_typed=is_typed)
        pcm = await call.hass.async_add_executor_job(read)
    except WavError as error:
        raise _invalid(error.key, path=path, maximum=f"{maximum:g}") from error
    sends_names = coordinator.config_entry.options.get(CONF_SEND_NAMES, True)
    wishes = Wishes(
        language=language,
        names=gather(call.hass) if sends_names else (),
        backend=call.data.get(ATTR_BACKEND),
    )
    limits = Limits.for_deadline(float(settings["DEADLINE"].value))
    try:
        heard = await _hear(coordinator, wishes, pcm, limits)
    except NoAnswerError as error:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="no_answer",
            translation_placeholders={"reason": str(error)},
        ) from error
    return {"text": heard.text, "backend": heard.backend}


async def _test(call: ServiceCall) -> ServiceResponse:
    coordinator = _coordinator(call)
    with translated_errors():
        results = await coordinator.client.test(call.data.get(ATTR_BACKENDS))
    return {
        "results": [
            {
                "backend": result.backend,
                "ok": result.ok,
                "text": result.text,
                "milliseconds": result.ms,
                "code": result.code,
                "message": result.message,
            }
            for result in results
        ]
    }


def _coordinator(call: ServiceCall) -> SttFailoverCoordinator:
    entry = async_get_config_entry(call.hass, DOMAIN, call.data.get(ATTR_CONFIG_ENTRY_ID))
    return cast("SttFailoverConfigEntry", entry).runtime_data


async def _path(call: ServiceCall) -> str:
    media: dict[str, Any] | None = call.data.get(ATTR_MEDIA)
    filename: str | None = call.data.get(ATTR_FILENAME)
    if (media is None) == (filename is None):
        raise _invalid("media_or_filename")
    if media is None:
        return str(filename)
    media_id = media["media_content_id"]
    if not is_media_source_id(media_id):
        raise _invalid("no_media_source", media=media_id)
    try:
        resolved = await async_resolve_media(call.hass, media_id, None)
    except Unresolvable as error:
        raise _invalid("no_media_file", media=media_id) from error
    if resolved.path is None:
        raise _invalid("no_media_file", media=media_id)
    return str(resolved.path)


def _read(hass: HomeAssistant, path: str, maximum: float, *, is_typed: bool) -> bytes:
    # A media source answers itself for what it gives access to.
    if is_typed and not hass.config.is_allowed_path(path):
        raise WavError("path_not_allowed")
    return read_pcm(path, max_seconds=maximum)


async def _hear(coordinator: SttFailoverCoordinator, wishes: Wishes, pcm: bytes, limits: Limits) -> Heard:
    server = Server(coordinator.data.wyoming, coordinator.host)
    async with aclosing(listen(server, wishes, _pieces(pcm), limits)) as listening:
        async for heard in listening:
            if heard.is_final:
                return heard
    raise NoAnswerError("the server gave no final", "lost")  # pragma: no cover - listen gives one or raises


async def _pieces(pcm: bytes) -> AsyncGenerator[bytes]:
    # Services for live speech fail where audio comes faster than people speak.
    for at in range(0, len(pcm), _PIECE_BYTES):
        yield pcm[at : at + _PIECE_BYTES]
        await PAUSE(_PIECE_SECONDS)


def _invalid(key: str, **placeholders: str) -> ServiceValidationError:
    return ServiceValidationError(
        translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders
    )
