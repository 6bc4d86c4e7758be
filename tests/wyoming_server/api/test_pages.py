"""What the pages answer."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from modal_whisper.version import __version__
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final
from tests.fakes import PATIENCE
from tests.sounds import speech
from tests.wyoming_server.api.running import Running, running
from tests.wyoming_server.houses import KEY, TOKEN, Works
from tests.wyoming_server.serving import connected
from wyoming_server.api.serve import Api
from wyoming_server.errors import RateLimitedError, SettingsError, SignInRefusedError
from wyoming_server.events import Traced
from wyoming_server.settings import NAMES, SECRETS

if TYPE_CHECKING:
    from pathlib import Path

VOICE = speech(600)
STORED = {"BACKENDS": "assemblyai,whisper", "ASSEMBLYAI_API_KEY": KEY, "WHISPER_SERVICE_URL": "ws://w"}


@pytest.fixture(autouse=True)
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    return Works(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where settings are stored, with some in it."""
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(STORED))
    return path


async def say(house: Running) -> str:
    """The answer to an utterance, once everything is known of it."""
    traced = asyncio.Event()
    house.house.listen(lambda event: traced.set() if isinstance(event, Traced) else None)
    async with connected(house.wyoming) as client:
        await client.say(VOICE)
        event = await client.next()
        await traced.wait()
        return str(event.data.get("text"))


def kept(path: Path) -> str:
    return path.read_text()


def by_name(status: Any) -> dict[str, Any]:
    return {backend["name"]: backend for backend in status["backends"]}


# /api/status


async def test_the_status_of_a_server_that_has_done_nothing_yet(path: Path) -> None:
    async with running(path, {"DEADLINE": "5"}) as house:
        code, status = await house.ask("GET", "/api/status")
        assert code == 200
        assert status.pop("uptime") >= 0
        assert "de" in status.pop("languages")
        backends = status.pop("backends")
        assert status == {
            "id": house.house.server_id,
            "version": __version__,
            "wyoming": house.wyoming.uri,
            "strategy": "hedge",
            "deadline": 5.0,
            "endpointing": False,
            "problem": None,
            "last": None,
            "day": {
                "utterances": 0,
                "answered": 0,
                "failovers": 0,
                "availability": None,
                "median_ms": None,
            },
        }
        assert [(item["name"], item["enabled"], item["state"]) for item in backends] == [
            ("assemblyai", True, "closed"),
            ("whisper", True, "closed"),
            ("assemblyai_sync", False, None),
            ("local", False, None),
        ]
        assert backends[0] == {
            "name": "assemblyai",
            "enabled": True,
            "missing": None,
            "state": "closed",
            "cause": None,
            "retry_in": None,
            "median_ms": None,
            "p95_ms": None,
            "today": {"seconds": 0.0, "dollars": 0.0},
            "month": {"seconds": 0.0, "dollars": 0.0},
            "over_budget": False,
        }
        assert backends[3]["missing"] is None


async def test_the_status_tells_who_answers_what_it_costs_and_how_long_it_takes(path: Path) -> None:
    async with running(path, {"ASSEMBLYAI_PRICE": "3.6", "DAILY_BUDGET": "0.05"}) as house:
        for _ in range(10):
            assert await say(house) == "words of assemblyai"
        house.house.costs.add("assemblyai", 60)
        _, status = await house.ask("GET", "/api/status")
        backend = by_name(status)["assemblyai"]
        assert backend["median_ms"] <= backend["p95_ms"] < PATIENCE * 1000
        assert backend["today"] == backend["month"] == {"seconds": 60.0, "dollars": 0.06}
        assert backend["over_budget"]
        assert (status["last"]["backend"], status["last"]["error"]) == ("assemblyai", None)
        assert status["last"]["ms"] >= 0
        assert (status["day"]["utterances"], status["day"]["availability"]) == (10, 1.0)


