"""An event loop whose time jumps to the next timer when nothing else is left to do.

For code that neither touches sockets nor waits for threads: such a test takes no time, however long it waits,
and runs the same way each time.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

P = ParamSpec("P")
T = TypeVar("T")


class BlockedForeverError(AssertionError):
    """Every task waits for something that nobody will ever do."""


class LeftBehindError(AssertionError):
    """A test ended, but not all that it started."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Starts at time 0.0. Timers alone move its clock, and it stands still between them."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))
        self._clock_resolution = 1e-6  # coarse enough to be told apart after years

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now = round(self._now + seconds, 9)  # so that 0.1 + 0.2 s is 0.3 s


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            waiting = "\n".join(f"  {task}" for task in asyncio.all_tasks(self._loop))
            raise BlockedForeverError(
                f"nothing will ever happen at {self._loop.time():g} s; waiting:\n{waiting}"
            )
        self._loop.jump(timeout)
        return []


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a clock of its own.

    It fails if a task is left when the coroutine is through, or if a task's error was seen by nobody.
    """
    complaints: list[Mapping[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        result = await work
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            raise LeftBehindError("tasks are left:\n" + "\n".join(f"  {task}" for task in left))
        return result

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        result = runner.run(watched())
    if complaints:
        raise LeftBehindError(f"errors that nobody has seen: {complaints}")
    return result


def virtual_clock(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Decorator: run an async test on a virtual clock, see run_virtual.

    Beneath hypothesis' `given`, so that each example has its own clock. Fixtures that are async themselves
    would live on another loop; make what they make within the test.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return run
