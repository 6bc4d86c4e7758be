"""A running Home Assistant, through its REST and WebSocket interfaces."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CHUNK_BYTES: Final = 320
_CHUNK_SECONDS: Final = 0.01
_FLOWS: Final = "/api/config/config_entries/flow"
_PATIENCE: Final = 30.0
"""Seconds; far below the 300 s for which Home Assistant itself waits for a server that has gone silent."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One of our servers, as Home Assistant knows it."""

    entry: dict[str, Any]
    """The config entry that its config flow made."""
    entities: list[str]
    """All entities of that entry."""
    pipeline: str
    """A pipeline that hears through it."""

    @property
    def entity(self) -> str:
        """The speech-to-text entity."""
        (entity,) = (name for name in self.entities if name.startswith("stt."))
        return entity


class Home:
    """Home Assistant at `url`, for somebody who has signed in."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._token = token

    @classmethod
    async def onboard(cls, url: str) -> Home:
        """Make the first user of a new Home Assistant."""
        async with _client() as http:
            user = {"name": "A", "username": "a", "password": "b", "client_id": url, "language": "en"}
            async with http.post(f"{url}/api/onboarding/users", json=user) as reply:
                code = (await reply.json())["auth_code"]
            grant = {"client_id": url, "grant_type": "authorization_code", "code": code}
            async with http.post(f"{url}/auth/token", data=grant) as reply:
                return cls(url, (await reply.json())["access_token"])

    async def start_flow(self, integration: str) -> dict[str, Any]:
        """Begin to add an integration; returns the first form."""
        return await self._post(_FLOWS, handler=integration)

    async def go_on(self, flow: dict[str, Any], **answers: Any) -> dict[str, Any]:
        """Fill in a form; returns the next one, the same with errors, or the end."""
        return await self._post(f"{_FLOWS}/{flow['flow_id']}", **answers)

    async def add(self, port: int) -> Engine:
        """Go through the Wyoming integration's config flow, as a user does who types host and port."""
        flow = await self.go_on(await self.start_flow("wyoming"), host="127.0.0.1", port=port)
        assert flow["type"] == "create_entry", flow
        return await self.engine_of(flow["result"])

    async def engine_of(self, entry: dict[str, Any]) -> Engine:
        """A new entry's entities, and a pipeline that hears through them."""
        async with self._socket() as socket:
            entities = [
                entity["entity_id"]
                for entity in await socket.call("config/entity_registry/list")
                if entity["config_entry_id"] == entry["entry_id"]
            ]
            engine = next(name for name in entities if name.startswith("stt."))
            unused = dict.fromkeys(
                ("tts_engine", "tts_language", "tts_voice", "wake_word_entity", "wake_word_id")
            )
            pipeline = await socket.call(
                "assist_pipeline/pipeline/create",
                name=entry["title"],
                language="en",
                stt_engine=engine,
                stt_language="en",
                conversation_engine="conversation.home_assistant",
                conversation_language="en",
                **unused,
            )
        return Engine(entry, entities, pipeline["id"])

    async def hear(self, engine: Engine, body: bytes, *, language: str = "en") -> dict[str, Any]:
        """Post a recording to the entity."""
        metadata = f"format=wav; codec=pcm; sample_rate=16000; bit_rate=16; channel=1; language={language}"
        async with (
            _client(self._headers | {"X-Speech-Content": metadata}) as http,
            http.post(f"{self._url}/api/stt/{engine.entity}", data=body) as reply,
        ):
            answer: dict[str, Any] = await reply.json()
            return answer

    async def run_pipeline(
        self, engine: Engine, pcm: bytes, *, as_spoken: bool = False
    ) -> list[dict[str, Any]]:
        """Stream audio into a pipeline as a satellite or a browser does; returns all events of the run.

        It comes all at once, or at the speed of speech.
        """
        async with self._socket() as socket:
            events = []
            number = await socket.send(
                "assist_pipeline/run",
                start_stage="stt",
                end_stage="stt",
                pipeline=engine.pipeline,
                input={"sample_rate": 16_000, "no_vad": True},
            )
            async for event in socket.events(number):
                events.append(event)
                if event["type"] == "stt-start":
                    handler = events[0]["data"]["runner_data"]["stt_binary_handler_id"]
                    await socket.stream(handler, pcm, _CHUNK_SECONDS if as_spoken else 0.0)
                if event["type"] == "run-end":
                    return events
        raise AssertionError(f"the connection ended within the run: {events}")

    async def call(self, kind: str, **fields: Any) -> Any:
        """One command of the WebSocket interface."""
        async with self._socket() as socket:
            return await socket.call(kind, **fields)

    async def act(self, service: str, entity: str, **data: Any) -> None:
        """Call an action, such as "switch.turn_off", on an entity."""
        await self._post(f"/api/services/{service.replace('.', '/')}", entity_id=entity, **data)

    async def states(self) -> list[dict[str, Any]]:
        """Every state with its attributes."""
        states: list[dict[str, Any]] = await self.get("/api/states")
        return states

    async def get(self, path: str) -> Any:
        """A page of the REST interface."""
        async with _client(self._headers) as http, http.get(self._url + path) as reply:
            return await reply.json()

    async def _post(self, path: str, **body: Any) -> Any:
        async with _client(self._headers) as http, http.post(self._url + path, json=body) as reply:
            return await reply.json()

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[_Socket]:
        async with _client() as http, http.ws_connect(f"{self._url}/api/websocket") as socket:
            await socket.receive_json()
            await socket.send_json({"type": "auth", "access_token": self._token})
            assert (await socket.receive_json())["type"] == "auth_ok"
            yield _Socket(socket)


class _Socket:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0

    async def send(self, kind: str, **fields: Any) -> int:
        self._number += 1
        await self._socket.send_json({"id": self._number, "type": kind, **fields})
        return self._number

    async def call(self, kind: str, **fields: Any) -> Any:
        await self.send(kind, **fields)
        reply = await self._socket.receive_json(timeout=_PATIENCE)
        assert reply["success"], reply
        return reply["result"]

    async def stream(self, handler: int, pcm: bytes, pause: float) -> None:
        due = asyncio.get_running_loop().time()
        for at in range(0, len(pcm), _CHUNK_BYTES):
            await self._socket.send_bytes(bytes([handler]) + pcm[at : at + _CHUNK_BYTES])
            due += pause
            await asyncio.sleep(due - asyncio.get_running_loop().time())
        await self._socket.send_bytes(bytes([handler]))

    async def events(self, number: int) -> AsyncIterator[dict[str, Any]]:
        async with asyncio.timeout(_PATIENCE):
            while True:
                message = await self._socket.receive_json()
                if message["type"] == "event" and message["id"] == number:
                    yield message["event"]


def _client(headers: dict[str, str] | None = None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers=headers, timeout=aiohttp.ClientTimeout(total=_PATIENCE), raise_for_status=True
    )