async def test_the_status_tells_who_is_left_out_and_why(works: Works, path: Path) -> None:
    works.scripts["assemblyai"] = lambda: ScriptedBackend("assemblyai", SignInRefusedError("no"))
    works.scripts["whisper"] = lambda: ScriptedBackend("whisper", RateLimitedError("no", 60.0))
    async with running(path) as house:
        await say(house)
        _, status = await house.ask("GET", "/api/status")
        backends = by_name(status)
        assert (backends["assemblyai"]["state"], backends["assemblyai"]["cause"]) == ("open", "sign-in")
        assert backends["assemblyai"]["retry_in"] is None
        assert (backends["whisper"]["state"], backends["whisper"]["cause"]) == ("open", "rate-limit")
        assert 50 < backends["whisper"]["retry_in"] <= 72
        assert status["problem"] == "all-open"
        assert (status["last"]["backend"], status["last"]["ms"]) == ("", None)
        assert status["last"]["error"] == "all-backends-failed"
        _, status = await house.ask("POST", "/api/close-breakers")
        assert {item["state"] for item in status["backends"][:2]} == {"closed"}
        assert status["problem"] == "unanswered"


async def test_what_an_enabled_backend_lacks_is_told(path: Path) -> None:
    async with running(path, {"BACKENDS": "local,whisper", "LOCAL_ENABLED": "no"}) as house:
        _, status = await house.ask("GET", "/api/status")
        assert by_name(status)["local"]["missing"] == "LOCAL_ENABLED is false"
        assert by_name(status)["local"]["state"] is None
        assert by_name(status)["assemblyai_sync"]["missing"] is None


# /api/config


async def test_every_setting_is_shown_with_its_source_and_no_secret(path: Path) -> None:
    async with running(path, {"KEY_TERMS": "Ada,Bob"}) as house:
        code, body = await house.ask("GET", "/api/config")
        settings = body["settings"]
        assert code == 200
        assert set(settings) == set(NAMES)
        assert settings["KEY_TERMS"] == {"value": ["Ada", "Bob"], "source": "flag"}
        assert settings["WHISPER_SERVICE_URL"] == {"value": "ws://w", "source": "stored"}
        assert settings["DEADLINE"] == {"value": 8.0, "source": "default"}
        assert settings["ASSEMBLYAI_API_KEY"] == {"value": None, "source": "stored", "is_set": True}
        assert settings["WHISPER_API_KEY"] == {"value": None, "source": "default", "is_set": False}
        assert {name for name in settings if "is_set" in settings[name]} == SECRETS
        assert KEY not in str(body)
        assert TOKEN not in str(body)


