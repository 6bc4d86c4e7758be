"""What a client with the token may try, and what must not come of it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import PATIENCE, ScriptedTranscriber
from tests.sounds import speech
from tests.wyoming_server.api.running import running
from tests.wyoming_server.houses import ALL, KEY, Works
from tests.wyoming_server.serving import HeldBackend, connected

if TYPE_CHECKING:
    from pathlib import Path

STORED = {"BACKENDS": "assemblyai,whisper", "ASSEMBLYAI_API_KEY": KEY, "WHISPER_SERVICE_URL": "ws://w"}


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    return Works(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(STORED))
    return path


def kept(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.usefixtures("works")
@pytest.mark.parametrize(
    "changes",
    [
        {"KEY_TERMS": "\ud800"},
        {"KEY_TERMS": ["a", "\udfff"]},
        {"KEY_TERMS": "a\0b"},
        {"LOCAL_MODEL": "\ud800"},
        {"MODEL_DIR": "/a\0b"},
        {"ZEROCONF": "\0"},
        {"ASSEMBLYAI_MODEL": "\udc80"},
        {"WHISPER_SERVICE_URL": "ws://\ud800"},
        {"WHISPER_LANGUAGES": ["\ud800"]},
        {"BACKENDS": ["\ud800"]},
        {"API_TRUSTED": ["\ud800"]},
        {"ASSEMBLYAI_API_KEY": "\ud800"},
        {"URI": "unix:///\0"},
        {"\ud800": 1},
        {"API_HOST": "192.0.2.1"},
        {"ASSEMBLYAI_STREAMING_URL": "wss://evil.example"},
    ],
    ids=ascii,
)
async def test_what_cannot_be_kept_is_a_bad_setting(path: Path, changes: dict[str, Any]) -> None:
    async with running(path) as house:
        before = kept(path)
        status, body = await house.ask("PATCH", "/api/config", {"settings": changes})
        assert (status, body["code"], body["setting"]) == (400, "bad-setting", next(iter(changes)))
        assert "\n" not in body["error"]
        assert kept(path) == before


async def test_a_test_sends_no_stored_key_to_a_new_address(works: Works, path: Path) -> None:
    async with running(path) as house:
        body = {"backends": ["assemblyai"], "settings": {"ASSEMBLYAI_STREAMING_URL": "wss://evil.example"}}
        status, answer = await house.ask("POST", "/api/test", body)
        assert (status, answer["setting"]) == (400, "ASSEMBLYAI_STREAMING_URL")
        assert not any(backend.asked for _, backend in works.made)
        body["settings"] |= {"ASSEMBLYAI_API_KEY": "known-to-the-client"}  # type: ignore[operator]
        assert (await house.ask("POST", "/api/test", body))[0] == 200


@pytest.mark.usefixtures("works")
async def test_no_error_repeats_what_may_be_a_password(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(path) as house:
        for url in ("wss://me:geheim@host", "htp://host/?token=geheim", "wss://host:x/#geheim", "geheim@"):
            for page, method in (("/api/config", "PATCH"), ("/api/test", "POST")):
                changes = {"WHISPER_SERVICE_URL": url}
                status, body = await house.ask(method, page, {"settings": changes})
                assert (status, body["setting"]) == (400, "WHISPER_SERVICE_URL")
                assert "geheim" not in body["error"]
        _, body = await house.ask("PATCH", "/api/config", {"settings": {"WHISPER_SERVICE_URL": "htp://host"}})
        assert body["error"].endswith(", not 'htp://host'")
    assert "geheim" not in caplog.text


@pytest.mark.usefixtures("works")
async def test_the_log_names_what_has_changed_and_nothing_of_what_was_refused(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(path, {"LOCAL_ENABLED": "no"}) as house:
        caplog.set_level(logging.INFO)
        caplog.clear()
        for changes in (
            {"BACKENDS": ["local"]},
            {"WHISPER_SERVICE_URL": None, "DEADLINE": 0},
            {"WHISPER_SERVICE_URL": None, "API_HOST": "192.0.2.1"},
        ):
            assert (await house.ask("PATCH", "/api/config", {"settings": changes}))[0] == 400
        assert caplog.messages == []
        changes = {"DEADLINE": 8, "STRATEGY": "race", "WHISPER_SERVICE_URL": None}
        assert (await house.ask("PATCH", "/api/config", {"settings": changes}))[0] == 200
        assert (await house.ask("PATCH", "/api/config", {"settings": {"DEADLINE": "8"}}))[0] == 200
        assert caplog.messages == [
            "settings were changed: STRATEGY, WHISPER_SERVICE_URL",
            "whisper is left out: WHISPER_SERVICE_URL is not set",
            "settings were changed: none",
        ]


async def test_no_more_than_eight_tests_wait(works: Works, path: Path) -> None:
    held: list[HeldBackend] = []
    async with running(path) as house:
        works.scripts["assemblyai"] = lambda: held.append(HeldBackend(name="assemblyai")) or held[-1]  # type: ignore[func-returns-value]
        body = {"backends": ["assemblyai"], "settings": {"ASSEMBLYAI_API_KEY": "another"}}
        tests = [asyncio.create_task(house.ask("POST", "/api/test", body)) for _ in range(9)]
        async with asyncio.timeout(PATIENCE):
            done, waiting = await asyncio.wait(tests, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result()[0] for task in done] == [503]
        assert next(iter(done)).result()[1]["code"] == "too-many-tests"
        while waiting:
            for backend in held:
                backend.let_go.set()
            finished, waiting = await asyncio.wait(waiting, timeout=0.01)
            assert all(task.result()[0] == 200 for task in finished)
        assert (await house.ask("POST", "/api/test", {"backends": ["whisper"]}))[0] == 200


class Loads:
    """Makes models whose loading takes until it is let go, and counts how many load at once."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.loaded: list[str] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def make(self, model: str, **_: Any) -> ScriptedTranscriber:
        """What stands for WhisperTranscriber."""
        loads = self

        class Slow(ScriptedTranscriber):
            def load(self) -> None:
                with loads._lock:
                    loads._now += 1
                    loads.most = max(loads.most, loads._now)
                loads.let_go.wait(PATIENCE)
                with loads._lock:
                    loads._now -= 1
                    loads.loaded.append(self.model)
                super().load()

        return Slow("words", model=model)


