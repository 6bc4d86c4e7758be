"""The page for everybody: by keyboard, on a phone, in the dark, with a screen reader, in Chinese."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.browser.sound import SAID
from tests.browser.stage import TOKEN
from tests.browser.visit import PHONE
from tests.emulators.assemblyai import Drop, Fault
from tests.end_to_end.clips import MUTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from playwright.async_api import Page

    from tests.browser.stage import Stage
    from tests.browser.visit import Visit

    Visiting = Callable[..., AbstractAsyncContextManager[Visit]]

pytestmark = pytest.mark.asyncio(loop_scope="package")
ON_A_PHONE: dict[str, Any] = {"viewport": PHONE, "has_touch": True, "device_scale_factor": 2}
DROPPED = Fault("audio", Drop(), audio_ms=800)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
NAMES = re.compile("stt-failover|AssemblyAI( Sync)?|Whisper|English")
# All that is read or read aloud, but for the server's own words about its settings, and names of strategies.
TEXTS = """() => {
  const passed = "[data-state=missing] .why, #about, option";
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (parent.checkVisibility() && !parent.closest(passed)) texts.push(walker.currentNode.textContent);
  }
  const labelled = [...document.querySelectorAll("[aria-label]")];
  return [...texts, ...labelled.map((element) => element.getAttribute("aria-label"))];
}"""
FOCUS = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const isMarked = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return {
    id: element.id || element.closest("[data-backend]")?.dataset.backend + " " + element.className,
    isMarked: isMarked || style.boxShadow !== "none",
  };
}"""


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until that is reached; whatever is passed on the way must be seen to have the focus."""
    for _ in range(100):
        await page.keyboard.press("Tab")
        focus = await page.evaluate(FOCUS)
        assert focus["isMarked"], focus
        if focus["id"] == name:
            return
    raise AssertionError(f"the keyboard does not reach {name}")


async def findings(page: Page) -> list[str]:
    """What axe thinks serious or worse."""
    # Colours that are on their way to others are not meant to be read.
    await page.evaluate("Promise.all(document.getAnimations().map((item) => item.finished))")
    # This goes through the debugger, past the policy of the page.
    results = await Axe().run(page)
    return [
        f"{item['id']}: {node['target']} {node['failureSummary']}"
        for item in results.response["violations"]
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    ]


async def test_axe_has_no_serious_findings(visit: Visiting, stage: Stage) -> None:
    found = {}
    async with visit(token="", color_scheme="light") as seen:
        await seen.go()
        await seen.is_asked_for_a_token()
        found["token, light"] = await findings(seen.page)
        await seen.page.emulate_media(color_scheme="dark")
        found["token, dark"] = await findings(seen.page)
        seen.forgive("status of 401")
    await stage.say(MUTED)
    async with visit(color_scheme="light") as seen:
        await seen.go_in()
        await stage.say(MUTED, DROPPED)
        await expect(seen.backend("assemblyai")).to_have_attribute("data-state", "open")
        await seen.open_details()
        found["light"] = await findings(seen.page)
        await seen.page.emulate_media(color_scheme="dark")
        found["dark"] = await findings(seen.page)
        await seen.page.set_viewport_size(PHONE)
        found["phone, dark"] = await findings(seen.page)
        await seen.page.emulate_media(color_scheme="light")
        found["phone, light"] = await findings(seen.page)
    assert {where: what for where, what in found.items() if what} == {}


async def test_everything_is_reached_by_keyboard(visit: Visiting, stage: Stage) -> None:
    async with visit(token="") as seen:
        page = seen.page
        await seen.go()
        await seen.is_asked_for_a_token()
        await expect(seen.one("#token")).to_be_focused()
        await page.keyboard.type(TOKEN)
        await page.keyboard.press("Enter")
        await seen.is_live()
        seen.forgive("status of 401")

        await page.reload()
        await seen.is_live()
        await page.keyboard.press("Tab")
        await expect(page.locator(".skip")).to_be_focused()
        await tab_to(page, "language")
        await page.keyboard.press("ArrowDown")
        await expect(seen.one("html")).to_have_attribute("lang", "zh-Hans")
        await page.keyboard.press("ArrowUp")
        await expect(seen.one("html")).to_have_attribute("lang", "en")

        stage.will_be_said(SAID)
        await tab_to(page, "microphone")
        await page.keyboard.press("Space")
        await expect(seen.one("#heard")).to_have_attribute("data-kind", "partial")
        await expect(seen.one("#microphone")).to_be_focused()
        await page.keyboard.press("Space")
        await expect(seen.one("#heard")).to_have_attribute("data-kind", "final")

        await tab_to(page, "whisper test")
        await page.keyboard.press("Enter")
        await expect(seen.backend("whisper").locator(".result")).to_have_attribute("data-ok", "false")
        await expect(seen.backend("whisper").locator(".test")).to_be_focused()


async def test_the_page_speaks_chinese(visit: Visiting, stage: Stage) -> None:
    await stage.say(MUTED, DROPPED)
    async with visit() as seen:
        await seen.go_in()
        await seen.one("#language").select_option("zh")
        await expect(seen.one("html")).to_have_attribute("lang", "zh-Hans")
        await seen.page.reload()
        await seen.is_live()
        await expect(seen.one("html")).to_have_attribute("lang", "zh-Hans")
        await expect(seen.one("#now-why")).to_have_text(CHINESE)
        texts = [NAMES.sub("", text) for text in await seen.page.evaluate(TEXTS)]
        assert [text for text in texts if re.search("[A-Za-z]{3}", text)] == []
        assert sum(bool(CHINESE.search(text)) for text in texts) > 40
        assert await findings(seen.page) == []


async def test_a_phone_needs_no_scrolling_sideways(visit: Visiting, stage: Stage) -> None:
    await stage.say(MUTED, DROPPED)
    async with visit(**ON_A_PHONE) as seen:
        await seen.go_in()
        for language in ("en", "zh"):
            await seen.one("#language").select_option(language)
            await seen.open_details()
            width = await seen.page.evaluate("document.documentElement.scrollWidth")
            assert (language, width) == (language, PHONE["width"])
