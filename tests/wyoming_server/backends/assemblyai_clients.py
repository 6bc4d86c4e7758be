"""The backend `assemblyai` as the tests set it up."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.wyoming_server.backends.listening import PATIENCE, leaving_nothing
from wyoming_server.backends.assemblyai import AssemblyAI, AssemblyAIOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "good-key"
PRO = "universal-3-6-pro"
ENGLISH = "universal-streaming-english"


def options(url: str = "ws://127.0.0.1", **changes: Any) -> AssemblyAIOptions:
    """Patient ones, so that a slow machine fails no test."""
    return AssemblyAIOptions(
        **{
            "api_key": KEY,
            "url": url,
            "model": PRO,
            "mode": "min_latency",
            "languages": (),
            "connect_timeout": PATIENCE,
            "timeout": PATIENCE,
            **changes,
        }
    )


@asynccontextmanager
async def assemblyai(url: str, **changes: Any) -> AsyncIterator[AssemblyAI]:
    """The backend, closed in the end, when nothing of it may be left."""
    async with leaving_nothing() as session:
        backend = AssemblyAI(options(url, **changes), session)
        yield backend
        await backend.close()
