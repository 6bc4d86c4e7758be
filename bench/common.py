"""What the benches share: the server as a process of its own, figures and tables."""

from __future__ import annotations

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
from statistics import quantiles
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
def serving(cores: Iterable[int] = (), **settings: str) -> Iterator[Server]:
    """Run the command `stt-failover` with these settings and no others, on these cores or any."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    environment |= {"URI": f"tcp://127.0.0.1:{port}"} | settings
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen([_COMMAND], env=environment, stdout=subprocess.DEVNULL, stderr=log)
        if cores:
            os.sched_setaffinity(process.pid, cores)
        try:
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


def p95(values: Sequence[float]) -> float:
    """What 95 of 100 values stay under."""
    return quantiles(values, n=20, method="inclusive")[-1]


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")


def print_machine() -> None:
    """Print in one line what the figures were taken on."""
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0))
    system = f"Linux {platform.release().split('-')[0]}"
    print(f"{models[0] if models else platform.machine()}, {cores} cores, {system}, ", end="")
    print(f"Python {platform.python_version()}; load before the start {os.getloadavg()[0]:.1f}\n", flush=True)
