"""One run of the server, from listening to the last answer."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import aiohttp

from modal_whisper.errors import SttError
from modal_whisper.samples import PASSWORD
from wyoming_server import log
from wyoming_server.announce import announce
from wyoming_server.build import build_engine, build_server
from wyoming_server.client import transcribe_file
from wyoming_server.errors import BackendError
from wyoming_server.events import all_of
from wyoming_server.trace import Traces

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from wyoming_server.engine import Engine
    from wyoming_server.settings import Settings

_LOGGER = logging.getLogger(__name__)

_TIDYING_SECONDS: Final = 1.5
"""How long the end may wait for a service to confirm the end of a session; AssemblyAI takes up to 1.2 s."""


async def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code."""
    log.set_up(settings.log_format, debug=settings.debug)
    _allow_many_sockets()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    traces = Traces()
    loop.add_signal_handler(signal.SIGUSR1, lambda: log.log_traces(traces.latest))
    connector = aiohttp.TCPConnector(limit=0)  # the number of utterances is what is limited
    async with aiohttp.ClientSession(connector=connector) as session:
        engine = build_engine(settings, session, all_of(log.log_event, traces))
        server = build_server(settings, engine)
        await server.start()
        engine.start()
        withdraw = await announce(settings.uri, settings.zeroconf) if settings.zeroconf else None
        if withdraw:
            _LOGGER.info("announced in the network by mDNS")
        _LOGGER.info(
            "listening on %s; backends: %s", settings.uri, ", ".join(item.name for item in engine.backends)
        )
        tasks = [asyncio.create_task(stopping.wait()), asyncio.create_task(server.wait_closed())]
        others = [asyncio.create_task(_check(server.uri, engine))] if settings.self_check else []
        if settings.keep_warm:
            others.append(asyncio.create_task(_keep_warm(engine, settings.keep_warm)))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        _LOGGER.info("stopping")
        for task in (*tasks, *others):
            task.cancel()
        if withdraw:
            await _tidy_up(withdraw())
        await server.stop()
        await _tidy_up(engine.close())
    # The loop waits for its threads before it ends, and one that looks up a name can take minutes.
    loop.set_default_executor(ThreadPoolExecutor(1))
    return 0


async def _keep_warm(engine: Engine, seconds: float) -> None:
    while True:
        engine.warm()
        await asyncio.sleep(seconds)


async def _tidy_up(work: Awaitable[None]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_TIDYING_SECONDS):
            await work


async def _check(uri: str, engine: Engine) -> None:
    """Let a person be heard through the server's own port, and print what came of it."""
    if uri == "stdio://":
        _LOGGER.info("no self-check: only the client at standard input can speak to this server")
        return
    with suppress(BackendError):  # others may answer; if not, their reasons are in the answer
        await engine.wait_ready()
    try:
        answer = await transcribe_file(PASSWORD.path, uri, language=PASSWORD.language)
    except (SttError, OSError) as error:
        _LOGGER.warning("the self-check failed: %s", error)
        return
    print(f'understood: "{answer.text}" (said: "{PASSWORD.text}")')
    print(f"answered by {answer.backend}, {answer.ms:.0f} ms after the last sample", flush=True)


def _allow_many_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
