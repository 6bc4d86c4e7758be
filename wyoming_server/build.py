"""Makes the rooms of the house from the settings."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
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
from wyoming_server.errors import SettingsError
from wyoming_server.handler import Limits
from wyoming_server.hedging import HedgeBudget, Patience, Strategy
from wyoming_server.live import LiveEngine
from wyoming_server.race import Rules
from wyoming_server.server import WyomingServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from threading import Lock

    import aiohttp

    from wyoming_server.backends.base import Backend
    from wyoming_server.engine import Engine
    from wyoming_server.events import Listener
    from wyoming_server.recording import Pool
    from wyoming_server.settings import Settings

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What the settings say about the model in this process."""

    model: str
    directory: Path
    device: str
    beam_size: int
    threads: int


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What the settings say about the backend `local`."""

    model: ModelOptions
    languages: tuple[str, ...]


Options = AssemblyAIOptions | AssemblyAISyncOptions | WhisperOptions | LocalOptions


@dataclass(frozen=True, slots=True)
class Built:
    """A backend and all that it was built from."""

    backend: Backend
    options: Options


def build_server(settings: Settings, engine: Engine, pool: Pool | None = None) -> WyomingServer:
    """The Wyoming server that the settings describe; `pool` is what its clients share with others."""
    return WyomingServer(settings.uri, engine, build_limits(settings), settings.key_terms, pool=pool)


def build_limits(settings: Settings) -> Limits:
    """What one client may use up."""
    return Limits(
        max_utterance=settings.max_utterance,
        idle_timeout=settings.idle_timeout,
        max_connections=settings.max_connections,
        endpointing=settings.endpointing,
    )


def build_costs(settings: Settings, listener: Listener) -> Costs:
    """The counter of what the backends cost, by the household's calendar."""
    return Costs(
        prices(settings),
        budget=settings.daily_budget or None,
        today=lambda: datetime.now().astimezone().date(),
        listener=listener,
    )


def prices(settings: Settings) -> dict[str, float]:
    """US dollars an hour by backend."""
    return {
        "assemblyai": settings.assemblyai_price,
        "assemblyai_sync": settings.assemblyai_sync_price,
        "whisper": settings.whisper_price,
    }


def build_engine(settings: Settings, session: aiohttp.ClientSession, listener: Listener) -> LiveEngine:
    """The engine with every backend that has its settings; raises SettingsError where none has.

    To be called in the event loop that it will run in.
    """
    costs = build_costs(settings, listener)
    built = build_backends(settings, session, costs)
    log_left_out(settings)
    return engine_of(built, settings, costs, listener)


def engine_of(built: Mapping[str, Built], settings: Settings, costs: Costs, listener: Listener) -> LiveEngine:
    """The engine of these backends, in the running event loop."""
    return LiveEngine(
        [item.backend for item in built.values()],
        build_rules(settings),
        costs=costs,
        listener=listener,
        clock=asyncio.get_running_loop().time,
        chance=random.random,
    )


def build_backends(
    settings: Settings,
    session: aiohttp.ClientSession,
    costs: Costs,
    present: Mapping[str, Built] | None = None,
    *,
    turn: Lock | None = None,
) -> dict[str, Built]:
    """Every backend that has its settings, by name, in their order; raises SettingsError where none has.

    Those of the `present` ones whose settings are the same are taken over. Models are loaded by `turn`.
    """
    built = {
        name: build_backend(name, settings, session, costs, (present or {}).get(name), turn=turn)
        for name in settings.backends
        if not what_is_missing(name, settings)
    }
    if not built:
        raise SettingsError(
            "no backend is left; set ASSEMBLYAI_API_KEY, WHISPER_SERVICE_URL or LOCAL_ENABLED=true"
        )
    return built


def log_left_out(settings: Settings, before: Settings | None = None) -> None:
    """Log which of the enabled backends lacks what, unless it did before."""
    missing = _missing(settings).items() - (_missing(before).items() if before else set())
    for reason in sorted({reason for _, reason in missing}):
        names = [name for name in settings.backends if (name, reason) in missing]
        _LOGGER.info("%s %s left out: %s", ", ".join(names), "are" if len(names) > 1 else "is", reason)


def _missing(settings: Settings) -> dict[str, str]:
    return {name: reason for name in settings.backends if (reason := what_is_missing(name, settings))}


def build_backend(
    name: str,
    settings: Settings,
    session: aiohttp.ClientSession,
    costs: Costs,
    present: Built | None = None,
    *,
    turn: Lock | None = None,
) -> Built:
    """One backend that misses nothing; the `present` one where its settings are the same."""
    options = _options(name, settings)
    if present and present.options == options:
        return present
    spend = partial(costs.add, name)
    match options:
        case AssemblyAIOptions():
            return Built(AssemblyAI(options, session, spend), options)
        case AssemblyAISyncOptions():
            return Built(AssemblyAISync(options, session, spend), options)
        case WhisperOptions():
            return Built(Whisper(options, session, spend), options)
        case LocalOptions():
            return Built(Local(_runner(options.model, present, turn), options.languages), options)


def _runner(model: ModelOptions, present: Built | None, turn: Lock | None) -> ModelRunner:
    """What runs the model; the present one where that is the same, so that it is not loaded again."""
    if present and isinstance(present.backend, Local) and isinstance(present.options, LocalOptions):
        is_same = present.options.model == model
        if is_same:
            return present.backend.runner
    transcriber = WhisperTranscriber(
        model.model,
        directory=model.directory,
        device=model.device,
        beam_size=model.beam_size,
        threads=model.threads,
    )
    return ModelRunner(transcriber, fetch=transcriber.fetch, turn=turn)


def build_rules(settings: Settings) -> Rules:
    """How the engine is to ask its backends."""
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


def what_is_missing(name: str, settings: Settings) -> str | None:
    """Why a backend cannot be asked, such as a setting without a value; None where it can."""
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


def _options(name: str, settings: Settings) -> Options:
    match name:
        case "assemblyai":
            return AssemblyAIOptions(
                api_key=settings.assemblyai_api_key,
                url=settings.assemblyai_streaming_url,
                model=settings.assemblyai_model,
                mode=settings.assemblyai_mode,
                languages=settings.assemblyai_languages,
                connect_timeout=settings.assemblyai_connect_timeout,
                timeout=settings.assemblyai_timeout,
            )
        case "assemblyai_sync":
            return AssemblyAISyncOptions(
                api_key=settings.assemblyai_api_key,
                url=_sync_url(settings),
                model=settings.assemblyai_sync_model,
                languages=settings.assemblyai_languages,
                connect_timeout=settings.assemblyai_connect_timeout,
                timeout=settings.assemblyai_sync_timeout,
            )
        case "whisper":
            return WhisperOptions(
                url=settings.whisper_service_url,
                api_key=settings.whisper_api_key,
                proxy_key=settings.whisper_proxy_key,
                proxy_secret=settings.whisper_proxy_secret,
                model=settings.whisper_model,
                connect_timeout=settings.whisper_connect_timeout,
                timeout=settings.whisper_timeout,
                languages=settings.whisper_languages,
            )
        case _:
            model = ModelOptions(
                model=settings.local_model,
                directory=settings.model_dir,
                device=settings.local_device,
                beam_size=settings.local_beam_size,
                threads=settings.local_threads,
            )
            return LocalOptions(model, settings.whisper_languages)
