"""One run of the server, from listening to the last answer."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from modal_whisper.errors import SttError
from modal_whisper.samples import PASSWORD
from wyoming_server import log, telemetry
from wyoming_server.announce import Announcer, services
from wyoming_server.backends.sockets import new_session
from wyoming_server.build import build_limits, build_server
from wyoming_server.client import transcribe_file
from wyoming_server.errors import BackendError
from wyoming_server.house import House
from wyoming_server.identity import keep_id
from wyoming_server.keeping import Keeper
from wyoming_server.settings import LoadedSettings
from wyoming_server.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from wyoming_server.api.serve import Api
    from wyoming_server.engine import Engine
    from wyoming_server.server import WyomingServer
    from wyoming_server.settings import Settings

_LOGGER = logging.getLogger(__name__)

_TIDYING_SECONDS: Final = 1.5
"""How long the end may wait for a service to confirm the end of a session; AssemblyAI takes up to 1.2 s."""
_NEVER_WARM_SECONDS: Final = 5.0
"""How soon it is seen that the worker is to be kept warm after all."""


async def run(settings: Settings) -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    Who is in mid-utterance is answered first, unless a second SIGINT or SIGTERM comes. The API is served to
    settings that know their sources.
    """
    log.set_up(settings.log_format, debug=settings.debug)
    _allow_many_sockets()
    stopping, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        (at_once if stopping.is_set() else stopping).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        loop.add_signal_handler(signal.SIGHUP, stopping.set)  # a terminal that closes may send two
    async with new_session() as session:
        house = House(settings, session, log.log_event)
        traces = house.history
        if spans := telemetry.start(os.environ, loop.time):
            house.listen(spans)
        loop.add_signal_handler(
            signal.SIGUSR1, lambda: log.log_traces(dated.trace for dated in traces.latest)
        )
        server = build_server(settings, house.engine, house.pool)
        house.observe(lambda changed: server.reconfigure(build_limits(changed), changed.key_terms))
        house.observe(lambda changed: log.set_up(changed.log_format, debug=changed.debug))
        await server.start()
        keeper = Keeper(house, _store_of(settings))
        api = await _serve_api(house, server, keeper)
        house.engine.start()
        backends = ", ".join(item.name for item in house.engine.backends)
        _LOGGER.info("listening on %s; backends: %s", settings.uri, backends)
        tasks = [asyncio.create_task(stopping.wait()), asyncio.create_task(server.wait_closed())]
        others = [asyncio.create_task(_keep_warm(house)), asyncio.create_task(keeper.run())]
        if settings.zeroconf:
            others.append(asyncio.create_task(_announcer(house, server, api).run()))
        if settings.self_check:
            others.append(asyncio.create_task(_check(server.uri, house.engine)))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        _LOGGER.info("stopping")
        for task in (*tasks, *others):
            task.cancel()
        await _tidy_up(asyncio.wait(others))
        await _unless(at_once, asyncio.gather(server.stop(), *([api.stop()] if api else [])))
        await _tidy_up(house.close())
        await _tidy_up(keeper.close())
        if spans:
            await spans.close()
    # The loop waits for its threads before it ends, and one that looks up a name can take minutes.
    loop.set_default_executor(ThreadPoolExecutor(1))
    return 0


def _store_of(settings: Settings) -> Store | None:
    """Where things are kept; a server on standard input leaves that to those that stay."""
    if not isinstance(settings, LoadedSettings) or settings.uri == "stdio://":
        return None
    return Store(settings.settings_file)


async def _serve_api(house: House, server: WyomingServer, keeper: Keeper) -> Api | None:
    """The API, where it is wanted and the server keeps things."""
    settings = house.settings
    if not keeper.store or not settings.api_port:
        return None
    keeper.claim()
    from wyoming_server.api.serve import Api  # noqa: PLC0415 - Wyoming clients need not wait for it

    identity = house.identify(keeper.store)
    if identity.is_new:
        _say(f"token of the API, for Home Assistant, the status page and programs of yours: {identity.token}")
    api = Api(house, identity.token, server)
    await api.start(settings.api_host, settings.api_port)
    _LOGGER.info("API on http://%s:%d, with the status page at the same address", settings.api_host, api.port)
    if isinstance(settings, LoadedSettings) and settings.sources.of("API_TOKEN") == "stored":
        _LOGGER.info("the token of the API is in %s", keeper.store.path)
    return api


async def _unless(given_up: asyncio.Event, work: Awaitable[object]) -> None:
    """Do the work, or as much of it as is done by then."""
    working, waiting = asyncio.ensure_future(work), asyncio.create_task(given_up.wait())
    done, _ = await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if working in done:
        await working
    else:
        _LOGGER.info("stopping at once")
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def _announcer(house: House, server: WyomingServer, api: Api | None) -> Announcer:
    settings = house.settings
    own_id = house.server_id or keep_id(Store(settings.settings_file))
    where = (settings.api_host, api.port) if api else None
    return Announcer(settings.zeroconf, own_id, services(own_id, server.listening_uri, where))


async def _keep_warm(house: House) -> None:
    while True:
        if seconds := house.settings.keep_warm:
            house.engine.warm()
        await asyncio.sleep(seconds or _NEVER_WARM_SECONDS)


async def _tidy_up(work: Awaitable[object]) -> None:
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
    _say(
        f'understood: "{answer.text}" (said: "{PASSWORD.text}")\n'
        f"answered by {answer.backend}, {answer.ms:.0f} ms after the last sample"
    )


def _say(text: str) -> None:
    with suppress(OSError):  # nobody reads it
        print(text, flush=True)


def _allow_many_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
