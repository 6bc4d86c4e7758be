"""/metrics: the tally and the state of things, as Prometheus reads them."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web

from modal_whisper.version import __version__
from wyoming_server.breaker import State
from wyoming_server.metrics import BUCKETS, Tally
from wyoming_server.settings import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client import Metric
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    from wyoming_server.house import House

_NO_UTTERANCES: Final = {
    **{(name, "answered"): 0 for name in BACKENDS},
    **{("", outcome): 0 for outcome in ("silent", "failed", "abandoned")},
}
_NO_FAILOVERS: Final = dict.fromkeys(permutations(BACKENDS, 2), 0)
# Both are told from the start: Prometheus sees no increase in what was not there before.


class MetricsPage:
    """Counts from now on; `connections` tells how many are open, by kind."""

    def __init__(self, house: House, connections: Callable[[], Mapping[str, int]] = dict) -> None:
        self._house = house
        self._connections = connections
        self._tally = Tally()
        house.listen(self._tally)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Everything as it is now, in the format that the client prefers."""
        # Only those who scrape pay for these imports.
        from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    def collect(self) -> Iterator[Metric]:
        """What a registry asks of a collector."""
        yield from self._utterances()
        yield from self._state()

    def _utterances(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import (  # noqa: PLC0415 - see get
            CounterMetricFamily,
            HistogramMetricFamily,
        )

        tally = self._tally
        yield _filled(
            CounterMetricFamily(
                "stt_failover_utterances",
                "Utterances: answered, silent (nobody spoke), failed or abandoned (the client left).",
                labels=["backend", "outcome"],
            ),
            (_NO_UTTERANCES | tally.utterances).items(),
        )
        histogram = HistogramMetricFamily(
            "stt_failover_transcript_seconds", "From the last sample to the transcript.", labels=["backend"]
        )
        bounds = [*map(str, BUCKETS), "+Inf"]
        for backend, durations in tally.transcripts.items():
            buckets = list(zip(bounds, durations.cumulative, strict=True))
            histogram.add_metric([backend], buckets, durations.sum)
        yield histogram
        yield _filled(
            CounterMetricFamily(
                "stt_failover_attempts",
                "Backends that were asked, why, and what became of it.",
                labels=["backend", "reason", "outcome"],
            ),
            tally.attempts.items(),
        )
        yield _filled(
            CounterMetricFamily(
                "stt_failover_failovers",
                "Utterances answered by another backend (to) than the one that was asked first (from).",
                labels=["from", "to"],
            ),
            (_NO_FAILOVERS | tally.failovers).items(),
        )
        yield _filled(
            CounterMetricFamily(
                "stt_failover_failures", "Attempts that ended in an error.", labels=["backend", "code"]
            ),
            tally.failures.items(),
        )
        yield CounterMetricFamily(
            "stt_failover_audio_seconds", "Audio of the utterances.", value=tally.audio_seconds
        )

    def _state(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import (  # noqa: PLC0415 - see get
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        costs, healths = self._house.costs, self._house.engine.healths
        yield _filled(
            GaugeMetricFamily(
                "stt_failover_breaker_state",
                "1 for the state of a backend in use: closed (asked), open (left out), half-open (probed).",
                labels=["backend", "state"],
            ),
            (
                ((name, state.value), float(health.state is state))
                for name, health in healths.items()
                for state in State
            ),
        )
        yield _filled(
            CounterMetricFamily(
                "stt_failover_billed_seconds",
                "Seconds that a backend bills; from nothing again with each month.",
                labels=["backend"],
            ),
            (((name,), costs.month_seconds(name)) for name in BACKENDS),
        )
        # Gauges: with another price they go up or down, and a counter must not.
        yield _filled(
            GaugeMetricFamily(
                "stt_failover_cost_today_dollars",
                "What a backend has cost today, by the server's calendar, in US dollars.",
                labels=["backend"],
            ),
            (((name,), costs.dollars(name)) for name in BACKENDS),
        )
        yield _filled(
            GaugeMetricFamily(
                "stt_failover_cost_month_dollars",
                "What a backend has cost this month, in US dollars.",
                labels=["backend"],
            ),
            (((name,), costs.month_dollars(name)) for name in BACKENDS),
        )
        yield _filled(
            GaugeMetricFamily("stt_failover_open_connections", "Clients connected now.", labels=["kind"]),
            (((kind,), number) for kind, number in self._connections().items()),
        )
        yield _filled(
            GaugeMetricFamily("stt_failover_build_info", "The version that runs.", labels=["version"]),
            [((__version__,), 1)],
        )


_Family = TypeVar("_Family", "CounterMetricFamily", "GaugeMetricFamily")


def _filled(family: _Family, rows: Iterable[tuple[Sequence[str], float]]) -> _Family:
    for labels, value in rows:
        family.add_metric(labels, value)
    return family
