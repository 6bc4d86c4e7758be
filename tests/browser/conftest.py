"""One browser and one server for all tests of this folder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.processes import PROJECT

# The environment of Python 3.11 has no Playwright.
_IS_HERE = importlib.util.find_spec("playwright") is not None
collect_ignore_glob = [] if _IS_HERE else ["test_*.py"]

if _IS_HERE:
    from playwright.async_api import async_playwright

    from tests.browser.sound import microphone
    from tests.browser.stage import TOKEN, Stage, running_stage
    from tests.browser.visit import LAUNCH, Visit, visiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from playwright.async_api import Browser


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where a Chromium is; whoever runs pytest alone gets one, too."""
    found = os.environ.get("CHROMIUM")
    return found or subprocess.check_output([PROJECT / "script" / "chromium"], text=True).strip()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """A Chromium into whose microphone a person speaks once, each time that it is opened."""
    said: Path = tmp_path_factory.mktemp("microphone") / "said.wav"
    microphone(said)
    heard = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={said}%noloop",
    ]
    async with (
        async_playwright() as driver,
        await driver.chromium.launch(executable_path=chromium, args=[*LAUNCH["args"], *heard]) as browser,
    ):
        yield browser


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def running() -> AsyncIterator[Stage]:
    """The server that all tests share."""
    async with running_stage() as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="package")
async def stage(running: Stage) -> Stage:
    """The same as if no test had changed anything, but for the utterances that it remembers."""
    await running.reset()
    return running


@pytest.fixture
def visit(browser: Browser, stage: Stage) -> Callable[..., AbstractAsyncContextManager[Visit]]:
    """Opens the page of the server for somebody who has the token, unless the test says otherwise."""

    def open_page(**context: Any) -> AbstractAsyncContextManager[Visit]:
        return visiting(browser, stage.url, **{"token": TOKEN, **context})

    return open_page
