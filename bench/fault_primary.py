"""A primary that has a fault: of the service, of the line to it, or because there is none."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from aiohttp.abc import AbstractResolver

from bench.fault_scene import KEY, silent_port
from tests.emulators.assemblyai import AssemblyAIEmulator, Fault, Latency, script_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.abc import ResolveResult

    from tests.end_to_end.clips import Clip

Where = Literal["refused", "unroutable", "silent", "untrusted", "silent TLS", "no name", "slow names"]
LineFault = Literal["half-closed", "one byte a second"]

_PEM: Final = Path(__file__).parents[1] / "tests" / "wyoming_server" / "backends" / "untrusted.pem"
_HANDSHAKE_BYTES: Final = 400
_BYTES_PER_MS: Final = 32


class _Names(AbstractResolver):
    """Knows no name, and says so at once or never."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Fail; addresses in figures are not asked for."""
        del port, family
        if not self._answers:
            await asyncio.Event().wait()
        raise OSError(f"{host} is not known")

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class Primary:
    """AssemblyAI with a fault: the emulator's own, one of the line to it, or no service at all."""

    faults: tuple[Fault, ...] = ()
    latency: Latency = field(default_factory=Latency)
    line: LineFault | None = None
    after_ms: int = 0
    """How much audio the line lets pass before its fault."""
    where: Where | None = None

    def resolver(self) -> AbstractResolver | None:
        """Where names come from; None for the machine's own way."""
        return _Names(answers=self.where == "no name") if self.where in ("no name", "slow names") else None

    @asynccontextmanager
    async def running(self, clip: Clip) -> AsyncIterator[tuple[str, AssemblyAIEmulator | None]]:
        """Its address, and the emulator where there is one."""
        if self.where:
            async with _nowhere(self.where) as url:
                yield url, None
            return
        emulator = AssemblyAIEmulator(
            {KEY}, script=script_for(clip.pcm, clip.text), latency=self.latency, faults=self.faults
        )
        async with emulator:
            if self.line is None:
                yield emulator.url, emulator
                return
            async with _Line(emulator.port, self.line, self.after_ms).running() as port:
                yield f"ws://127.0.0.1:{port}", emulator


@asynccontextmanager
async def _nowhere(where: Where) -> AsyncIterator[str]:
    if where in ("no name", "slow names"):
        yield "ws://speech.invalid"
    elif where in ("silent", "silent TLS"):
        async with silent_port() as port:
            yield f"{'wss' if where == 'silent TLS' else 'ws'}://127.0.0.1:{port}"
    elif where == "untrusted":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_PEM)
        listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        yield f"wss://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        listener.close()
    else:
        with socket.socket() as taken, socket.socket() as filler, socket.socket() as more:
            taken.bind(("127.0.0.1", 0))
            if where == "unroutable":
                taken.listen(0)  # its queue is full after this, and the kernel drops what else comes
                for caller in (filler, more):
                    caller.settimeout(0)
                    caller.connect_ex(taken.getsockname())
            yield f"ws://127.0.0.1:{taken.getsockname()[1]}"


class _Line:
    """A line to a service that goes wrong on its way back after so much audio."""

    def __init__(self, port: int, kind: LineFault, after_ms: int) -> None:
        self._port = port
        self._is_half_closed = kind == "half-closed"
        self._limit = after_ms and _HANDSHAKE_BYTES + after_ms * _BYTES_PER_MS
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """The port at its near end."""
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_service, to_service = await asyncio.open_connection("127.0.0.1", self._port)
        is_bad = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._forth(reader, to_service, is_bad)))
        self._tasks.append(asyncio.create_task(self._back(from_service, writer, is_bad)))
        if self._is_half_closed:
            self._tasks.append(asyncio.create_task(_half_close(writer, is_bad)))

    async def _forth(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_bad: asyncio.Event
    ) -> None:
        passed = 0
        try:
            while data := await reader.read(65_536):
                passed += len(data)
                if passed >= self._limit:
                    is_bad.set()
                writer.write(data)
        finally:
            writer.close()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_bad: asyncio.Event
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if not is_bad.is_set():
                    writer.write(data)
                elif not self._is_half_closed:
                    for byte in data:
                        await asyncio.sleep(1.0)
                        writer.write(bytes((byte,)))
        finally:
            writer.close()


async def _half_close(writer: asyncio.StreamWriter, is_bad: asyncio.Event) -> None:
    await is_bad.wait()
    writer.write_eof()
