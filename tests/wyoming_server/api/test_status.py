"""The status of a house in states that are hard to come by over the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.wyoming_server.houses import ALL, Works, house_at
from wyoming_server.api.status import status
from wyoming_server.errors import UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    from wyoming_server.house import House

DOWN = UnreachableError("down")


@pytest.fixture(autouse=True)
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    return Works(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


def backend(house: House, name: str) -> dict[str, Any]:
    return next(item for item in status(house, "tcp://x:1")["backends"] if item["name"] == name)


async def test_a_backend_that_is_being_probed_waits_for_no_probe(path: Path) -> None:
    async with house_at(path, ALL) as house:
        health = house.engine.healths["whisper"]
        health.failed(DOWN)
        assert 3.9 < backend(house, "whisper")["retry_in"] <= 6
        health.begin_probe()
        shown = backend(house, "whisper")
        assert (shown["state"], shown["cause"], shown["retry_in"]) == ("half-open", "network", None)
        health.recovered()
        shown = backend(house, "whisper")
        assert (shown["state"], shown["cause"], shown["retry_in"]) == ("closed", None, None)


async def test_one_backend_that_can_be_asked_is_enough(path: Path) -> None:
    async with house_at(path, ALL) as house:
        house.engine.healths["whisper"].failed(DOWN)
        assert status(house, "")["problem"] is None
        house.engine.healths["assemblyai"].failed(DOWN)
        assert status(house, "")["problem"] == "all-open"


async def test_what_a_backend_lacks_that_is_not_wanted_is_nobodys_business(path: Path) -> None:
    async with house_at(path, {**ALL, "LOCAL_ENABLED": "no"}) as house:
        assert (backend(house, "local")["enabled"], backend(house, "local")["missing"]) == (False, None)
        assert status(house, "tcp://x:1")["wyoming"] == "tcp://x:1"
