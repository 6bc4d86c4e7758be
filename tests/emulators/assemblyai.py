"""An emulator of AssemblyAI's v3 streaming service on 127.0.0.1, keeping the service's documented rules.

    emulator = AssemblyAIEmulator(script=script_for(pcm, "Turn on the kitchen lights."))
    async with emulator:
        ...  # a client connects to f"{emulator.url}/v3/ws?sample_rate=16000&speech_model=universal-3-6-pro"
    record = emulator.sessions[0]

It recognises no speech: a Script tells it what is said and when, and the words become known as the audio that
the client sends passes their times. Not emulated: diarization, redaction, the LLM gateway, webhooks, the
decoding of compressed audio (a message of it counts as 20 ms), and the HTTP endpoint for temporary tokens.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, cast

from aiohttp import web

from tests.emulators.assemblyai_faults import (
    Close,
    DelayFinal,
    Drop,
    EmptyFinal,
    ErrorFrame,
    Fault,
    HttpStatus,
    NeverAnswer,
    Send,
    SlowBegin,
    Stall,
    StopReading,
    SwapFinals,
)
from tests.emulators.assemblyai_outbox import Ending, reset
from tests.emulators.assemblyai_params import Refusal, parse_query
from tests.emulators.assemblyai_record import Latency, Rules, SessionRecord
from tests.emulators.assemblyai_script import Script, Word, by_recording, script_for, voiced_spans
from tests.emulators.assemblyai_session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = [
    "AssemblyAIEmulator",
    "Close",
    "DelayFinal",
    "Drop",
    "EmptyFinal",
    "ErrorFrame",
    "Fault",
    "HttpStatus",
    "Latency",
    "NeverAnswer",
    "Rules",
    "Script",
    "Send",
    "SessionRecord",
    "SlowBegin",
    "Stall",
    "StopReading",
    "SwapFinals",
    "Word",
    "by_recording",
    "script_for",
    "voiced_spans",
]

_MAX_MESSAGE = 128 * 1024
_CLOSE_WAIT = 1.0
"""Seconds that a client has to answer a close frame."""
_HEADERS = ("authorization", "user-agent", "assemblyai-version")
_DEFAULT_KEYS = frozenset({"good-key"})


class AssemblyAIEmulator:
    """The service. What the constructor took may be changed later: new connections go by it.

    Args:
        api_keys: what the Authorization header may hold, as it is and without "Bearer".
        tokens: temporary tokens; good in the header and as the query parameter `token`.
        expired_tokens: tokens that are answered with 1008 "Signature has expired".
        script: what will be said: in every session, or chosen for each session as soon as audio comes in; the
            callable may return None to be asked again with more audio.
        latency: the service's delays; small by default, see `Latency.measured()`.
        rules: limits, and choices where the real service's behaviour is not known.
        faults: what goes wrong, in all sessions or as each `Fault.sessions` says; or chosen by the number of
            the connection, counted from 0.
        port: 0 for any free one; kept over `stop()` and `start()`.
    """

    def __init__(
        self,
        api_keys: Collection[str] = _DEFAULT_KEYS,
        *,
        tokens: Collection[str] = (),
        expired_tokens: Collection[str] = (),
        script: Script | Callable[[SessionRecord], Script | None] | None = None,
        latency: Latency | None = None,
        rules: Rules | None = None,
        faults: Sequence[Fault] | Callable[[int], Sequence[Fault]] = (),
        port: int = 0,
    ) -> None:
        self.api_keys = api_keys
        self.tokens = tokens
        self.expired_tokens = expired_tokens
        self.script = script or Script.empty()
        self.latency = latency or Latency()
        self.rules = rules or Rules()
        self.faults = faults
        self.port = port
        self.sessions: list[SessionRecord] = []
        self._news = asyncio.Condition()
        self._open: set[Session] = set()
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it listens, without the path; what a client takes for the service's host."""
        return f"ws://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        self._stopping.clear()
        app = web.Application()
        app.router.add_get("/v3/ws", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections from now on and reset those that are open; `start()` brings the service back."""
        self._stopping.set()
        for session in list(self._open):
            session.end(Ending(1006, abrupt=True))
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def session(self, index: int = 0) -> SessionRecord:
        """The record of a connection, as soon as there is one."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.sessions) > index)
        return self.sessions[index]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        record = SessionRecord(
            index=len(self.sessions),
            headers={name: request.headers[name] for name in _HEADERS if name in request.headers},
            query=dict(request.query),
            opened_at=asyncio.get_running_loop().time(),
            max_session=self.rules.max_session,
        )
        self.sessions.append(record)
        async with self._news:
            self._news.notify_all()
        plan = self.faults(record.index) if callable(self.faults) else self.faults
        plan = [fault for fault in plan if fault.applies_to(record.index)]
        transport = cast("asyncio.Transport", request.transport)
        await asyncio.sleep(self.latency.connect)
        for action in [fault.action for fault in plan if fault.at == "connect"]:
            if isinstance(action, HttpStatus):
                return self._http_refusal(action, record)
            if isinstance(action, NeverAnswer):
                await self._stopping.wait()
            if isinstance(action, NeverAnswer | Drop):
                reset(transport)
                record.note_closed(1006, "server", asyncio.get_running_loop().time())
                return web.Response()
        ws = web.WebSocketResponse(max_msg_size=_MAX_MESSAGE, timeout=_CLOSE_WAIT)
        await ws.prepare(request)
        record.http_status = 101
        await self._run(ws, transport, record, request, plan)
        return ws

    async def _run(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        record: SessionRecord,
        request: web.Request,
        plan: list[Fault],
    ) -> None:
        refusal: Refusal | None = None
        try:
            self._authorise(request)
            record.parameters = parse_query(request.query)
        except Refusal as error:
            refusal = error
        session = Session(
            ws, transport, record, script=self.script, latency=self.latency, rules=self.rules, plan=plan
        )
        if refusal is not None:
            await session.refuse(refusal)
            return
        self._open.add(session)
        try:
            await session.serve()
        finally:
            self._open.discard(session)

    def _authorise(self, request: web.Request) -> None:
        header, token = request.headers.get("Authorization"), request.query.get("token")
        if header is None and token is None:
            raise _unauthorised("Missing Authorization header")
        if header in self.expired_tokens or token in self.expired_tokens:
            raise _unauthorised("Signature has expired")
        if not (header in self.api_keys or header in self.tokens or token in self.tokens):
            raise _unauthorised("Invalid API key")
        if self.rules.max_sessions is not None and len(self._open) >= self.rules.max_sessions:
            raise _unauthorised("Too many concurrent sessions")

    @staticmethod
    def _http_refusal(action: HttpStatus, record: SessionRecord) -> web.Response:
        record.http_status = action.status
        record.note_closed(None, "server", asyncio.get_running_loop().time())
        headers = {} if action.retry_after is None else {"Retry-After": str(action.retry_after)}
        return web.json_response({"error": f"HTTP {action.status}"}, status=action.status, headers=headers)


def _unauthorised(why: str) -> Refusal:
    return Refusal(1008, f"Unauthorized Connection: {why}")
