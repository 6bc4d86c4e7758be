"""The real command lines of the project, run as processes of their own."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

PROJECT = Path(__file__).parents[1]
MODEL_DIR = os.environ.get("MODEL_DIR") or str(PROJECT / ".cache" / "models")
SERVER = Path(sys.executable).with_name("stt-failover")
WORKER = Path(sys.executable).with_name("stt-failover-worker")

_PATIENCE = 60.0
_POLL_SECONDS = 0.02
_KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
# Below the range from which the system takes ports by itself, so that nobody takes one by chance.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody holds."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port was found")


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings and what any process needs; no setting of whoever runs the tests gets in.

    There is no API unless a port is given: nothing is kept then.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    nowhere = str(Path(tempfile.gettempdir(), "stt-failover-tests-keep-nothing", "settings.json"))
    return {**kept, "MODEL_DIR": MODEL_DIR, "SETTINGS_FILE": nowhere, "API_PORT": "0", **settings}


class Process:
    """A command line that runs. Every method blocks; in an event loop, use asyncio.to_thread.

    `settings` are environment variables.
    """

    def __init__(self, command: Sequence[str | Path], settings: Mapping[str, str], *, port: int = 0) -> None:
        self.port = port
        """Where it will listen, on 127.0.0.1."""
        self._folder = tempfile.TemporaryDirectory()
        self.settings_file = Path(settings.get("SETTINGS_FILE") or Path(self._folder.name, "settings.json"))
        """Where a server keeps what it must; its own unless the settings say otherwise."""
        self._stdout = tempfile.TemporaryFile()  # noqa: SIM115 - read for as long as this object lives
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - likewise
        self._process = subprocess.Popen(
            command,
            env=environment({"SETTINGS_FILE": str(self.settings_file), **settings}),
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
        )

    @property
    def uri(self) -> str:
        """A Wyoming server's address."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """Standard output so far."""
        return _text(self._stdout)

    @property
    def log(self) -> str:
        """Standard error so far."""
        return _text(self._stderr)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_listening(self) -> None:
        """Return once it can be connected to."""
        self._wait(self._is_listening, "does not listen")

    def wait_logged(self, text: str) -> None:
        """Return once the text is in the log."""
        self._wait(lambda: text in self.log, f"did not log {text!r}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code once it has ended."""
        return self._process.wait(_PATIENCE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal, and by force where that is not heard; returns the exit code."""
        if self.is_running:
            self.send(number)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"did not end within {_PATIENCE:g} s; its log:\n{self.log}") from None

    def _is_listening(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE):
            return True
        return False

    def _wait(self, is_true: Callable[[], bool], complaint: str) -> None:
        give_up_at = time.monotonic() + _PATIENCE
        while not is_true():
            if not self.is_running:
                raise AssertionError(f"ended with {self._process.returncode}; its log:\n{self.log}")
            if time.monotonic() > give_up_at:
                raise AssertionError(f"{complaint}; its log:\n{self.log}")
            time.sleep(_POLL_SECONDS)  # another process, which can only be looked at now and then


@contextmanager
def server(*arguments: str, **settings: str) -> Iterator[Process]:
    """`stt-failover` listening on a port of its own; settings by their upper-case names."""
    port = free_port()
    process = Process([SERVER, *arguments], {"URI": f"tcp://127.0.0.1:{port}", **settings}, port=port)
    yield from _until_done(process)


@contextmanager
def worker(*arguments: str, **settings: str) -> Iterator[Process]:
    """`stt-failover-worker` listening on a port of its own; settings by their upper-case names."""
    port = free_port()
    process = Process([WORKER, *arguments], {"WHISPER_PORT": str(port), **settings}, port=port)
    yield from _until_done(process)


@asynccontextmanager
async def on_thread(manager: AbstractContextManager[Process]) -> AsyncIterator[Process]:
    """The same, for a test whose event loop must go on because the process talks to something in it."""
    process = await asyncio.to_thread(manager.__enter__)
    try:
        yield process
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def _until_done(process: Process) -> Iterator[Process]:
    try:
        process.wait_listening()
        yield process
    finally:
        process.stop()
        sys.stderr.write(process.log)  # pytest shows it where the test failed


def _text(file: BinaryIO) -> str:
    # Not by read(): this process and the other one share the position in the file.
    return os.pread(file.fileno(), 10_000_000, 0).decode()