async def test_models_are_loaded_one_at_a_time_and_those_that_were_exchanged_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads()
    monkeypatch.setattr("wyoming_server.build.WhisperTranscriber", loads.make)
    async with running(path.with_name("new.json"), {"BACKENDS": "local"}) as house:
        house.house.engine.start()
        for number in range(40):
            changes = {"LOCAL_MODEL": f"model-{number}", "LOCAL_ENABLED": True}
            assert (await house.ask("PATCH", "/api/config", {"settings": changes}))[0] == 200
        loads.let_go.set()
        async with asyncio.timeout(PATIENCE):
            await house.house.engine.wait_ready()
        assert loads.most == 1
        assert loads.loaded[-1] == "model-39"
        assert len(loads.loaded) == 2


async def test_neither_tests_nor_changes_take_a_model_away_from_who_is_speaking(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    made: list[ScriptedTranscriber] = []

    def make(model: str, **_: Any) -> ScriptedTranscriber:
        made.append(ScriptedTranscriber("words", let_go, model=model))
        return made[-1]

    monkeypatch.setattr("wyoming_server.build.WhisperTranscriber", make)
    monkeypatch.setattr("wyoming_server.house._TRIAL_SECONDS", 0.2)
    async with (
        running(path.with_name("new.json"), {"BACKENDS": "local", "DEADLINE": "60"}) as house,
        connected(house.wyoming) as client,
    ):
        await house.house.engine.wait_ready()
        await client.say(speech(600))
        await made[0].wait_asked()
        body = {"backends": ["local"], "settings": {"WHISPER_LANGUAGES": ["de"]}}  # on the same model
        testing = asyncio.create_task(house.ask("POST", "/api/test", body))
        await house.ask("GET", "/health")
        assert (await house.ask("PATCH", "/api/config", {"settings": {"LOCAL_MODEL": "other"}}))[0] == 200
        _, answer = await testing
        assert answer["results"][0]["code"] == "overdue"
        let_go.set()
        assert await client.text() == "words"
        async with asyncio.timeout(PATIENCE):
            while house.house.engine._leaving:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("works")
async def test_a_forged_line_in_an_address_stays_in_its_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(path, ALL) as house:
        monkeypatch.setattr("wyoming_server.api.site.Site._answer", lambda *_: 1 / 0)
        status, _ = await house.ask("GET", "/page/%0aINFO%20forged")
        assert status == 500
        assert caplog.messages[0].endswith(" at /page/%0AINFO%20forged")
