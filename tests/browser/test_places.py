"""The page behind Home Assistant, and while its server is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest
from playwright.async_api import expect

from tests.browser.ingress import FRAME, ingress
from tests.browser.sound import SAID
from tests.browser.stage import INGRESS, TOKEN, running_stage
from tests.browser.visit import visiting
from tests.end_to_end.clips import MUTED

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from tests.browser.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="package")
AWAY = r"ERR_CONNECTION|WebSocket connection to|api/(status|traces|day)"


async def test_behind_home_assistants_ingress_nobody_is_asked_for_a_token(
    browser: Browser, stage: Stage
) -> None:
    stage.will_be_said(SAID)
    async with ingress(stage.url, INGRESS) as url, visiting(browser, url) as seen:
        await seen.go_in()
        await expect(seen.one("#forget")).to_be_hidden()
        await seen.one("#microphone").click()
        await expect(seen.one("#heard")).to_have_attribute("data-kind", "partial")
        await seen.one("#microphone").click()
        await expect(seen.one("#heard-by")).to_have_attribute("data-backend", "assemblyai")
        await seen.one("#close-breakers").click()
        await expect(seen.one("#action-result")).to_contain_text("asked again")

        await seen.page.goto(urljoin(url, FRAME))
        framed = seen.page.frame_locator("iframe")
        await expect(framed.locator("#connection")).to_have_attribute("data-state", "live")
        seen.forgive("favicon.ico|status of 404")


async def test_the_page_says_that_its_server_is_away_and_goes_on_when_it_is_back(
    browser: Browser, tmp_path: Path
) -> None:
    file = str(tmp_path / "settings.json")
    quick = {"LOCAL_ENABLED": "false", "SETTINGS_FILE": file}
    async with running_stage(**quick) as first:
        port = first.port
        async with visiting(browser, first.url, token=TOKEN) as seen:
            await seen.go_in()
            await expect(seen.one("#no-utterances")).to_be_visible()
            await asyncio.to_thread(first.process.stop)
            await expect(seen.one("#connection")).to_have_attribute("data-state", "waiting")
            await expect(seen.one("#connection")).to_contain_text("not connected")
            await expect(seen.one("#reconnect")).to_be_visible()
            async with running_stage(**quick, API_PORT=str(port)) as second:
                await seen.is_live()
                await expect(seen.one("#reconnect")).to_be_hidden()
                await second.say(MUTED)
                await expect(seen.one("#utterances > li")).to_have_count(1)
                seen.forgive(AWAY)
                await seen.go()  # so that it has gone from this server before that ends
                await seen.is_live()
                await seen.page.goto("about:blank")
