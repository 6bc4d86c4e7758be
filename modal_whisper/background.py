"""The worker's service on a thread of its own, for a host that wants its main thread back."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from aiohttp import web

from modal_whisper.service import create_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from modal_whisper.conversation import Limits
    from modal_whisper.model import Model

_log = logging.getLogger(__name__)


def serve(
    make_model: Callable[[], Model], *, host: str, port: int, api_key: str, limits: Limits | None = None
) -> threading.Thread:
    """Serve until the process ends; returns at once.

    `make_model` is called in the event loop that the model belongs to. The model is made ready when the first
    utterance comes. A failure ends the thread and is in the log; nobody can connect then.
    """

    async def run() -> None:
        app = create_app(make_model(), api_key=api_key, limits=limits, loads_at_start=False)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        _log.info("listening on port %d", port)
        await asyncio.Event().wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="worker", daemon=True)
    thread.start()
    return thread
