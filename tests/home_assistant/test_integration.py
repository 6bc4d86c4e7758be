"""Our own integration, in a real Home Assistant, with a real server and its real local model."""

from __future__ import annotations

import asyncio
import json
import wave
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import pytest

from modal_whisper.samples import MUTED, PASSWORD
from tests.emulators.assemblyai import AssemblyAIEmulator, Drop, Fault, by_recording, script_for
from tests.end_to_end.clips import words
from tests.processes import free_port, on_thread, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from modal_whisper.samples import Sample
    from tests.home_assistant.home import Engine, Home
    from tests.processes import Process

_T = TypeVar("_T")
KEY = "planted-assemblyai-key-3fd1"
TOKEN = "planted-api-token-77c2"
WORKER_KEY = "planted-worker-key-90ab"
SECRETS = (KEY, TOKEN, WORKER_KEY)


def _pcm(sample: Sample) -> bytes:
    with wave.open(str(sample.path)) as file:
        return file.readframes(file.getnframes())


class House:
    """The server with an API, and AssemblyAI behind it."""

    def __init__(self, process: Process, api_port: int, emulator: AssemblyAIEmulator) -> None:
        self.process = process
        self.api_port = api_port
        self.emulator = emulator
        self.faults: list[Fault] = []
        emulator.faults = lambda _: self.faults

    async def api(self, path: str, method: str = "GET", **body: Any) -> str:
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
            http.request(
                method, f"http://127.0.0.1:{self.api_port}{path}", json=body if method != "GET" else None
            ) as reply,
        ):
            assert reply.ok, await reply.text()
            return await reply.text()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Without a key: Home Assistant's user types it in."""
    known = [(_pcm(sample), script_for(_pcm(sample), sample.text)) for sample in (MUTED, PASSWORD)]
    api_port = free_port()
    async with AssemblyAIEmulator({KEY}, script=by_recording(known)) as emulator:
        settings = {
            "API_PORT": str(api_port),
            "API_TOKEN": TOKEN,
            "WHISPER_API_KEY": WORKER_KEY,
            "ASSEMBLYAI_STREAMING_URL": emulator.url,
        }
        async with on_thread(server(**settings)) as process:
            process.wait_logged("loaded the Whisper model")
            yield House(process, api_port, emulator)


class Dashboard:
    """What a person sees of one server in Home Assistant, and can do there."""

    def __init__(self, home: Home, engine: Engine, entities: dict[str, str]) -> None:
        self._home = home
        self._engine = engine
        self._entities = entities

    @classmethod
    async def of(cls, home: Home, entry: dict[str, Any]) -> Dashboard:
        registry = await home.call("config/entity_registry/list")
        entities = {
            item["unique_id"].partition("_")[2]: item["entity_id"]
            for item in registry
            if item["config_entry_id"] == entry["entry_id"]
        }
        return cls(home, await home.engine_of(entry), entities)

    async def hear(self, sample: Sample) -> str:
        """Let a recording be heard by a pipeline."""
        events = await self._home.run_pipeline(self._engine, _pcm(sample), as_spoken=True)
        assert [event["type"] for event in events] == ["run-start", "stt-start", "stt-end", "run-end"], events
        text = events[2]["data"]["stt_output"]["text"]
        assert isinstance(text, str)
        return text

    async def wait(self, key: str, state: str) -> dict[str, Any]:
        """Return an entity once it has a state; its key is what its unique id ends in."""

        async def shown() -> dict[str, Any] | None:
            entity: dict[str, Any] = await self._home.get(f"/api/states/{self._entities[key]}")
            return entity if entity["state"] == state else None

        return await _until(shown, f"{key} is not {state}")

    async def attributes(self, key: str, **expected: str) -> None:
        """Return once an entity has such attributes."""

        async def shown() -> dict[str, Any] | None:
            found = (await self._home.get(f"/api/states/{self._entities[key]}"))["attributes"]
            return found if expected.items() <= found.items() else None

        await _until(shown, f"{key} does not show {expected}")

    async def act(self, service: str, key: str, **data: Any) -> None:
        """Call an action on an entity."""
        await self._home.act(service, self._entities[key], **data)

    async def wait_repair(self, name: str, *, shown: bool) -> None:
        """Return once a repair is there, or gone."""

        async def is_so() -> bool:
            issues = (await self._home.call("repairs/list_issues"))["issues"]
            return shown == any(issue["issue_id"].startswith(name) for issue in issues)

        await _until(is_so, f"the repair {name} is {'not there' if shown else 'still there'}")


