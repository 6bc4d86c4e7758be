"""An emulator of AssemblyAI's synchronous HTTP endpoint on 127.0.0.1, keeping the service's documented rules.

    emulator = SyncEmulator(script=script_for(pcm, "Turn on the kitchen lights."))
    async with emulator:
        ...  # a client posts to f"{emulator.url}/v1/transcribe/live"
    record = emulator.requests[0]

It recognises no speech: a Script tells it what is said and when, and it answers with the words that lie in
the audio that was uploaded. Not emulated: prompts, conversation_context (of
which the service drops what is too much), word timings, and the audio's early processing.
"""

from __future__ import annotations

import asyncio
import json
import uuid
import wave
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self, cast

from aiohttp import BodyPartReader, web

from tests.emulators.assemblyai_outbox import reset
from tests.emulators.assemblyai_script import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_MODELS = frozenset({"universal-3-5-pro", "universal-3-6-pro"})
_RATES = frozenset({8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
_SHORTEST_MS, _LONGEST_MS = 80, 120_000
_MAX_BYTES = 40 * 1024 * 1024
_MAX_TERMS, _MAX_TERM_CHARACTERS = 100, 8000
_MAX_PROMPT_CHARACTERS = 6000
_TITLES = {
    400: "Bad Audio",
    401: "Unauthorized",
    413: "Audio Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Capacity Exceeded",
    504: "Inference Timeout",
}
_DEFAULT_KEYS = frozenset({"good-key"})


@dataclass(frozen=True, slots=True)
class Status:
    """Refuse with this status as soon as the request's head has come."""

    status: int
    retry_after: int | None = None
    location: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it."""
        values = {"Retry-After": self.retry_after, "Location": self.location}
        return {name: str(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Drop:
    """Reset the connection after so many bytes of audio."""

    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stall:
    """Never answer, and read no more after so many bytes of audio; None: take all of the upload."""

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Noise:
    """Answer with bytes that are no HTTP."""

    data: bytes = b"\x00\xff no HTTP\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Body:
    """Answer 200 with this text, whatever was said, and as soon as so many bytes of audio have come."""

    text: str
    after_bytes: int | None = None
    """None: once the upload is complete."""


Fault = Status | Drop | Stall | Noise | Body


@dataclass(slots=True, eq=False)
class SyncRecord:
    """One request; what of it has come."""

    headers: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    audio: bytearray = field(default_factory=bytearray)
    pieces: int = 0
    """In how many pieces the audio was read."""
    status: int | None = None
    """What it was answered with; None while, or where, it was not."""
    over: asyncio.Event = field(default_factory=asyncio.Event)


class _RefusalError(Exception):
    def __init__(self, status: int, detail: str, title: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title or _TITLES.get(status, "Error")


class SyncEmulator:
    """The service. What the constructor took may be changed later: new requests go by it.

    Args:
        api_keys: what the Authorization header may hold, as it is.
        script: what is said, in every request or chosen by the audio of each.
        latency: seconds from the last byte to the answer.
        fault: what goes wrong, in all requests.
    """

    def __init__(
        self,
        api_keys: Collection[str] = _DEFAULT_KEYS,
        *,
        script: Script | Callable[[bytes], Script] | None = None,
        latency: float = 0.0,
        fault: Fault | None = None,
    ) -> None:
        self.api_keys = api_keys
        self.script = script or Script.empty()
        self.latency = latency
        self.fault = fault
        self.requests: list[SyncRecord] = []
        self.warmed = 0
        """How often a client asked for the page that only opens a connection."""
        self.port = 0
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens, without the path."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        app = web.Application(client_max_size=2 * _MAX_BYTES)
        app.router.add_get("/v1/warm", self._warm)
        for path in ("/v1/transcribe/live", "/v1/transcribe/stream", "/v1/transcribe"):
            app.router.add_post(path, self._transcribe)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; requests under way are reset."""
        self._stopping.set()
        if self._runner:
            await self._runner.cleanup()

    async def _warm(self, _: web.Request) -> web.Response:
        self.warmed += 1
        if isinstance(self.fault, Status):
            return web.Response(status=self.fault.status, headers=self.fault.headers)
        return web.Response()

    async def _transcribe(self, request: web.Request) -> web.StreamResponse:
        names = ("authorization", "x-aai-model", "content-type", "transfer-encoding")
        record = SyncRecord({name: request.headers[name] for name in names if name in request.headers})
        self.requests.append(record)
        fault = self.fault
        try:
            self._check_head(request, fault)
            await self._read(request, record, fault)
            if isinstance(fault, Stall):
                await self._stopping.wait()
            if isinstance(fault, Noise) and request.transport:
                request.transport.write(fault.data)
                request.transport.close()
                await self._stopping.wait()
            await asyncio.sleep(self.latency)
            text = self._words(record)
        except _RefusalError as refusal:
            record.status = refusal.status
            body = {"status": refusal.status, "title": refusal.title, "detail": str(refusal)}
            headers = fault.headers if isinstance(fault, Status) else {}
            return web.json_response(body, status=refusal.status, headers=headers)
        finally:
            record.over.set()
        record.status = 200
        if isinstance(fault, Body):
            return web.Response(text=fault.text, content_type="application/json")
        return web.json_response(
            {
                "text": text,
                "words": [{"text": word, "confidence": 0.99} for word in text.split()],
                "confidence": 0.99,
                "audio_duration_ms": len(record.audio) // 32,
                "session_id": str(uuid.uuid4()),
                "request_time_ms": self.latency * 1000,
            }
        )

    def _check_head(self, request: web.Request, fault: Fault | None) -> None:
        if isinstance(fault, Status):
            raise _RefusalError(fault.status, f"made to fail with {fault.status}")
        if request.headers.get("Authorization") not in self.api_keys:
            raise _RefusalError(401, "Invalid API key")
        if request.headers.get("X-AAI-Model") not in _MODELS:
            raise _RefusalError(400, "unknown model", "Bad Request")
        if request.content_type != "multipart/form-data":
            raise _RefusalError(415, "expected multipart/form-data")

    async def _read(self, request: web.Request, record: SyncRecord, fault: Fault | None) -> None:
        is_live = not request.path.endswith("/transcribe")
        content_type, is_configured = None, False
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise _RefusalError(400, "nested parts are not taken", "Bad Request")
            if part.name == "config":
                record.config = _config(await part.read(decode=True))
                is_configured = True
            elif part.name == "audio":
                if is_live and not is_configured:
                    raise _RefusalError(400, "the config must come before the audio", "Bad Request")
                content_type = part.headers.get("Content-Type")
                while piece := await part.read_chunk():
                    record.audio += piece
                    record.pieces += 1
                    await self._break(request, len(record.audio), fault)
                    if (
                        isinstance(fault, Body)
                        and fault.after_bytes
                        and len(record.audio) >= fault.after_bytes
                    ):
                        return
                    if len(record.audio) > _MAX_BYTES:
                        raise _RefusalError(413, "the audio is larger than 40 MB")
        if content_type is None:
            raise _RefusalError(400, "there is no audio", "Bad Request")
        _check_audio(record, content_type)

    async def _break(self, request: web.Request, read: int, fault: Fault | None) -> None:
        if isinstance(fault, Drop) and read >= fault.after_bytes:
            reset(cast("asyncio.Transport", request.transport))
            await self._stopping.wait()
        if isinstance(fault, Stall) and fault.after_bytes is not None and read >= fault.after_bytes:
            await self._stopping.wait()

    def _words(self, record: SyncRecord) -> str:
        script = self.script(bytes(record.audio)) if callable(self.script) else self.script
        heard_ms = len(record.audio) // 32
        return " ".join(word.text for word in script.words if word.end_ms <= heard_ms)


def _config(text: bytes | bytearray) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise _RefusalError(400, "the config is no JSON object", "Bad Request")
    terms = config.get("keyterms_prompt", [])
    if len(terms) > _MAX_TERMS or sum(map(len, terms)) > _MAX_TERM_CHARACTERS:
        raise _RefusalError(400, "too many keyterms", "Bad Request")
    if len(config.get("prompt", "")) > _MAX_PROMPT_CHARACTERS:
        raise _RefusalError(400, "the prompt is too long", "Bad Request")
    return config


def _check_audio(record: SyncRecord, content_type: str) -> None:
    """Leaves the bare samples in the record; only 16 kHz mono is understood by the script's clock."""
    config = record.config
    if content_type == "audio/pcm":
        if config.get("sample_rate") not in _RATES or config.get("channels") not in (1, 2):
            raise _RefusalError(400, "audio/pcm needs sample_rate and channels")
    elif content_type == "audio/wav":
        try:
            with wave.open(BytesIO(bytes(record.audio))) as file:
                record.audio = bytearray(file.readframes(file.getnframes()))
        except (EOFError, wave.Error):
            raise _RefusalError(400, "the audio is no WAV file") from None
    else:
        raise _RefusalError(415, "the audio is neither WAV nor PCM")
    if len(record.audio) // 32 < _SHORTEST_MS:
        raise _RefusalError(400, "the audio is shorter than 80 ms", "Audio Too Short")
    if len(record.audio) // 32 > _LONGEST_MS:
        raise _RefusalError(413, "the audio is longer than 120 s")
