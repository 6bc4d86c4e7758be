"""The engine with all that outlives a change of its settings: costs, statistics, traces, and who listens."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from wyoming_server import trial
from wyoming_server.build import (
    build_backend,
    build_backends,
    build_costs,
    build_rules,
    engine_of,
    log_left_out,
    prices,
    what_is_missing,
)
from wyoming_server.changes import AFTER_RESTART, check_listening, differing, with_changes
from wyoming_server.errors import OverdueError
from wyoming_server.identity import establish
from wyoming_server.live import began_at
from wyoming_server.recording import Pool
from wyoming_server.settings import LoadedSettings
from wyoming_server.statistics import History, Hours, Statistics
from wyoming_server.store import Kept, StoreError
from wyoming_server.trial import MISSING, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import aiohttp

    from wyoming_server.events import Event, Listener
    from wyoming_server.identity import Identity
    from wyoming_server.settings import Settings
    from wyoming_server.store import Store

_LOGGER = logging.getLogger(__name__)

_TRIAL_SECONDS: Final = 30.0


class House:
    """What the settings describe, without the doors to it; raises SettingsError where no backend is left.

    To be made in the event loop that it will run in. Whatever happens is told to the `listeners`.
    """

    def __init__(
        self,
        settings: Settings,
        session: aiohttp.ClientSession,
        *listeners: Listener,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._running = settings
        self.settings = settings
        """The present ones."""
        self.server_id = ""
        """Who it is among others, see `identify`."""
        self._session = session
        self._store: Store | None = None
        self._owed: Mapping[str, Any] | None = None  # what is to be kept with the id once that is possible
        self._listeners = list(listeners)
        self._observers: list[Callable[[Settings], None]] = []
        self._changing = asyncio.Lock()
        self._trying = asyncio.Lock()
        self._loading = Lock()
        self._clock = loop.time
        self._started_at = loop.time()
        self.statistics = Statistics(loop.time)
        self.history = History(clock=loop.time, now=lambda: datetime.now().astimezone(), began_at=began_at)
        self.hours = Hours(lambda: datetime.now().astimezone())
        self._listeners += [self.statistics, self.hours, self.history]
        self.costs = build_costs(settings, self._tell)
        self._built = build_backends(settings, session, self.costs, turn=self._loading)
        log_left_out(settings)
        self.engine = engine_of(self._built, settings, self.costs, self._tell)
        self.pool = Pool()
        """What the audio of all utterances shares, by whichever door they come in."""

    @property
    def uptime(self) -> float:
        """Seconds since it was made."""
        return self._clock() - self._started_at

    @property
    def now(self) -> float:
        """The time of the clock that everything here goes by, in seconds."""
        return self._clock()

    def identify(self, store: Store) -> Identity:
        """Who it is, as kept in `store`, where changes are kept from now on; see identity.establish.

        The settings must know their sources.
        """
        if not isinstance(self.settings, LoadedSettings):
            raise TypeError("settings without sources cannot be kept")
        self.settings, identity = establish(self.settings, store)
        self._store, self.server_id = store, identity.server_id
        if not identity.is_kept:
            self._owed = {"API_TOKEN": identity.token} if identity.is_new else {}
        return identity

    def listen(self, listener: Listener) -> None:
        """Tell this listener, too, whatever happens."""
        self._listeners.append(listener)

    def observe(self, observer: Callable[[Settings], None]) -> None:
        """Call this whenever other settings hold, with them."""
        self._observers.append(observer)

    async def change(self, changes: Mapping[str, Any]) -> list[str]:
        """Keep these settings and let them hold from the next utterance on; all of them or none.

        Returns the names of those that wait for a restart. Raises SettingsError and its kin, with nothing
        changed.
        """
        async with self._changing:
            before, store = self.settings, self._store
            if not isinstance(before, LoadedSettings) or store is None:
                raise StoreError("there is no file that changes could be kept in")
            kept = await asyncio.to_thread(store.read)
            # What somebody wrote into the file counts; a file that is gone was no wish.
            present = kept.settings if kept.is_there else before.sources.stored
            stored = {**(self._owed or {}), **present}
            settings = with_changes(before.sources.with_stored(stored), changes)
            await check_listening(self._running, before, settings)
            built = build_backends(settings, self._session, self.costs, self._built, turn=self._loading)
            if settings.sources.stored != kept.settings or not kept.is_there:
                await asyncio.to_thread(store.write, Kept(settings.sources.stored, self.server_id))
                self._owed = None
            self.settings, self._built = settings, built
            self.costs.set_prices(prices(settings), settings.daily_budget or None)
            changed = differing(before, settings)
            _LOGGER.info("settings were changed: %s", ", ".join(changed) or "none")
            log_left_out(settings, before)
            if changed:
                self.engine.swap([item.backend for item in built.values()], build_rules(settings))
        for observer in self._observers:
            observer(settings)
        return [name for name in changed if name in AFTER_RESTART]

    async def settle(self) -> None:
        """Keep the id and the token, where that has not been possible so far, and a copy of the settings."""
        async with self._changing:
            if store := self._store:
                with suppress(StoreError):
                    await asyncio.to_thread(self._settle, store)

    def _settle(self, store: Store) -> None:
        if self._owed is not None:
            store.write(Kept({**self._owed, **store.read().settings}, self.server_id))
            self._owed = None
        store.back_up()

    async def try_out(self, names: Sequence[str] | None, changes: Mapping[str, Any]) -> list[Verdict]:
        """Try the named backends, or all enabled ones, as they would be with these changes; keeps nothing."""
        settings = self.settings
        if changes and isinstance(settings, LoadedSettings):
            settings = with_changes(settings.sources, changes)
        wanted = settings.backends if names is None else tuple(dict.fromkeys(names))
        give_up_at = self._clock() + _TRIAL_SECONDS
        try:
            async with asyncio.timeout(_TRIAL_SECONDS):
                await self._trying.acquire()
        except TimeoutError:
            busy = OverdueError("another test is running; try again")
            return [trial.failure(name, busy) for name in wanted]
        try:
            return await self._try_out(wanted, settings, give_up_at - self._clock())
        finally:
            self._trying.release()

    async def close(self) -> None:
        """End what the backends still have open."""
        await self.engine.close()

    async def _try_out(self, names: Sequence[str], settings: Settings, within: float) -> list[Verdict]:
        missing = {name: reason for name in names if (reason := what_is_missing(name, settings))}
        backends = [
            build_backend(
                name, settings, self._session, self.costs, self._built.get(name), turn=self._loading
            ).backend
            for name in names
            if name not in missing
        ]
        with self.engine.using(backends):
            for backend in backends:
                if backend not in self.engine.backends:
                    backend.start()
            verdicts = {item.backend: item for item in await trial.try_out(backends, within)}
        return [
            verdicts.get(name) or Verdict(backend=name, ok=False, code=MISSING, message=missing.get(name, ""))
            for name in names
        ]

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
