"""Speech-to-text services side by side: each a process of its own, each asked over its own protocol."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error

from bench.common import serving
from bench.recordings import BYTES_PER_MS, RATE, read
from modal_whisper.samples import MUTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

_CHUNK_MS: Final = 10
"""As Home Assistant sends them."""
_PATIENCE: Final = 60.0
_HANDED_ON: Final = ("HOME", "PATH", "MODEL_DIR")
PEER: Final = f"wyoming-faster-whisper {version('wyoming-faster-whisper')}"
WORKER: Final = "stt-failover-worker, /ws/stt"
SERVER: Final = "stt-failover, local backend alone"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service made of an utterance."""

    text: str
    seconds: float
    """From the last sample to the text."""

    @property
    def has_words(self) -> bool:
        """Whether anything but blanks and punctuation came."""
        return any(character.isalnum() for character in self.text)


class Ask(Protocol):
    """Asks a service for the words of one utterance."""

    async def __call__(self, pcm: bytes, *, paced: bool) -> Answer:
        """Send it at the speed of speech, or (not paced) as fast as the line takes it.

        Raises RuntimeError where the service answers with an error or not at all.
        """


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    name: str
    pid: int
    ask: Ask

    async def warm_up(self) -> None:
        """Wait until its model is loaded and has been used once."""
        sound = read(MUTED.path)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                answer = await self.ask(sound, paced=False)
            except (OSError, RuntimeError) as error:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{self.name} does not answer: {error}") from None
                await asyncio.sleep(0.5)  # the model may not be there yet
                continue
            if not answer.has_words:
                raise SystemExit(f"{self.name} understands nothing")
            return

    def memory(self) -> tuple[float, float]:
        """Resident megabytes: now, and the most there ever were."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines()
        sizes = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
        now, most = (int(sizes[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, most


@contextmanager
def peer(model: Path, options: Sequence[str]) -> Iterator[Service]:
    """The other project's server: the model's folder, English, else its defaults (beam 5), and `options`.

    With two exceptions, both to its advantage: its default model is in int8, so this one is run in int8 too,
    and it gets as many threads as there are cores, not four.
    """
    port = _free_port()
    command = ["wyoming-faster-whisper", "--uri", f"tcp://127.0.0.1:{port}", "--language", "en"]
    command += ["--model", str(model), "--data-dir", str(model.parent), "--local-files-only"]
    command += ["--compute-type", "int8", "--cpu-threads", str(len(os.sched_getaffinity(0))), *options]
    with _running(command, port) as pid:
        yield Service(PEER, pid, _over_wyoming(port))


@contextmanager
def worker(model: Path, options: Sequence[str]) -> Iterator[Service]:
    """This project's worker with its defaults and `options`."""
    port = _free_port()
    command = ["stt-failover-worker", "--port", str(port), "--model", str(model), *options]
    with _running(command, port) as pid:
        yield Service(WORKER, pid, _over_websocket(port))


@contextmanager
def server(model: Path) -> Iterator[Service]:
    """This project's server with its defaults and no backend but the local one."""
    with serving({"BACKENDS": "local", "LOCAL_MODEL": str(model)}) as running:
        yield Service(SERVER, running.pid, _over_wyoming(running.port))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], port: int) -> Iterator[int]:
    """Run a command of this environment, from when it listens on the port; gives its process id."""
    command[0] = str(Path(sys.executable).with_name(command[0]))
    environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    environment["HF_HUB_OFFLINE"] = "1"  # the model is there: nobody need ask for a newer one
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        try:
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{Path(command[0]).name} does not start:\n{log.read()}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


async def _chunks(pcm: bytes, *, paced: bool) -> AsyncIterator[bytes]:
    """Each when a microphone has recorded it; unpaced: at once."""
    due = time.perf_counter()
    size = _CHUNK_MS * BYTES_PER_MS
    for at in range(0, len(pcm), size):
        if paced:
            due += _CHUNK_MS / 1000
            await asyncio.sleep(due - time.perf_counter())
        yield pcm[at : at + size]


def _over_wyoming(port: int) -> Ask:
    async def ask(pcm: bytes, *, paced: bool) -> Answer:
        async with asyncio.timeout(_PATIENCE), AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Transcribe(language="en").event())
            await client.write_event(AudioStart(RATE, 2, 1).event())
            stopped = time.perf_counter()
            async for chunk in _chunks(pcm, paced=paced):
                stopped = time.perf_counter()
                await client.write_event(AudioChunk(RATE, 2, 1, chunk).event())
            await client.write_event(AudioStop().event())
            while event := await client.read_event():
                if Transcript.is_type(event.type):
                    return Answer(Transcript.from_event(event).text, time.perf_counter() - stopped)
                if Error.is_type(event.type):
                    raise RuntimeError(Error.from_event(event).text)
        raise RuntimeError("the connection ended without a transcript")

    return ask


def _over_websocket(port: int) -> Ask:
    async def ask(pcm: bytes, *, paced: bool) -> Answer:
        async with (
            asyncio.timeout(_PATIENCE),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}/ws/stt") as connection,
        ):
            await connection.send_json({"type": "start", "language": "en"})
            stopped = time.perf_counter()
            async for chunk in _chunks(pcm, paced=paced):
                stopped = time.perf_counter()
                await connection.send_bytes(chunk)
            await connection.send_json({"type": "stop"})
            async for message in connection:
                answer = json.loads(message.data)
                if answer["type"] == "final":
                    return Answer(answer["text"], time.perf_counter() - stopped)
                if answer["type"] == "error":
                    raise RuntimeError(answer["message"])
        raise RuntimeError("the connection ended without a final")

    return ask
