from __future__ import annotations

import logging
from dataclasses import fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from modal_whisper.languages import LANGUAGES
from wyoming_server.backends.assemblyai import AssemblyAI
from wyoming_server.backends.assemblyai_sync import AssemblyAISync
from wyoming_server.backends.local import Local
from wyoming_server.backends.whisper import Whisper
from wyoming_server.build import build_engine, build_server
from wyoming_server.errors import SettingsError
from wyoming_server.hedging import Patience, Strategy
from wyoming_server.settings import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from wyoming_server.engine import Engine

ALL = {"ASSEMBLYAI_API_KEY": "a-key", "WHISPER_SERVICE_URL": "ws://worker:10301"}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def build(session: aiohttp.ClientSession, **values: str) -> Engine:
    return build_engine(load(values, {}), session, lambda _: None)


def names(engine: Engine) -> list[str]:
    return [backend.name for backend in engine.backends]


async def test_with_all_settings_all_backends_are_there_in_the_default_order(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engine = build(session, **ALL)
    assert [type(backend) for backend in engine.backends] == [AssemblyAI, AssemblyAISync, Whisper, Local]
    assert names(engine) == ["assemblyai", "assemblyai_sync", "whisper", "local"]
    assert caplog.messages == []
    await engine.close()


async def test_the_order_is_the_users(session: aiohttp.ClientSession) -> None:
    engine = build(session, **ALL, BACKENDS="local,assemblyai")
    assert names(engine) == ["local", "assemblyai"]
    await engine.close()


@pytest.mark.parametrize(
    ("values", "left", "line"),
    [
        (
            {"WHISPER_SERVICE_URL": "ws://w"},
            ["whisper", "local"],
            "assemblyai, assemblyai_sync are left out: ASSEMBLYAI_API_KEY is not set",
        ),
        (
            {"ASSEMBLYAI_API_KEY": "a-key"},
            ["assemblyai", "assemblyai_sync", "local"],
            "whisper is left out: WHISPER_SERVICE_URL is not set",
        ),
        (
            ALL | {"WHISPER_ENABLED": "false"},
            ["assemblyai", "assemblyai_sync", "local"],
            "whisper is left out: WHISPER_ENABLED is false",
        ),
        (
            ALL | {"LOCAL_ENABLED": "no"},
            ["assemblyai", "assemblyai_sync", "whisper"],
            "local is left out: LOCAL_ENABLED is false",
        ),
    ],
)
async def test_a_backend_without_its_settings_is_left_out_and_the_log_says_so_in_one_line(
    session: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
    values: dict[str, str],
    left: list[str],
    line: str,
) -> None:
    caplog.set_level(logging.INFO)
    engine = build(session, **values)
    assert names(engine) == left
    assert caplog.messages == [line]
    await engine.close()


@pytest.mark.parametrize(
    "values", [{"LOCAL_ENABLED": "false"}, {"BACKENDS": "assemblyai"}, {"BACKENDS": "whisper,assemblyai"}]
)
async def test_without_any_backend_the_error_says_what_to_set(
    session: aiohttp.ClientSession, values: dict[str, str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        build(session, **values)
    assert str(caught.value) == (
        "no backend is left; set ASSEMBLYAI_API_KEY, WHISPER_SERVICE_URL or LOCAL_ENABLED=true"
    )


def options_of(backend: Any) -> dict[str, Any]:
    return {item.name: getattr(backend._options, item.name) for item in fields(backend._options)}


async def test_the_settings_of_assemblyai_reach_it(session: aiohttp.ClientSession) -> None:
    engine = build(
        session,
        BACKENDS="assemblyai",
        ASSEMBLYAI_API_KEY="a-key",
        ASSEMBLYAI_STREAMING_URL="wss://streaming.eu.assemblyai.com",
        ASSEMBLYAI_MODEL="universal-streaming-english",
        ASSEMBLYAI_MODE="balanced",
        ASSEMBLYAI_LANGUAGES="de,en",
        ASSEMBLYAI_CONNECT_TIMEOUT="2.5",
        ASSEMBLYAI_TIMEOUT="1.25",
    )
    assert options_of(engine.backends[0]) == {
        "api_key": "a-key",
        "url": "wss://streaming.eu.assemblyai.com",
        "model": "universal-streaming-english",
        "mode": "balanced",
        "languages": ("de", "en"),
        "connect_timeout": 2.5,
        "timeout": 1.25,
    }
    assert engine.languages == {"en"}


async def test_the_settings_of_the_sync_endpoint_reach_it(session: aiohttp.ClientSession) -> None:
    engine = build(
        session,
        BACKENDS="assemblyai_sync",
        ASSEMBLYAI_API_KEY="a-key",
        ASSEMBLYAI_LANGUAGES="de",
        ASSEMBLYAI_CONNECT_TIMEOUT="2.5",
        ASSEMBLYAI_SYNC_URL="https://sync.eu.assemblyai.com",
        ASSEMBLYAI_SYNC_MODEL="universal-3-6-pro",
        ASSEMBLYAI_SYNC_TIMEOUT="1.75",
    )
    assert options_of(engine.backends[0]) == {
        "api_key": "a-key",
        "url": "https://sync.eu.assemblyai.com",
        "model": "universal-3-6-pro",
        "languages": ("de",),
        "connect_timeout": 2.5,
        "timeout": 1.75,
    }


@pytest.mark.parametrize(
    ("streaming", "sync"),
    [
        ("wss://streaming.assemblyai.com", "https://sync.assemblyai.com"),
        ("wss://streaming.eu.assemblyai.com", "https://sync.eu.assemblyai.com"),
        ("wss://streaming.us.assemblyai.com/", "https://sync.us.assemblyai.com"),
    ],
)
async def test_no_voice_leaves_the_region_that_was_chosen(
    session: aiohttp.ClientSession, streaming: str, sync: str
) -> None:
    values = {"BACKENDS": "assemblyai_sync", "ASSEMBLYAI_STREAMING_URL": streaming}
    engine = build(session, ASSEMBLYAI_API_KEY="k", **values)
    assert options_of(engine.backends[0])["url"] == sync


@pytest.mark.parametrize("streaming", ["ws://127.0.0.1:1234", "wss://streaming.assemblyai.com.example.org"])
async def test_behind_a_proxy_whole_utterances_go_nowhere_unless_it_is_said_where(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, streaming: str
) -> None:
    caplog.set_level(logging.INFO)
    values = {"BACKENDS": "assemblyai,assemblyai_sync", "ASSEMBLYAI_STREAMING_URL": streaming}
    engine = build(session, ASSEMBLYAI_API_KEY="k", **values)
    assert names(engine) == ["assemblyai"]
    reason = "ASSEMBLYAI_STREAMING_URL is none of AssemblyAI's own, and ASSEMBLYAI_SYNC_URL is not set"
    assert caplog.messages == [f"assemblyai_sync is left out: {reason}"]


@pytest.mark.parametrize(("budget", "is_over"), [("0", False), ("1", False), ("0.1", True)])
async def test_prices_and_the_daily_budget_count(
    session: aiohttp.ClientSession, budget: str, *, is_over: bool
) -> None:
    engine = build(session, **ALL, DAILY_BUDGET=budget, ASSEMBLYAI_PRICE="0.5")
    engine.backends[0]._spend(1800)  # type: ignore[attr-defined]  # an AssemblyAI backend has it
    assert engine._costs.dollars("assemblyai") == 0.25
    assert engine._costs.is_over_budget("assemblyai") == is_over
    await engine.close()


async def test_the_settings_of_the_worker_reach_it(session: aiohttp.ClientSession) -> None:
    engine = build(
        session,
        BACKENDS="whisper",
        WHISPER_SERVICE_URL="https://worker.example",
        WHISPER_API_KEY="w-key",
        WHISPER_PROXY_KEY="wk-1",
        WHISPER_PROXY_SECRET="ws-2",
        WHISPER_MODEL="large-v3",
        WHISPER_CONNECT_TIMEOUT="2.5",
        WHISPER_TIMEOUT="1.25",
        WHISPER_LANGUAGES="de,nb",
    )
    assert options_of(engine.backends[0]) == {
        "url": "https://worker.example",
        "api_key": "w-key",
        "proxy_key": "wk-1",
        "proxy_secret": "ws-2",
        "model": "large-v3",
        "connect_timeout": 2.5,
        "timeout": 1.25,
        "languages": ("de", "no"),
    }


async def test_the_settings_of_the_local_model_reach_it(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[tuple[str, dict[str, Any]]] = []

    def make(model: str, **options: Any) -> SimpleNamespace:
        made.append((model, options))
        return SimpleNamespace(model=model, fetch=None)

    monkeypatch.setattr("wyoming_server.build.WhisperTranscriber", make)
    engine = build(
        session,
        BACKENDS="local",
        LOCAL_MODEL="small",
        MODEL_DIR=str(tmp_path),
        LOCAL_DEVICE="cpu",
        LOCAL_BEAM_SIZE="5",
        LOCAL_THREADS="3",
    )
    assert made == [("small", {"directory": tmp_path, "device": "cpu", "beam_size": 5, "threads": 3})]
    assert engine.languages == LANGUAGES
    await engine.close()


async def test_the_limits_and_key_terms_reach_the_server(session: aiohttp.ClientSession) -> None:
    settings = load(
        {
            "URI": "tcp://127.0.0.1:1234",
            "BACKENDS": "local",
            "DEADLINE": "5",
            "STRATEGY": "race",
            "CONNECT_PATIENCE": "2",
            "PROGRESS_PATIENCE": "4",
            "HEDGE_MIN": "0.5",
            "HEDGE_MAX": "1",
            "MAX_UTTERANCE": "30",
            "IDLE_TIMEOUT": "20",
            "MAX_CONNECTIONS": "7",
            "KEY_TERMS": "Ecobee,Sonos",
        },
        {},
    )
    engine = build_engine(settings, session, lambda _: None)
    server = build_server(settings, engine)
    assert (engine._rules.deadline, engine._rules.strategy) == (5.0, Strategy.RACE)
    assert engine._rules.patience == Patience(connect=2, progress=4, least=0.5, most=1)
    assert server.uri == "tcp://127.0.0.1:1234"
    limits = server._limits
    assert (limits.max_utterance, limits.idle_timeout, limits.max_connections) == (30.0, 20.0, 7)
    assert server._key_terms == ("Ecobee", "Sonos")
    await engine.close()


async def test_what_happens_is_told_to_the_listener(session: aiohttp.ClientSession) -> None:
    events: list[object] = []
    engine = build_engine(load({"BACKENDS": "local"}, {}), session, events.append)
    engine._listener("a fact")  # type: ignore[arg-type] # any fact does
    assert events == ["a fact"]
    await engine.close()