async def test_a_change_is_answered_with_what_holds_now(path: Path) -> None:
    async with running(path) as house:
        changes = {
            "DEADLINE": "5",
            "WHISPER_API_KEY": "w-key-w-key",
            "BACKENDS": ["whisper"],
            "ZEROCONF": "x",
        }
        code, body = await house.ask("PATCH", "/api/config", {"settings": changes})
        assert code == 200
        assert body["restart"] == ["ZEROCONF"]
        assert body["settings"]["DEADLINE"] == {"value": 5.0, "source": "stored"}
        assert body["settings"]["WHISPER_API_KEY"] == {"value": None, "source": "stored", "is_set": True}
        assert "w-key-w-key" not in str(body)
        assert await say(house) == "words of whisper"
        assert json.loads(kept(path))["BACKENDS"] == ["whisper"]
        code, body = await house.ask("PATCH", "/api/config", {"settings": {"DEADLINE": None}})
        assert body["settings"]["DEADLINE"] == {"value": 8.0, "source": "default"}
        assert body["restart"] == []


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ({"settings": {"DEADLINE": 99}}, 400, ("bad-setting", "DEADLINE")),
        ({"settings": {"DEADLINE": 5, "nope": 1}}, 400, ("bad-setting", "nope")),
        ({"settings": {"SETTINGS_FILE": "/x"}}, 400, ("bad-setting", "SETTINGS_FILE")),
        ({"settings": {"BACKENDS": ["local"]}}, 400, ("bad-setting", "BACKENDS")),
        ({"settings": {"WHISPER_API_KEY": "bad key"}}, 400, ("bad-setting", "WHISPER_API_KEY")),
        ({"settings": {"STRATEGY": "race"}}, 409, ("fixed-setting", "STRATEGY")),
        ({"settings": {"API_TOKEN": "x"}}, 409, ("fixed-setting", "API_TOKEN")),
        ({"settings": []}, 400, ("bad-request", None)),
        ({}, 400, ("bad-request", None)),
        ("", 400, ("bad-request", None)),
        ("[]", 400, ("bad-request", None)),
        ("{", 400, ("bad-request", None)),
        ("[" * 50_000, 400, ("bad-request", None)),
        (b"\xff", 400, ("bad-request", None)),
    ],
)
async def test_a_wrong_change_is_refused_and_changes_nothing(
    path: Path, body: Any, code: int, told: tuple[str, str | None]
) -> None:
    async with running(path, {"STRATEGY": "hedge", "LOCAL_ENABLED": "no"}) as house:
        before = kept(path)
        status, answer = await house.ask("PATCH", "/api/config", body)
        assert (status, (answer["code"], answer.get("setting"))) == (code, told)
        assert "\n" not in answer["error"]
        assert "bad key" not in answer["error"]
        assert kept(path) == before
        assert await say(house) == "words of assemblyai"


async def test_a_change_that_cannot_be_kept_is_told_with_the_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(path) as house:

        def full(number: int) -> None:
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(os, "fsync", full)
        status, answer = await house.ask("PATCH", "/api/config", {"settings": {"DEADLINE": 5}})
        assert (status, answer["code"]) == (500, "internal")
        assert answer["error"].endswith("(No space left on device)")


# /api/test


async def test_backends_are_tried(works: Works, path: Path) -> None:
    works.scripts["whisper"] = lambda: ScriptedBackend("whisper", SignInRefusedError("the key is refused"))
    async with running(path) as house:
        code, body = await house.ask("POST", "/api/test")
        good, bad = body["results"]
        assert code == 200
        assert good.pop("ms") >= 0
        assert good == {
            "backend": "assemblyai",
            "ok": True,
            "text": "words of assemblyai",
            "code": None,
            "message": None,
        }
        assert bad == {
            "backend": "whisper",
            "ok": False,
            "text": None,
            "ms": None,
            "code": "sign-in-refused",
            "message": "the key is refused",
        }


async def test_candidate_settings_are_tried(works: Works, path: Path) -> None:
    async with running(path, {"LOCAL_ENABLED": "no"}) as house:
        body = {"backends": ["assemblyai", "local"], "settings": {"ASSEMBLYAI_API_KEY": "candidate-key"}}
        _, answer = await house.ask("POST", "/api/test", body)
        assert [result["code"] for result in answer["results"]] == [None, "missing"]
        assert works.made[-1][0].api_key == "candidate-key"
        assert "candidate-key" not in kept(path) + str(answer)


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ({"backends": ["nope"]}, 400, "bad-request"),
        ({"backends": "assemblyai"}, 400, "bad-request"),
        ({"backends": [["assemblyai"]]}, 400, "bad-request"),
        ({"settings": 5}, 400, "bad-request"),
        ({"settings": {"DEADLINE": 99}}, 400, "bad-setting"),
        ({"settings": {"STRATEGY": "race"}}, 409, "fixed-setting"),
    ],
)
async def test_a_wrong_test_is_refused(works: Works, path: Path, body: Any, code: int, told: str) -> None:
    async with running(path, {"STRATEGY": "hedge"}) as house:
        status, answer = await house.ask("POST", "/api/test", body)
        assert (status, answer["code"]) == (code, told)
        assert not any(backend.asked for _, backend in works.made)


