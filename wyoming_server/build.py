"""Makes the rooms of the house from the settings."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modal_whisper.runner import ModelRunner
from modal_whisper.transcriber import WhisperTranscriber
from wyoming_server.backends.assemblyai import AssemblyAI, AssemblyAIOptions
from wyoming_server.backends.assemblyai_sync import AssemblyAISync, AssemblyAISyncOptions
from wyoming_server.backends.local import Local
from wyoming_server.backends.whisper import Whisper, WhisperOptions
from wyoming_server.costs import Costs
from wyoming_server.engine import Engine
from wyoming_server.errors import SettingsError
from wyoming_server.handler import Limits
from wyoming_server.hedging import HedgeBudget, Patience, Strategy
from wyoming_server.race import Rules
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
    """The engine with every backend that has its settings; raises SettingsError where none has.

    To be called in the event loop that it will run in.
    """
    costs = Costs(
        {
            "assemblyai": settings.assemblyai_price,
            "assemblyai_sync": settings.assemblyai_sync_price,
            "whisper": settings.whisper_price,
        },
        budget=settings.daily_budget or None,
        today=lambda: datetime.now().astimezone().date(),
        listener=listener,
    )
    missing = {name: reason for name in settings.backends if (reason := _what_is_missing(name, settings))}
    for reason in dict.fromkeys(missing.values()):
        names = [name for name in missing if missing[name] == reason]
        _LOGGER.info("%s %s left out: %s", ", ".join(names), "are" if len(names) > 1 else "is", reason)
    backends = [
        _build_backend(name, settings, session, costs) for name in settings.backends if name not in missing
    ]
    if not backends:
        raise SettingsError(
            "no backend is left; set ASSEMBLYAI_API_KEY, WHISPER_SERVICE_URL or LOCAL_ENABLED=true"
        )
    return Engine(
        backends,
        _rules(settings),
        costs=costs,
        listener=listener,
        clock=asyncio.get_running_loop().time,
        chance=random.random,
    )


def _rules(settings: Settings) -> Rules:
    return Rules(
        strategy=Strategy(settings.strategy),
        deadline=settings.deadline,
        patience=Patience(
            connect=settings.connect_patience,
            progress=settings.progress_patience,
            least=settings.hedge_min,
            most=settings.hedge_max,
        ),
        budget=HedgeBudget(settings.hedge_budget),
    )


def _what_is_missing(name: str, settings: Settings) -> str | None:
    match name:
        case "assemblyai" | "assemblyai_sync" if not settings.assemblyai_api_key:
            return "ASSEMBLYAI_API_KEY is not set"
        case "assemblyai_sync" if not _sync_url(settings):
            return "ASSEMBLYAI_STREAMING_URL is none of AssemblyAI's own, and ASSEMBLYAI_SYNC_URL is not set"
        case "whisper" if not settings.whisper_enabled:
            return "WHISPER_ENABLED is false"
        case "whisper" if not settings.whisper_service_url:
            return "WHISPER_SERVICE_URL is not set"
        case "local" if not settings.local_enabled:
            return "LOCAL_ENABLED is false"
        case _:
            return None


def _sync_url(settings: Settings) -> str:
    """Where whole utterances go; empty for nowhere: nobody's voice may leave the region that was chosen."""
    host = urlsplit(settings.assemblyai_streaming_url).hostname or ""
    is_own = host.startswith("streaming.") and host.endswith(".assemblyai.com")
    derived = f"https://sync.{host.removeprefix('streaming.')}" if is_own else ""
    return settings.assemblyai_sync_url or derived


def _build_backend(name: str, settings: Settings, session: aiohttp.ClientSession, costs: Costs) -> Backend:
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
                partial(costs.add, name),
            )
        case "assemblyai_sync":
            return AssemblyAISync(
                AssemblyAISyncOptions(
                    api_key=settings.assemblyai_api_key,
                    url=_sync_url(settings),
                    model=settings.assemblyai_sync_model,
                    languages=settings.assemblyai_languages,
                    connect_timeout=settings.assemblyai_connect_timeout,
                    timeout=settings.assemblyai_sync_timeout,
                ),
                session,
                partial(costs.add, name),
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
                    languages=settings.whisper_languages,
                ),
                session,
                partial(costs.add, name),
            )
        case _:
            transcriber = WhisperTranscriber(
                settings.local_model,
                directory=settings.model_dir,
                device=settings.local_device,
                beam_size=settings.local_beam_size,
                threads=settings.local_threads,
            )
            return Local(ModelRunner(transcriber), settings.whisper_languages)
