"""One WebSocket session of the AssemblyAI emulator, from Begin to its close."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import WebSocketError, WSMsgType

from tests.emulators import assemblyai_faults as faults
from tests.emulators.assemblyai_outbox import Ending, Outbox
from tests.emulators.assemblyai_pacing import Intake
from tests.emulators.assemblyai_params import Refusal, invalid
from tests.emulators.assemblyai_script import Script
from tests.emulators.assemblyai_turns import Emission, TurnEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web

    from tests.emulators.assemblyai_faults import Action, Fault
    from tests.emulators.assemblyai_record import Latency, Rules, SessionRecord


class Session:
    """Serves one open WebSocket by the documented rules, and by the faults that the test asked for."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        record: SessionRecord,
        *,
        script: Script | Callable[[SessionRecord], Script | None],
        latency: Latency,
        rules: Rules,
        plan: Sequence[Fault],
    ) -> None:
        self._ws = ws
        self._record = record
        self._script = script
        self._latency = latency
        self._rules = rules
        self._plan = list(plan)
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(ws, transport, record)
        self._intake = Intake(
            record.parameters.bytes_per_second, throttle=rules.throttle, max_backlog=rules.max_backlog
        )
        self._engine = TurnEngine(record.parameters.timing, decode_lag_ms=rules.decode_lag_ms)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._opened = self._last_message = self._loop.time()
        self._reader: asyncio.Task[None] | None = None

    def end(self, ending: Ending) -> None:
        """End the session; only the first ending counts."""
        self._outbox.end(ending)

    async def serve(self) -> None:
        """Run the session to its end."""
        self._begin()
        self._reader = self._loop.create_task(self._read())
        sender = self._loop.create_task(self._outbox.run())
        try:
            ending = await self._outbox.ending
        finally:
            self._intake.close()
            for timer in self._timers.values():
                timer.cancel()
            for task in (self._reader, sender):
                task.cancel()
            await asyncio.gather(self._reader, sender, return_exceptions=True)
        await self._outbox.finish(ending)

    async def refuse(self, refusal: Refusal) -> None:
        """Turn the client away: Error, then close, and no Begin."""
        await asyncio.sleep(self._latency.begin)
        await self._outbox.finish(Ending.with_error(refusal.code, refusal.text))

    def _begin(self) -> None:
        delay = self._latency.begin
        for fault in self._take("connect"):
            if isinstance(fault.action, faults.SlowBegin):
                delay = fault.action.seconds
            elif self._act(fault.action):
                return
        parameters = self._record.parameters
        get = parameters.values.get
        self._intake.hold(delay)
        message = {
            "type": "Begin",
            "id": str(uuid.uuid4()),
            "expires_at": int(time.time() + self._rules.max_session),
            "configuration": {
                "model": parameters.model,
                "mode": get("mode", "balanced") if parameters.pro else None,
                "api_version": "2025-05-12",
                "speaker_labels": get("speaker_labels", False),
                "redact_pii": get("redact_pii", False),
                "filter_profanity": get("filter_profanity", False),
                "domain": get("domain"),
                "voice_focus": get("voice_focus"),
            },
        }
        self._outbox.put(message, delay)
        expiry = Ending.with_error(3008, "Session expired: maximum session duration exceeded")
        self._timers["expiry"] = self._loop.call_later(self._rules.max_session, self.end, expiry)
        self._watch_inactivity()
        self._watch_heartbeat()

    async def _read(self) -> None:
        try:
            async for message in self._ws:
                self._last_message = self._loop.time()
                if message.type is WSMsgType.BINARY:
                    self._on_audio(message.data)
                elif message.type is WSMsgType.TEXT:
                    self._on_text(message.data)
                elif message.type is WSMsgType.ERROR and isinstance(message.data, WebSocketError):
                    # aiohttp has closed by itself: most likely 1009, a message over the limit.
                    self.end(Ending(message.data.code))
        except Refusal as refusal:
            self.end(Ending.with_error(refusal.code, refusal.text))
        else:
            self.end(Ending(self._ws.close_code or 1006, by="client"))

    def _on_audio(self, data: bytes) -> None:
        self._record.note_audio(data, self._last_message, keep=self._rules.keep_audio)
        clock_ms = self._intake.audio(data)
        for fault in self._take("audio"):
            self._act(fault.action)
        self._intake.then(partial(self._hear, clock_ms))

    def _on_text(self, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError as error:
            raise invalid(f"Invalid JSON: {error}") from None
        if not isinstance(message, dict):
            raise invalid("Invalid JSON: expected an object")
        self._record.received.append((self._last_message, message))
        kind = message.get("type")
        if kind == "ForceEndpoint":
            self._intake.then(self._force)
        elif kind == "Terminate":
            self._record.terminated = True
            self._intake.then(self._terminate)
        elif kind == "UpdateConfiguration":
            self._record.parameters = self._record.parameters.updated(message)
            self._intake.then(partial(setattr, self._engine, "timing", self._record.parameters.timing))
            self._watch_heartbeat()
        elif kind != "KeepAlive":
            raise invalid(f"Invalid Message Type: {kind}")

    def _hear(self, clock_ms: int) -> None:
        if self._engine.script is None:
            self._engine.script = self._script(self._record) if callable(self._script) else self._script
        self._emit(self._engine.advance(clock_ms), self._latency.final)

    def _force(self) -> None:
        answer = self._answer("ForceEndpoint", self._engine.force)
        if answer is None:
            return
        emissions, delay = answer
        if not emissions and self._rules.force_without_turn == "empty":
            emissions = [self._engine.empty_final()]
        self._emit(emissions, self._latency.force + delay)

    def _terminate(self) -> None:
        answer = self._answer("Terminate", self._engine.finish)
        if answer is None:
            return
        emissions, delay = answer
        if self._rules.extra_empty_final and not self._record.parameters.pro:
            emissions.append(self._engine.empty_final())
        self._emit(emissions, self._latency.terminate_final + delay)
        message = {
            "type": "Termination",
            "audio_duration_seconds": round(self._intake.audio_ms / 1000),
            "session_duration_seconds": round(self._loop.time() - self._opened),
        }
        self._outbox.put(message, self._latency.termination + delay)
        self._outbox.put(Ending(1000, "Session Ended"))

    def _answer(self, kind: str, ask: Callable[..., list[Emission]]) -> tuple[list[Emission], float] | None:
        """The finals and their extra delay; None where a fault has taken the session's voice away."""
        if self._engine.script is None:
            self._engine.script = Script.empty()
        split, empty, delay = False, False, 0.0
        for fault in self._take("end", kind):
            action = fault.action
            if isinstance(action, faults.DelayFinal):
                delay = action.seconds
            elif isinstance(action, faults.SwapFinals):
                split = True
            elif isinstance(action, faults.EmptyFinal):
                empty = True
            elif self._act(action):
                return None
        emissions = ask(split=split)
        return ([self._engine.empty_final()] if empty else emissions), delay

    def _take(self, at: str, kind: str = "") -> list[Fault]:
        due = [
            fault
            for fault in self._plan
            if fault.at == at
            and (at != "audio" or fault.audio_ms <= self._intake.audio_ms)
            and (at != "end" or kind in fault.on)
        ]
        self._plan = [fault for fault in self._plan if fault not in due]
        return due

    def _act(self, action: Action) -> bool:
        """Do it; whether the session says nothing more of its own."""
        if isinstance(action, faults.Send):
            self._outbox.put(action.data)
            return False
        if isinstance(action, faults.ErrorFrame):
            self.end(Ending.with_error(action.code, action.text))
        elif isinstance(action, faults.Close):
            self.end(Ending(action.code, action.reason))
        elif isinstance(action, faults.Drop):
            self.end(Ending(1006, abrupt=True))
        elif isinstance(action, faults.StopReading):
            # From outside the reader, which may be the one that acts. With nobody to take the frames, aiohttp
            # soon stops reading from the socket.
            self._loop.call_soon(self._stop_reading)
        self._outbox.mute()
        return True

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    def _emit(self, emissions: list[Emission], final_delay: float) -> None:
        for emission in emissions:
            self._outbox.put(emission.message, final_delay if emission.final else self._latency.partial)

    def _watch_inactivity(self) -> None:
        limit = self._record.parameters.values.get("inactivity_timeout")
        if limit is None:
            return
        due = self._last_message + limit * self._rules.inactivity_unit
        if due <= self._loop.time():
            text = f"Session terminated due to inactivity: No messages received for {limit} seconds"
            self.end(Ending.with_error(3006, text))
            return
        self._timers["inactivity"] = self._loop.call_at(due, self._watch_inactivity)

    def _watch_heartbeat(self) -> None:
        wanted = self._record.parameters.values.get("session_heartbeat", False)
        if wanted and "heartbeat" not in self._timers:
            self._timers["heartbeat"] = self._loop.call_later(self._rules.heartbeat, self._heartbeat)

    def _heartbeat(self) -> None:
        del self._timers["heartbeat"]
        passed = (self._loop.time() - self._opened) * 1000
        message = {
            "type": "Heartbeat",
            "total_audio_received_ms": int(self._intake.audio_ms),
            "total_duration_ms": int(passed),
            "realtime_factor": round(self._intake.audio_ms / max(passed, 1.0), 3),
            "max_speech_probability": 0.02,
        }
        self._outbox.put(message)
        self._watch_heartbeat()