# The rest


async def test_warm_lets_every_backend_get_ready(works: Works, path: Path) -> None:
    async with running(path) as house:
        assert await house.ask("POST", "/api/warm") == (202, {})
        assert [len(backend.warmed_at) for _, backend in works.made] == [1, 1]


async def test_traces_are_told_without_words(path: Path) -> None:
    async with running(path) as house:
        for _ in range(2):
            await say(house)
        code, body = await house.ask("GET", "/api/traces")
        assert code == 200
        first, second = body["traces"]
        assert first["at"] <= second["at"]
        assert first["backend"] == first["attempts"][0]["backend"] == "assemblyai"
        assert first["attempts"][0]["outcome"] == "won"
        assert "words of" not in str(body)


async def test_the_day_is_told_by_the_hour(works: Works, path: Path) -> None:
    works.scripts["assemblyai"] = lambda: ScriptedBackend("assemblyai", RateLimitedError("no"))
    async with running(path) as house:
        await say(house)
        code, body = await house.ask("GET", "/api/day")
        assert code == 200
        assert len(body["hours"]) == 24
        hour = next(item for item in body["hours"] if item["utterances"])  # the last one, or the one before
        assert (hour["answered"], hour["failovers"], hour["backends"]) == (1, 1, {"whisper": 1})
        assert hour["median_ms"] >= 0
        assert "words of" not in str(body)


async def test_the_feed_tells_of_an_outage_and_of_its_end(works: Works, path: Path) -> None:
    works.scripts["assemblyai"] = lambda: ScriptedBackend("assemblyai", SignInRefusedError("no"))
    async with running(path) as house, house.client.ws_connect("/api/events") as feed:
        assert (await feed.receive_json())["status"]["last"] is None
        assert await say(house) == "words of whisper"
        seen: list[Any] = []
        async with asyncio.timeout(PATIENCE):
            while not any(item["type"] == "status" for item in seen):
                seen.append(await feed.receive_json())
            works.scripts["assemblyai"] = lambda: ScriptedBackend(
                "assemblyai", CONNECTED, Wait.AUDIO, final("x")
            )
            changes = {"settings": {"ASSEMBLYAI_API_KEY": "better-key", "DEADLINE": 5}}
            assert (await house.ask("PATCH", "/api/config", changes))[0] == 200
            while seen[-1].get("status", {}).get("deadline") != 5:
                seen.append(await feed.receive_json())
        failover = next(item for item in seen if item["type"] == "failover")
        assert (failover["from"], failover["to"]) == ("assemblyai", "whisper")
        assert failover["code"] == "sign-in-refused"
        assert {"type": "recovery", "backend": "assemblyai"} in seen
        assert by_name(seen[-1]["status"])["assemblyai"]["state"] == "closed"
        assert "words of" not in str(seen)
        assert "better-key" not in str(seen)


async def test_the_feed_tells_of_other_settings_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wyoming_server.api.feed._LOOK_SECONDS", 3 * PATIENCE)
    async with running(path) as house, house.client.ws_connect("/api/events") as feed:
        assert (await feed.receive_json())["status"]["deadline"] == 8
        await house.ask("PATCH", "/api/config", {"settings": {"DEADLINE": 5}})
        async with asyncio.timeout(PATIENCE):
            assert (await feed.receive_json())["status"]["deadline"] == 5


async def test_a_port_that_is_taken_is_one_clear_line(path: Path) -> None:
    async with running(path) as house:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            api = Api(house.house, TOKEN, house.wyoming)
            with pytest.raises(
                SettingsError,
                match=rf"^API_HOST 127\.0\.0\.1, API_PORT {port}: cannot listen there \(.+\); API",
            ) as caught:
                await api.start("127.0.0.1", port)
            assert "\n" not in str(caught.value)
