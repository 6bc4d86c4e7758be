"""Machines in a network of their own: namespaces of this kernel, and the cable between two of them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fcntl import ioctl
from typing import TYPE_CHECKING, Self, TypeVar

from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Any

_T = TypeVar("_T")

_TUNSETIFF, _TUNSETCARRIER = 0x400454CA, 0x400454E2
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000
_MAX_FRAME = 2048


class Host:
    """A machine with one address; its namespace is gone when nobody uses it any more."""

    def __init__(self, address: str) -> None:
        self.address = address
        # Whoever leaves its namespace is a thread; what it opens, and its own threads, are in the new one.
        self._thread = ThreadPoolExecutor(1)
        self._namespace = self._do(_leave)
        self.cable = self._do(_plug_in)
        """The end of its cable: what is written there, its network card receives."""
        self.command("ip", "link", "set", "lo", "up")
        self.command("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        self.command("ip", "link", "set", "eth0", "up")
        self.command("ip", "route", "add", "default", "dev", "eth0")

    def command(self, *words: str) -> None:
        """Run a command line there."""
        done = subprocess.run([*self._inside, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)

    def start(self, command: Sequence[str | Path], settings: dict[str, str], port: int) -> Process:
        """Start a program there that will listen at a port of the host."""
        return Process([*self._inside, *command], settings, port=port)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something there; one thing at a time."""
        return self._thread.submit(asyncio.run, work).result()

    def close(self) -> None:
        self._thread.shutdown()
        for number in (self.cable, self._namespace):
            os.close(number)

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self._namespace}"]

    def _do(self, work: Any) -> int:
        number: int = self._thread.submit(work).result()
        return number


def _leave() -> int:
    os.unshare(os.CLONE_NEWNET)
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)


def _plug_in() -> int:
    card = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    ioctl(card, _TUNSETIFF, struct.pack("16sH14x", b"eth0", _TAP_WITHOUT_HEADER))
    return card


class Cable:
    """Carries what one host sends to the other, as badly as it is told to."""

    def __init__(self, one: Host, other: Host) -> None:
        self.delay = 0.0
        """Seconds that a frame takes."""
        self.loss = 0.0
        """Share of the frames that get lost."""
        self.lost = 0
        self._ends = {one.cable: other.cable, other.cable: one.cable}
        self._is_in = True
        self._chance = random.Random(2026)
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._carry)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._waker)
        self._thread.join()
        os.close(self._wake)

    def pull(self) -> None:
        """Take it out: both cards notice."""
        self._set_in(is_in=False)

    def plug(self) -> None:
        """Put it in again."""
        self._set_in(is_in=True)

    def heal(self) -> None:
        """Be a good one again."""
        self.delay = self.loss = 0.0
        self.plug()

    def _set_in(self, *, is_in: bool) -> None:
        self._is_in = is_in
        for end in self._ends:
            ioctl(end, _TUNSETCARRIER, struct.pack("i", is_in))

    def _carry(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []
        numbers = itertools.count()
        while True:
            wait = max(under_way[0][0] - time.monotonic(), 0) if under_way else None
            ready, _, _ = select.select([*self._ends, self._wake], [], [], wait)
            if self._wake in ready:
                return
            for end in ready:
                try:
                    frame = os.read(end, _MAX_FRAME)
                except OSError:  # the card is just being switched on or off
                    continue
                if self._chance.random() < self.loss:
                    self.lost += 1
                else:
                    due = time.monotonic() + self.delay
                    heapq.heappush(under_way, (due, next(numbers), self._ends[end], frame))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, frame = heapq.heappop(under_way)
                if self._is_in:
                    try:
                        os.write(end, frame)
                    except OSError:
                        self.lost += 1
