"""Makes the rooms of the house from the settings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modal_whisper.runner import ModelRunner
from modal_whisper.transcriber import WhisperTranscriber
from wyoming_server.backends.assemblyai import AssemblyAI, AssemblyAIOptions
from wyoming_server.backends.local import Local
from wyoming_server.backends.whisper import Whisper, WhisperOptions
from wyoming_server.engine import Engine
from wyoming_server.errors import SettingsError
from wyoming_server.handler import Limits
from wyoming_server.server import WyomingServer

if TYPE_CHECKING:
    import aiohttp

    from wyoming_server.backends.base import Backend
    from wyoming_server.events import Listener
    from wyoming_server.settings import Settings

_LOGGER = logging.getLogger(__name__)


def build_server(settings: Settings, engine: Engine) -> WyomingServer:
    """The Wyoming server that the settings describe."""
    limits = Limits(
        max_utterance=settings.max_utterance,
        idle_timeout=settings.idle_timeout,
        max_connections=settings.max_connections,
    )
    return WyomingServer(settings.uri, engine, limits, settings.key_terms)


def build_engine(settings: Settings, session: aiohttp.ClientSession, listener: Listener) -> Engine:
    """The engine with every backend that has its settings; raises SettingsError where none has."""
    backends: list[Backend] = []
    for name in settings.backends:
        missing = _what_is_missing(name, settings)
        if missing:
            _LOGGER.info("%s is left out: %s", name, missing)
        else:
            backends.append(_build_backend(name, settings, session))
    if not backends:
        raise SettingsError(
            "no backend is left; set ASSEMBLYAI_API_KEY, WHISPER_SERVICE_URL or LOCAL_ENABLED=true"
        )
    return Engine(backends, deadline=settings.deadline, listener=listener)


def _what_is_missing(name: str, settings: Settings) -> str | None:
    match name:
        case "assemblyai" if not settings.assemblyai_api_key:
            return "ASSEMBLYAI_API_KEY is not set"
        case "whisper" if not settings.whisper_enabled:
            return "WHISPER_ENABLED is false"
        case "whisper" if not settings.whisper_service_url:
            return "WHISPER_SERVICE_URL is not set"
        case "local" if not settings.local_enabled:
            return "LOCAL_ENABLED is false"
        case _:
            return None


def _build_backend(name: str, settings: Settings, session: aiohttp.ClientSession) -> Backend:
    match name:
        case "assemblyai":
            return AssemblyAI(
                AssemblyAIOptions(
                    api_key=settings.assemblyai_api_key,
                    url=settings.assemblyai_streaming_url,
                    model=settings.assemblyai_model,
                    mode=settings.assemblyai_mode,
                    languages=settings.assemblyai_languages,
                    connect_timeout=settings.assemblyai_connect_timeout,
                    timeout=settings.assemblyai_timeout,
                ),
                session,
            )
        case "whisper":
            return Whisper(
                WhisperOptions(
                    url=settings.whisper_service_url,
                    api_key=settings.whisper_api_key,
                    proxy_key=settings.whisper_proxy_key,
                    proxy_secret=settings.whisper_proxy_secret,
                    model=settings.whisper_model,
                    connect_timeout=settings.whisper_connect_timeout,
                    timeout=settings.whisper_timeout,
                ),
                session,
            )
        case _:
            transcriber = WhisperTranscriber(
                settings.local_model,
                directory=settings.model_dir,
                device=settings.local_device,
                beam_size=settings.local_beam_size,
                threads=settings.local_threads,
            )
            return Local(ModelRunner(transcriber))
