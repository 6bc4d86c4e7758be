"""The dashboard, the alert rules and the page about them know the metrics that there are."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.documents.commands import ROOT
from tests.fake_backends import ScriptedBackend
from tests.sounds import silence, speech
from tests.wyoming_server.api.test_metrics import House, scraping, speaking
from wyoming_server.errors import SignInRefusedError
from wyoming_server.settings import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = ROOT / "docs"
DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text())
JOB = yaml.safe_load((DOCS / "prometheus.yml").read_text())
RULES = yaml.safe_load((DOCS / "prometheus-rules.yml").read_text())
NAME = re.compile(r"\b(?:stt_failover|process)_[a-z_]+\b")
SELECTOR = re.compile(r"\b((?:stt_failover|process)_[a-z_]+)(?:\{(.*?)\})?")
LABEL = re.compile(r'(\w+)(=~|!=|=)"(.*?)"')
OF_PROMETHEUS = {"instance", "job"}

Labels = dict[str, set[str]]
"""By the name of a label, the values that it has."""


def _find(part: Any, key: str) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == key and isinstance(value, str):
                yield value
            yield from _find(value, key)
    elif isinstance(part, list):
        for value in part:
            yield from _find(value, key)


EXPRESSIONS = [
    *_find(DASHBOARD, "expr"),
    *_find(DASHBOARD["templating"], "definition"),
    *_find(RULES, "expr"),
]


@pytest.fixture(scope="module")
def page() -> dict[str, Labels]:
    """Every sample of a server that has seen everything, with its labels."""
    return asyncio.run(_page())


async def _page() -> dict[str, Labels]:
    samples: dict[str, Labels] = {}
    for backends in (
        [ScriptedBackend("assemblyai", SignInRefusedError("no")), speaking("local")],
        [ScriptedBackend("local", SignInRefusedError("no"))],
    ):
        house = House(*backends)
        async with scraping(house, connections=lambda: {"wyoming": 1}) as scraper:
            await house.hear(speech(600) + silence(200))
            for family in (await scraper.families()).values():
                for sample in family.samples:
                    labels = samples.setdefault(sample.name, defaultdict(set))
                    for name, value in sample.labels.items():
                        labels[name].add(value)
    return samples


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_is_there(expression: str, page: dict[str, Labels]) -> None:
    for metric, selector in SELECTOR.findall(expression):
        assert metric in page
        for label, comparison, value in LABEL.findall(selector):
            if label in OF_PROMETHEUS:
                continue
            assert label in page[metric], metric
            assert comparison == "=~" or value in page[metric][label], metric
    grouped = {name.strip() for names in re.findall(r"by \((.*?)\)", expression) for name in names.split(",")}
    known = {label for metric in NAME.findall(expression) for label in page[metric]}
    assert grouped <= known | (OF_PROMETHEUS if known else set())


def test_a_legend_shows_labels_that_are_left() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = re.search(r"by \((.*?)\)", target["expr"])
            if shown and grouped:
                assert shown <= {name.strip() for name in grouped[1].split(",")}


def test_the_dashboard_can_be_imported() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "instance"}
    assert set(_find(DASHBOARD["panels"], "uid")) == {"${datasource}"}
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells


def test_the_scrape_job_asks_where_the_api_listens() -> None:
    settings = validate({})
    (job,) = JOB["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{settings.api_host}:{settings.api_port}"]}]
    assert job["authorization"]["type"] == "Bearer"
    assert "metrics_path" not in job
    assert [name for name in JOB["rule_files"] if not (DOCS / name).is_file()] == []
    jobs = {job["job_name"]}
    assert set(re.findall(r'job=~?"(.*?)"', "\n".join(EXPRESSIONS))) <= jobs


def test_the_page_names_every_metric_and_no_other(page: dict[str, Labels]) -> None:
    text = (DOCS / "observability.md").read_text()
    ours = {re.sub("_(bucket|sum|count)$", "", name) for name in page if name.startswith("stt_failover_")}
    assert {name for name in NAME.findall(text) if name.startswith("stt_failover_")} == ours
    assert set(NAME.findall(text)) - ours <= set(page)


def test_the_page_names_every_event_of_the_log() -> None:
    told = set(re.findall(r'_tell\(\s*logging\.\w+,\s*"(\w+)"', (ROOT / "wyoming_server/log.py").read_text()))
    text = (DOCS / "observability.md").read_text().partition("| `event` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == told
