"""One page in a browser, and all that went wrong in it."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request

PATIENCE_MS: Final = 60_000
LAUNCH: Final[dict[str, Any]] = {
    "args": [
        "--disable-quic",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ]
}
"""Nobody outside this machine is asked for anything."""
DESKTOP: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 360, "height": 740}
_TOKEN_KEY: Final = "stt-failover.token"

expect.set_options(timeout=PATIENCE_MS)


class Visit:
    """A page that is open, with names for what the tests look at."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        """Errors in the console, errors of scripts, failed requests, and requests to elsewhere."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        page.on("request", self._on_request)

    def one(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def backend(self, name: str) -> Locator:
        """The card of a backend."""
        return self.one(f'#backends article[data-backend="{name}"]')

    async def go(self) -> None:
        await self.page.goto(self.url)

    async def go_in(self) -> None:
        """Open the page, and return when it shows what the server tells."""
        await self.go()
        await self.is_live()

    async def is_live(self) -> None:
        await expect(self.one("#connection")).to_have_attribute("data-state", "live")
        await expect(self.one("#status")).to_be_visible()

    async def is_asked_for_a_token(self) -> None:
        await expect(self.one("#token-form")).to_be_visible()
        await expect(self.one("#status")).to_be_hidden()

    async def open_details(self) -> None:
        """The tables behind the charts and of the latest utterance."""
        latest = self.one("#utterances summary").first
        for summary in (self.one("#latency summary"), self.one("#failovers summary"), latest):
            await expect(summary).to_be_visible()
            if await summary.locator("xpath=..").get_attribute("open") is None:
                await summary.click()
        await expect(latest.locator("xpath=..").locator("table")).to_be_visible()

    def forgive(self, pattern: str) -> None:
        """Problems that this test brings about itself."""
        self.problems = [problem for problem in self.problems if not re.search(pattern, problem)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        # What the page makes itself, such as a blob, has no host.
        if (host := urlsplit(request.url).netloc) and host != urlsplit(self.url).netloc:
            self.problems.append(f"elsewhere: {request.url}")


@asynccontextmanager
async def visiting(browser: Browser, url: str, *, token: str = "", **context: Any) -> AsyncIterator[Visit]:
    """A browser that has never seen the page, or that remembers a token; what goes wrong fails the test.

    `context` is what Browser.new_context() takes.
    """
    where = urlsplit(url)
    kept = [{"name": _TOKEN_KEY, "value": token}] if token else []
    storage: Any = {
        "cookies": [],
        "origins": [{"origin": f"{where.scheme}://{where.netloc}", "localStorage": kept}],
    }
    options = {"viewport": DESKTOP, "locale": "en-GB", "storage_state": storage, **context}
    async with await browser.new_context(**options) as opened:
        opened.set_default_timeout(PATIENCE_MS)
        visit = Visit(await opened.new_page(), url)
        yield visit
        assert not visit.problems, visit.problems
