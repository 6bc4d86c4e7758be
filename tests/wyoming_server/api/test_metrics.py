"""/metrics, read by the parsers of prometheus_client itself."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import asynccontextmanager
from datetime import date
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from modal_whisper import __version__
from tests.engines import ignore, new_costs
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final
from tests.sounds import silence, speech
from tests.wyoming_server.backends.listening import recording_of
from tests.wyoming_server.backends.servers import serving
from wyoming_server.api.metrics import MetricsPage
from wyoming_server.backends.base import Request
from wyoming_server.costs import Costs
from wyoming_server.errors import BackendError, SignInRefusedError
from wyoming_server.events import all_of
from wyoming_server.hedging import HedgeBudget, Patience, Strategy
from wyoming_server.live import LiveEngine
from wyoming_server.race import Rules
from wyoming_server.settings import BACKENDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client import Metric

    from wyoming_server.backends.base import Backend
    from wyoming_server.events import Event, Listener

VOICE = speech(600) + silence(200)
OPEN = "application/openmetrics-text; version=1.0.0"


class House:
    """What the page asks of a house."""

    def __init__(self, *backends: Backend) -> None:
        self._listeners: list[Listener] = []
        self.costs = new_costs({"assemblyai": 36.0})
        rules = Rules(strategy=Strategy.FAILOVER, deadline=8, patience=Patience(), budget=HedgeBudget(0.05))
        self.engine = LiveEngine(
            backends, rules, costs=self.costs, listener=self._tell, clock=lambda: 0.0, chance=lambda: 0.5
        )

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def _tell(self, event: Event) -> None:
        all_of(*self._listeners)(event)

    async def hear(self, pcm: bytes) -> None:
        try:
            async for _ in self.engine.transcribe(recording_of(pcm), Request()):
                pass
        except BackendError:
            pass


class Scraper:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    async def text(self, accept: str = "") -> tuple[str, str]:
        """The type of what came, and that."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self._url, headers={"Accept": accept} if accept else {}) as answer,
        ):
            assert answer.status == 200
            return answer.headers["Content-Type"], await answer.text()

    async def families(self) -> dict[str, Metric]:
        _, text = await self.text()
        return {family.name: family for family in parse_plain(text)}

    async def values(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of this name that are not zero, by the values of their labels in alphabetical order."""
        families = await self.families()
        return {
            tuple(sample.labels.values()): sample.value
            for family in families.values()
            for sample in family.samples
            if sample.name == name and sample.value
        }


@asynccontextmanager
async def scraping(house: House, **options: object) -> AsyncIterator[Scraper]:
    app = web.Application()
    app.router.add_get("/metrics", MetricsPage(house, **options).get)
    async with serving(app) as port:
        yield Scraper(port)
    await house.engine.close()


def speaking(name: str) -> ScriptedBackend:
    return ScriptedBackend(name, CONNECTED, Wait.AUDIO, final("open the door"))


async def test_an_utterance_is_counted_with_who_was_asked_and_who_answered() -> None:
    house = House(ScriptedBackend("assemblyai", SignInRefusedError("no")), speaking("local"))
    async with scraping(house) as scraper:
        await house.hear(VOICE)
        await house.hear(silence(500))
        assert await scraper.values("stt_failover_utterances_total") == {
            ("local", "answered"): 1,
            ("", "silent"): 1,
        }
        attempts = await scraper.values("stt_failover_attempts_total")
        assert attempts["assemblyai", "failed", "first"] == 1
        assert attempts["local", "won", "failed"] == 1
        assert await scraper.values("stt_failover_failovers_total") == {("assemblyai", "local"): 1}
        failures = await scraper.values("stt_failover_failures_total")
        assert failures == {("assemblyai", "sign-in-refused"): 1}
        assert await scraper.values("stt_failover_audio_seconds_total") == {(): 1.3}


async def test_an_utterance_that_nobody_answers_is_counted_too() -> None:
    house = House(ScriptedBackend("local", SignInRefusedError("no")))
    async with scraping(house) as scraper:
        await house.hear(VOICE)
        assert await scraper.values("stt_failover_utterances_total") == {("", "failed"): 1}
        assert await scraper.values("stt_failover_transcript_seconds_count") == {}


async def test_the_time_to_the_transcript_is_a_histogram() -> None:
    house = House(speaking("local"))
    async with scraping(house) as scraper:
        await house.hear(VOICE)
        await house.hear(VOICE)
        family = (await scraper.families())["stt_failover_transcript_seconds"]
        assert family.type == "histogram"
        buckets = {
            sample.labels["le"]: sample.value
            for sample in family.samples
            if sample.name == "stt_failover_transcript_seconds_bucket"
        }
        assert [*buckets][:1] + [*buckets][-2:] == ["0.01", "8.0", "+Inf"]
        assert buckets["+Inf"] == 2
        assert list(buckets.values()) == sorted(buckets.values())
        assert await scraper.values("stt_failover_transcript_seconds_count") == {("local",): 2}
        assert (await scraper.values("stt_failover_transcript_seconds_sum"))["local",] > 0


async def test_the_breaker_of_each_backend_is_in_one_state() -> None:
    house = House(ScriptedBackend("assemblyai", SignInRefusedError("no")), speaking("local"))
    async with scraping(house) as scraper:
        assert await scraper.values("stt_failover_breaker_state") == {
            ("assemblyai", "closed"): 1,
            ("local", "closed"): 1,
        }
        await house.hear(VOICE)
        assert await scraper.values("stt_failover_breaker_state") == {
            ("assemblyai", "open"): 1,
            ("local", "closed"): 1,
        }
        samples = (await scraper.families())["stt_failover_breaker_state"].samples
        assert len(samples) == 6  # a zero is told, so that a state is seen to end


async def test_what_is_billed_is_told_in_seconds_and_dollars() -> None:
    house, days = House(speaking("local")), [date(2026, 11, 23)]
    house.costs = Costs({"assemblyai": 36.0}, budget=None, today=lambda: days[-1], listener=ignore)
    async with scraping(house) as scraper:
        house.costs.add("assemblyai", 25.0)
        days.append(date(2026, 11, 24))
        house.costs.add("assemblyai", 50.0)
        house.costs.add("whisper", 2.5)
        assert await scraper.values("stt_failover_billed_seconds_total") == {
            ("assemblyai",): 75,
            ("whisper",): 2.5,
        }
        assert await scraper.values("stt_failover_cost_today_dollars") == {("assemblyai",): 0.5}
        assert await scraper.values("stt_failover_cost_month_dollars") == {("assemblyai",): 0.75}


async def test_connections_are_those_of_the_moment() -> None:
    connections = {"wyoming": 3}
    async with scraping(House(), connections=lambda: connections) as scraper:
        assert await scraper.values("stt_failover_open_connections") == {("wyoming",): 3}
        connections["wyoming"] = 2
        connections["api"] = 1
        assert await scraper.values("stt_failover_open_connections") == {("wyoming",): 2, ("api",): 1}


async def test_what_may_be_watched_for_an_increase_is_there_from_the_start() -> None:
    async with scraping(House(speaking("local"))) as scraper:
        families = await scraper.families()
    samples = families["stt_failover_failovers"].samples
    assert {(sample.labels["from"], sample.labels["to"], sample.value) for sample in samples} == {
        (first, answering, 0) for first in BACKENDS for answering in BACKENDS if first != answering
    }
    samples = families["stt_failover_utterances"].samples
    assert {(sample.labels["backend"], sample.labels["outcome"]): sample.value for sample in samples} == {
        ("assemblyai", "answered"): 0,
        ("assemblyai_sync", "answered"): 0,
        ("whisper", "answered"): 0,
        ("local", "answered"): 0,
        ("", "silent"): 0,
        ("", "failed"): 0,
        ("", "abandoned"): 0,
    }


async def test_the_process_is_told_of_as_everywhere() -> None:
    async with scraping(House()) as scraper:
        (start,) = (await scraper.values("process_start_time_seconds")).values()
        assert 0 <= time.time() - start < 24 * 3600
        assert await scraper.values("process_resident_memory_bytes")


async def test_the_version_is_told() -> None:
    async with scraping(House()) as scraper:
        assert await scraper.values("stt_failover_build_info") == {(__version__,): 1}


@pytest.mark.parametrize(
    ("accept", "content_type"), [("", "text/plain"), (OPEN, "application/openmetrics-text")]
)
async def test_both_formats_can_be_read_and_name_everything_as_prometheus_does(
    accept: str, content_type: str
) -> None:
    house = House(ScriptedBackend("assemblyai", SignInRefusedError("no")), speaking("local"))
    async with scraping(house, connections=lambda: {"api": 1}) as scraper:
        await house.hear(VOICE)
        given, text = await scraper.text(accept)
    assert given.startswith(content_type)
    families = list((parse_open if accept else parse_plain)(text))
    assert len([family for family in families if family.name.startswith("stt_failover_")]) == 12
    for family in families:
        assert family.name.startswith(("stt_failover_", "process_"))
        assert family.documentation
        assert family.samples, family.name
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
    words = {word for family in families for word in family.name.split("_")}
    assert not words & {"ms", "milliseconds", "minutes", "cents"}


async def test_no_word_that_was_said_is_told() -> None:
    house = House(speaking("local"))
    async with scraping(house) as scraper:
        await house.hear(VOICE)
        _, text = await scraper.text()
    assert "door" not in text


def test_who_never_scrapes_does_not_load_the_library() -> None:
    code = "import sys, wyoming_server.api.metrics; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
