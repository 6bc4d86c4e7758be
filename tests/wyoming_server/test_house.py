"""Settings that change while people speak, over real sockets where that matters."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from wyoming.audio import AudioStart
from wyoming.info import Describe, Info

from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final
from tests.fakes import PATIENCE, ScriptedTranscriber
from tests.sounds import speech
from tests.wyoming_server.houses import ALL, KEY, TOKEN, Works, house_at
from tests.wyoming_server.serving import HeldBackend, connected, wish
from wyoming_server.breaker import State
from wyoming_server.build import build_limits, build_server
from wyoming_server.changes import FixedSettingError
from wyoming_server.errors import SettingsError, SignInRefusedError, UnreachableError
from wyoming_server.events import BreakerChanged, Event
from wyoming_server.house import House
from wyoming_server.settings import WrongSettingError, validate
from wyoming_server.store import StoreError
from wyoming_server.trial import Verdict

if TYPE_CHECKING:
    from pathlib import Path

VOICE = speech(600)
START = AudioStart(16_000, 2, 1).event()


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    return Works(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


def stored(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({"BACKENDS": ["assemblyai", "whisper"]} | values))


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def names(house: House) -> list[str]:
    return [backend.name for backend in house.engine.backends]


# Changes


async def test_a_change_is_kept_and_holds(works: Works, path: Path) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY, DEADLINE=5)
    async with house_at(path) as house:
        assert names(house) == ["assemblyai"]
        assert (
            await house.change({"WHISPER_SERVICE_URL": "ws://w", "DEADLINE": None, "STRATEGY": "race"}) == []
        )
        assert names(house) == ["assemblyai", "whisper"]
        assert (house.settings.deadline, house.settings.strategy) == (8.0, "race")
        assert (house.engine._rules.deadline, house.engine._rules.strategy) == (8.0, "race")
        assert read(path) == {
            "SERVER_ID": house.server_id,
            "BACKENDS": ["assemblyai", "whisper"],
            "ASSEMBLYAI_API_KEY": KEY,
            "WHISPER_SERVICE_URL": "ws://w",
            "STRATEGY": "race",
        }
        (kept,), (new,) = works.named("assemblyai"), works.named("whisper")
        assert (kept.is_started, new.is_started) == (False, True)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"DEADLINE": 5, "STRATEGY": "luck"},
            WrongSettingError,
            "STRATEGY takes one of failover, hedge, race",
        ),
        ({"DEADLINE": 5, "NOPE": 1}, WrongSettingError, "'NOPE' is no setting of this server"),
        (
            {"DEADLINE": 5, "SETTINGS_FILE": "/x"},
            WrongSettingError,
            "SETTINGS_FILE cannot be kept in the file",
        ),
        ({"DEADLINE": 5, "DEBUG": True}, FixedSettingError, "DEBUG is set by the command line of the server"),
        (
            {"DEADLINE": 5, "ASSEMBLYAI_API_KEY": None},
            SettingsError,
            "no backend is left; set ASSEMBLYAI_API_KEY",
        ),
        ({"DEADLINE": 5, "BACKENDS": ["whisper"]}, SettingsError, "no backend is left"),
    ],
)
async def test_a_change_that_cannot_be_changes_nothing(
    works: Works, path: Path, changes: dict[str, Any], error: type[SettingsError], text: str
) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path, {"DEBUG": "false"}) as house:
        before, settings = read(path), house.settings
        with pytest.raises(error) as caught:
            await house.change(changes)
        assert str(caught.value).startswith(text)
        assert "\n" not in str(caught.value)
        assert read(path) == before
        assert house.settings is settings
        assert len(works.made) == 1
        assert not works.made[0][1].is_closed


async def test_a_change_that_cannot_be_kept_changes_nothing(
    works: Works, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path) as house:

        def full(number: int) -> None:
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device"):
            await house.change({"ASSEMBLYAI_API_KEY": "other"})
        assert house.settings.assemblyai_api_key == KEY
        assert read(path)["ASSEMBLYAI_API_KEY"] == KEY
        assert [backend for _, backend in works.made[:1]] == list(house.engine.backends)


async def test_what_somebody_wrote_into_the_file_meanwhile_is_not_lost(works: Works, path: Path) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path) as house:
        stored(path, **read(path), KEY_TERMS="Ecobee")
        await house.change({"DEADLINE": 5})
        assert house.settings.key_terms == ("Ecobee",)
        assert read(path)["KEY_TERMS"] == "Ecobee"


async def test_changes_at_the_same_time_are_all_kept(works: Works, path: Path) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path) as house:
        await asyncio.gather(*(house.change({name: 7}) for name in ("DEADLINE", "HEDGE_MAX", "KEEP_WARM")))
        assert (house.settings.deadline, house.settings.hedge_max, house.settings.keep_warm) == (7, 7, 7)
        assert {name: read(path)[name] for name in ("DEADLINE", "HEDGE_MAX", "KEEP_WARM")} == {
            "DEADLINE": 7,
            "HEDGE_MAX": 7,
            "KEEP_WARM": 7,
        }


async def test_what_waits_for_a_restart_is_named_where_it_has_changed(works: Works, path: Path) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path) as house:
        assert sorted(await house.change({"API_PORT": 1234, "ZEROCONF": "auto", "URI": None})) == [
            "API_PORT",
            "ZEROCONF",
        ]
        assert await house.change({"API_PORT": 1234}) == []


async def test_without_a_place_to_keep_them_there_are_no_changes(works: Works) -> None:
    async with aiohttp.ClientSession() as session:
        house = House(validate(ALL), session)
        with pytest.raises(StoreError):
            await house.change({"DEADLINE": 5})
        with pytest.raises(TypeError):
            house.identify(None)  # type: ignore[arg-type]  # it is not looked at


# What stays and what goes


async def test_only_backends_whose_settings_changed_are_made_anew(works: Works, path: Path) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY, WHISPER_SERVICE_URL="ws://w")
    async with house_at(path) as house:
        await house.change({"DEADLINE": 5, "STRATEGY": "race", "BACKENDS": ["whisper", "assemblyai"]})
        assert len(works.made) == 2
        await house.change({"ASSEMBLYAI_API_KEY": "other"})
        old, new = works.named("assemblyai")
        assert len(works.named("whisper")) == 1
        assert names(house) == ["whisper", "assemblyai"]
        assert works.made[-1][0].api_key == "other"
        await asyncio.sleep(0.01)
        assert (old.is_closed, new.is_closed) == (True, False)


async def test_the_local_model_is_not_loaded_again_unless_its_own_settings_change(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    made: list[ScriptedTranscriber] = []

    def make(model: str, **_: Any) -> ScriptedTranscriber:
        made.append(ScriptedTranscriber("words", model=model))
        return made[-1]

    monkeypatch.setattr("wyoming_server.build.WhisperTranscriber", make)
    async with house_at(path) as house:
        house.engine.start()
        await house.engine.wait_ready()
        for changes in ({"DEADLINE": 5}, {"WHISPER_LANGUAGES": ["de"]}, {"KEY_TERMS": "Zoë"}):
            await house.change(changes)
        assert [item.loads for item in made] == [1]
        await house.engine.wait_ready()
        await house.change({"LOCAL_MODEL": "small"})
        await house.engine.wait_ready()
        assert [(item.model, item.loads) for item in made] == [("base", 1), ("small", 1)]


async def test_costs_traces_and_statistics_go_on(works: Works, path: Path) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path) as house:
        server = build_server(validate({"URI": "tcp://127.0.0.1:0"}), house.engine)
        await server.start()
        async with connected(server) as client:
            for key in ("one", "two"):
                house.costs.add("assemblyai", 3600)
                await house.change({"ASSEMBLYAI_API_KEY": key, "ASSEMBLYAI_PRICE": 1.0})
                await client.say(VOICE)
                assert await client.text() == "words of assemblyai"
        await server.stop()
        assert house.costs.seconds("assemblyai") == 7200
        assert house.costs.dollars("assemblyai") == 2.0
        assert house.statistics.day.utterances == len(house.history.latest) == 2


async def test_a_better_key_closes_the_breaker_that_the_worse_one_opened(works: Works, path: Path) -> None:
    events: list[Event] = []
    works.scripts["assemblyai"] = lambda: ScriptedBackend("assemblyai", SignInRefusedError("refused"))
    stored(path, ASSEMBLYAI_API_KEY="bad", WHISPER_SERVICE_URL="ws://w")
    async with house_at(path, listener=events.append) as house:
        server = build_server(validate({"URI": "tcp://127.0.0.1:0"}), house.engine)
        await server.start()
        async with connected(server) as client:
            await client.say(VOICE)
            assert await client.text() == "words of whisper"
            assert house.engine.healths["assemblyai"].state is State.OPEN
            del works.scripts["assemblyai"]
            await house.change({"ASSEMBLYAI_API_KEY": "good"})
            assert house.engine.healths["assemblyai"].state is State.CLOSED
            await client.say(VOICE)
            assert await client.text() == "words of assemblyai"
        await server.stop()
    assert BreakerChanged("assemblyai", State.CLOSED, None, None) in events


# Over the wire


async def test_somebody_in_mid_speech_is_answered_by_the_old_settings_and_the_next_by_the_new(
    works: Works, path: Path
) -> None:
    held: list[HeldBackend] = []

    def make() -> HeldBackend:
        held.append(HeldBackend(f"words of key {len(held)}", "assemblyai"))
        return held[-1]

    works.scripts["assemblyai"] = make
    stored(path, ASSEMBLYAI_API_KEY="zero", KEY_TERMS=["Old"])
    async with house_at(path) as house:
        server = build_server(house.settings, house.engine)
        server._uri = "tcp://127.0.0.1:0"
        house.observe(lambda changed: server.reconfigure(build_limits(changed), changed.key_terms))
        await server.start()
        async with connected(server) as client, connected(server) as other:
            await client.send(wish(transcript_names=["Ada"]), START)
            await client.speak(VOICE)
            await client.settle()
            await house.change({"ASSEMBLYAI_API_KEY": "one", "KEY_TERMS": ["New"], "MAX_UTTERANCE": 7})
            await other.say(VOICE)
            held[1].let_go.set()
            assert await other.text() == "words of key 1"
            assert not held[0].is_closed
            await client.finish(VOICE)
            held[0].let_go.set()
            assert await client.text() == "words of key 0"
            await client.say(VOICE)  # on the same connection, and with the same wishes
            assert await client.text() == "words of key 1"
        await server.stop()
    assert held[0].is_closed
    assert [asked.request.names for asked in held[0].asked] == [("Ada", "Old")]
    assert [asked.request.names for asked in held[1].asked] == [("New",), ("Ada", "New")]
    assert held[0].asked[0].received == VOICE + VOICE


async def test_clients_are_told_the_languages_of_the_moment(works: Works, path: Path) -> None:
    works.scripts["whisper"] = lambda: ScriptedBackend(
        "whisper", CONNECTED, Wait.FOREVER, languages=frozenset({"fr"})
    )
    works.scripts["assemblyai"] = lambda: ScriptedBackend(
        "assemblyai", CONNECTED, Wait.FOREVER, languages=frozenset({"en"})
    )
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path) as house:
        server = build_server(validate({"URI": "tcp://127.0.0.1:0"}), house.engine)
        house.observe(lambda changed: server.reconfigure(build_limits(changed), changed.key_terms))
        await server.start()
        async with connected(server) as client:
            await house.change({"WHISPER_SERVICE_URL": "ws://w", "ENDPOINTING": True})
            await client.send(Describe().event())
            program = Info.from_event(await client.next()).asr[0]
        await server.stop()
    assert program.models[0].languages == ["en", "fr"]
    assert program.requires_external_vad is False


async def test_the_audio_of_wyoming_clients_shares_the_pool_of_the_house(works: Works, path: Path) -> None:
    works.scripts["whisper"] = HeldBackend
    stored(path, WHISPER_SERVICE_URL="ws://w")
    async with house_at(path) as house:
        server = build_server(validate({"URI": "tcp://127.0.0.1:0"}), house.engine, house.pool)
        await server.start()
        async with connected(server) as client:
            await client.send(START)
            await client.speak(VOICE)
            await client.settle()
            assert house.pool._held == len(VOICE)
        await server.stop()
        assert house.pool._held == 0


async def test_a_wish_for_a_backend_that_is_no_more_is_a_wish_for_any(works: Works, path: Path) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY, WHISPER_SERVICE_URL="ws://w")
    async with house_at(path) as house:
        server = build_server(validate({"URI": "tcp://127.0.0.1:0"}), house.engine)
        await server.start()
        async with connected(server) as client:
            await client.send(wish(name="whisper"))
            await client.say(VOICE)
            assert await client.text() == "words of whisper"
            await house.change({"WHISPER_SERVICE_URL": None})
            await client.say(VOICE)
            assert await client.text() == "words of assemblyai"
        await server.stop()


# Tests of backends


async def test_all_enabled_backends_are_tried_and_each_says_how_it_went(works: Works, path: Path) -> None:
    works.scripts["whisper"] = lambda: ScriptedBackend("whisper", UnreachableError("its host is away"))
    stored(path, ASSEMBLYAI_API_KEY=KEY, WHISPER_SERVICE_URL="ws://w")
    async with house_at(path, {"BACKENDS": "assemblyai,whisper,local", "LOCAL_ENABLED": "no"}) as house:
        good, bad, missing = await house.try_out(None, {})
        assert (good.backend, good.ok, good.text) == ("assemblyai", True, "words of assemblyai")
        assert good.ms is not None
        assert good.ms < PATIENCE * 1000
        assert (good.code, good.message) == (None, None)
        assert bad == Verdict(backend="whisper", ok=False, code="unreachable", message="its host is away")
        assert missing == Verdict(backend="local", ok=False, code="missing", message="LOCAL_ENABLED is false")
        assert len(works.made) == 2
        (asked,) = works.named("assemblyai")[0].asked
        assert len(asked.received) > 100_000
        assert asked.request.language == "en"
        assert house.engine.healths["whisper"].state is State.CLOSED  # a test is no user
        assert house.history.latest == ()


async def test_candidate_settings_are_tried_with_backends_of_their_own_and_not_kept(
    works: Works, path: Path
) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path) as house:
        before = read(path)
        changes = {"ASSEMBLYAI_API_KEY": "other", "WHISPER_SERVICE_URL": "ws://w"}
        verdicts = await house.try_out(["assemblyai", "whisper"], changes)
        assert [verdict.ok for verdict in verdicts] == [True, True]
        present, candidate = works.named("assemblyai")
        assert (len(present.asked), len(candidate.asked)) == (0, 1)
        await asyncio.sleep(0.01)
        assert (present.is_closed, candidate.is_closed) == (False, True)
        assert works.named("whisper")[0].is_closed
        assert names(house) == ["assemblyai"]
        assert read(path) == before
        with pytest.raises(FixedSettingError):
            await house.try_out(None, {"API_TOKEN": TOKEN})


async def test_a_backend_that_is_not_enabled_can_be_tried(works: Works, path: Path) -> None:
    stored(path, ASSEMBLYAI_API_KEY=KEY, WHISPER_SERVICE_URL="ws://w", BACKENDS="assemblyai")
    async with house_at(path) as house:
        (verdict,) = await house.try_out(["whisper"], {})
        assert verdict.ok


async def test_a_test_takes_no_longer_than_it_may_nor_does_one_that_waits_for_it(
    works: Works, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wyoming_server.house._TRIAL_SECONDS", 0.2)
    works.scripts["whisper"] = lambda: ScriptedBackend("whisper", CONNECTED, Wait.FOREVER)
    stored(path, ASSEMBLYAI_API_KEY=KEY, WHISPER_SERVICE_URL="ws://w")
    async with house_at(path) as house:
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(house.try_out(None, {}), house.try_out(["assemblyai"], {}))
        (good, stuck), (waiting,) = results
        assert good.ok
        assert (stuck.code, stuck.ok) == ("overdue", False)
        assert waiting.code in (None, "overdue")
        assert works.named("whisper")[0].asked[0].is_over


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ((CONNECTED, Wait.AUDIO), "internal"),
        ((ZeroDivisionError(),), "internal"),
        ((CONNECTED, Wait.AUDIO, final("x")), None),
    ],
)
async def test_a_defect_in_one_backend_is_its_verdict(
    works: Works, path: Path, script: tuple[Any, ...], code: str | None
) -> None:
    works.scripts["assemblyai"] = lambda: ScriptedBackend("assemblyai", *script)
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path) as house:
        (verdict,) = await house.try_out(["assemblyai"], {})
        assert (verdict.ok, verdict.code) == (code is None, code)


async def test_no_words_is_no_success(works: Works, path: Path) -> None:
    works.scripts["assemblyai"] = lambda: ScriptedBackend("assemblyai", CONNECTED, Wait.AUDIO, final(""))
    stored(path, ASSEMBLYAI_API_KEY=KEY)
    async with house_at(path) as house:
        (verdict,) = await house.try_out(["assemblyai"], {})
        assert (verdict.ok, verdict.text, verdict.code) == (False, None, "no-words")