async def _until(look: Callable[[], Awaitable[_T]], complaint: str) -> _T:
    """What is looked for, once it is there; another process can only be looked at now and then."""
    for _ in range(200):
        if found := await look():
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(complaint)


async def test_a_household_sets_it_up_speaks_and_sees_an_outage(
    home: Home, home_process: Process, home_folder: Path, house: House
) -> None:
    # Set up in the user interface: the address, then a wrong key, then the right one.
    flow = await home.start_flow("stt_failover")
    flow = await home.go_on(flow, host="127.0.0.1", port=house.api_port, token="wrong")
    assert flow["errors"], flow
    flow = await home.go_on(flow, host="127.0.0.1", port=house.api_port, token=TOKEN)
    assert flow["step_id"] == "keys", flow
    flow = await home.go_on(flow, assemblyai_api_key="a-wrong-key", local_enabled=True)
    assert flow["errors"] == {"assemblyai_api_key": "key_refused"}, flow
    flow = await home.go_on(flow, assemblyai_api_key=KEY, local_enabled=True)
    assert flow["type"] == "create_entry", (flow["errors"], flow["description_placeholders"])
    entry = flow["result"]
    person = await Dashboard.of(home, entry)

    # Somebody speaks, and AssemblyAI has the words.
    assert await person.hear(MUTED) == MUTED.text
    await person.wait("answered_by", "assemblyai")

    # AssemblyAI breaks off in mid-speech: the same words from another backend, and the dashboard shows it.
    house.faults = [Fault("audio", Drop(), audio_ms=600)]
    assert words(await person.hear(MUTED)) == words(MUTED.text)
    await person.wait("answered_by", "local")
    await person.attributes("failover", **{"event_type": "failover", "from": "assemblyai", "to": "local"})

    # The key is refused: a repair says so, and goes away when it is taken again.
    house.faults = []
    house.emulator.api_keys = {"another-key"}
    await person.act("button.press", "close_breakers")
    assert words(await person.hear(PASSWORD)) == words(PASSWORD.text)
    await person.wait_repair("assemblyai_key_refused", shown=True)
    house.emulator.api_keys = {KEY}
    await person.act("button.press", "close_breakers")
    await person.wait_repair("assemblyai_key_refused", shown=False)

    # What is changed counts for the next utterance, without a restart.
    assert await person.hear(MUTED) == MUTED.text
    await person.wait("answered_by", "assemblyai")
    await person.act("select.select_option", "strategy", option="failover")
    await person.wait("strategy", "failover")
    await person.act("switch.turn_off", "assemblyai_backend")
    assert words(await person.hear(MUTED)) == words(MUTED.text)
    await person.wait("answered_by", "local")
    assert house.process.is_running

    # Nothing that is secret has come out anywhere.
    diagnostics = json.dumps(await home.get(f"/api/diagnostics/config_entry/{entry['entry_id']}"))
    told = [
        house.process.log,
        await house.api("/api/config"),
        await house.api("/api/status"),
        await house.api("/api/traces"),
        await house.api("/metrics"),
        diagnostics,
        json.dumps(await home.states()),
        home_process.log,
    ]
    for secret in SECRETS:
        assert not [text for text in told if secret in text], secret
    stored = {
        path.name: path.read_text(errors="replace")
        for path in (home_folder / ".storage").iterdir()
        if path.is_file()
    }
    holders = {name for name, text in stored.items() for secret in (KEY, WORKER_KEY) if secret in text}
    assert holders == set()
    # The token is what Home Assistant signs in with: in its config entry, and nowhere else.
    assert {name for name, text in stored.items() if TOKEN in text} == {"core.config_entries"}
    for sample in (MUTED, PASSWORD):
        assert sample.text not in diagnostics
        assert sample.text not in house.process.log
