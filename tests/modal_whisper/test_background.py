from __future__ import annotations

import asyncio
import threading

import aiohttp
import pytest

from modal_whisper.background import serve
from modal_whisper.conversation import Limits
from tests.fakes import PATIENCE
from tests.modal_whisper.scripted_models import SPARE, ScriptedModel
from tests.processes import free_port


async def get(url: str, key: str) -> tuple[int, str]:
    """Status and model of a page, once somebody listens there."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url, headers={"Authorization": f"Bearer {key}"}) as answer:
                    return answer.status, (await answer.json()).get("model", "")
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)  # another thread, which can only be looked at now and then


async def test_it_serves_the_model_on_a_thread_and_asks_for_the_key() -> None:
    port = free_port()
    thread = serve(
        ScriptedModel, host="127.0.0.1", port=port, api_key="right", limits=Limits(max_connections=1)
    )
    assert thread.daemon
    assert thread is not threading.current_thread()
    assert await get(f"http://127.0.0.1:{port}/warm", "right") == (200, SPARE)
    assert (await get(f"http://127.0.0.1:{port}/warm", "wrong"))[0] == 401


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is what is tested
async def test_a_failure_ends_the_thread() -> None:
    def fail() -> ScriptedModel:
        raise RuntimeError("no model")

    thread = serve(fail, host="127.0.0.1", port=free_port(), api_key="key")
    await asyncio.to_thread(thread.join, PATIENCE)
    assert not thread.is_alive()
