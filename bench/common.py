"""What the benches share: the server and other processes, figures and tables."""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

_COMMAND: Final = str(Path(sys.executable).with_name("stt-failover"))
_DESCRIBE: Final = b'{"type":"describe"}\n'
_PATIENCE: Final = 30.0
_HANDED_ON: Final = ("HOME", "PATH", "MODEL_DIR")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    pid: int
    port: int
    start_seconds: float
    """From before the process was there to the answer to the first Describe."""


@contextmanager
def serving(settings: Mapping[str, str], cores: Iterable[int] = ()) -> Iterator[Server]:
    """Run the command `stt-failover` with these settings and no others, on these cores or any."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    environment |= {"URI": f"tcp://127.0.0.1:{port}", "API_PORT": "0", **settings}
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as folder:
        environment.setdefault("SETTINGS_FILE", f"{folder}/settings.json")
        started = time.perf_counter()
        process = subprocess.Popen([_COMMAND], env=environment, stdout=subprocess.DEVNULL, stderr=log)
        try:
            if cores:
                os.sched_setaffinity(process.pid, cores)
            while not _describes_itself(port):
                if process.poll() is not None or time.perf_counter() - started > _PATIENCE:
                    log.seek(0)
                    raise SystemExit(f"the server does not start:\n{log.read()}")
                time.sleep(0.002)
            yield Server(process.pid, port, time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait(_PATIENCE)


def _describes_itself(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
            connection.sendall(_DESCRIBE)
            return b'"info"' in connection.recv(1024)
    except ConnectionRefusedError:
        return False


class Helper:
    """A process that runs `work` with one end of a pipe, on these cores; `pipe` is the other end."""

    def __init__(self, work: Callable[[Connection], None], cores: Iterable[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(work, theirs, list(cores)), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends when the process does
        self.pid = self._process.pid or 0

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()


def _run(work: Callable[[Connection], None], pipe: Connection, cores: list[int]) -> None:
    os.sched_setaffinity(0, cores)
    work(pipe)


def p95(values: Sequence[float]) -> float:
    """What 95 of 100 values do not exceed."""
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def print_machine() -> None:
    """Print in one line what the figures are taken on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.machine()
    cores = len(os.sched_getaffinity(0))
    system = f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    print(f"{name}, {cores} cores, {system}; load before the start: {os.getloadavg()[0]:.1f}\n", flush=True)
