"""The microphone of the page, into which a recording of a person is fed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.sound import SAID
from tests.end_to_end.clips import error_rate, words
from tests.end_to_end.stage import WORST_ERROR_RATE

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.browser.stage import Stage
    from tests.browser.visit import Visit

    Visiting = Callable[..., AbstractAsyncContextManager[Visit]]

pytestmark = pytest.mark.asyncio(loop_scope="package")

# Every text that stands there while the page listens; the page is faster than questions from here could be.
WATCH = """() => {
  const heard = document.querySelector("#heard");
  window.partials = [];
  new MutationObserver(() => {
    if (heard.dataset.kind === "partial") window.partials.push(heard.textContent);
  }).observe(heard, {childList: true, characterData: true, subtree: true, attributes: true});
}"""

NO_MICROPHONE = (
    "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('none', 'NotFoundError'); }"
)

KEEP_STREAM = """() => {
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => (window.stream = await open(wanted));
}"""
# A track that a page stops by itself tells of nothing; one whose device is gone does.
UNPLUG = """() => {
  const [track] = window.stream.getAudioTracks();
  track.stop();
  track.dispatchEvent(new Event("ended"));
}"""


async def test_what_is_said_appears_while_it_is_said(visit: Visiting, stage: Stage) -> None:
    stage.will_be_said(SAID)
    async with visit() as seen:
        await seen.go_in()
        await seen.page.evaluate(WATCH)
        await seen.one("#microphone").click()
        await expect(seen.one("#microphone")).to_have_attribute("aria-pressed", "true")
        await expect(seen.one("#heard")).to_have_text(re.compile(r"again"))
        await seen.one("#microphone").click()
        await expect(seen.one("#heard")).to_have_attribute("data-kind", "final")
        await expect(seen.one("#heard")).to_have_text(SAID.text)
        await expect(seen.one("#heard-by")).to_have_attribute("data-backend", "assemblyai")
        await expect(seen.one("#microphone")).to_have_attribute("aria-pressed", "false")
        partials = await seen.page.evaluate("window.partials")
        lengths = [len(words(text)) for text in partials]
        assert len(set(lengths)) > 2, partials
        await expect(seen.one("#utterances > li").first).to_have_attribute("data-backend", "assemblyai")


async def test_the_real_model_understands_the_microphone(visit: Visiting, stage: Stage) -> None:
    await stage.change(BACKENDS="local")
    async with visit() as seen:
        await seen.go_in()
        await seen.page.evaluate(WATCH)
        await seen.one("#microphone").click()
        await expect(seen.one("#heard")).to_have_text(re.compile(r"password.*again", re.IGNORECASE))
        await seen.one("#microphone").click()
        await expect(seen.one("#heard")).to_have_attribute("data-kind", "final")
        await expect(seen.one("#heard-by")).to_have_attribute("data-backend", "local")
        assert error_rate(SAID.text, await seen.one("#heard").inner_text()) <= WORST_ERROR_RATE
        assert await seen.page.evaluate("window.partials.length") > 0


async def test_a_microphone_that_is_not_there_is_told_of(visit: Visiting) -> None:
    async with visit() as seen:
        await seen.page.add_init_script(NO_MICROPHONE)
        await seen.go_in()
        await seen.one("#microphone").click()
        await expect(seen.one("#heard")).to_have_attribute("data-kind", "error")
        await expect(seen.one("#heard")).to_contain_text("No microphone was found")
        seen.forgive("WebSocket is closed before the connection is established")
        await expect(seen.one("#microphone")).to_have_attribute("aria-pressed", "false")
        await seen.one("#language").select_option("zh")
        await expect(seen.one("#heard")).to_contain_text("没有找到麦克风")


async def test_a_microphone_that_is_unplugged_ends_the_utterance(visit: Visiting, stage: Stage) -> None:
    stage.will_be_said(SAID)
    async with visit() as seen:
        await seen.go_in()
        await seen.page.evaluate(KEEP_STREAM)
        await seen.one("#microphone").click()
        await expect(seen.one("#heard")).to_have_text(re.compile(r"again"))
        await seen.page.evaluate(UNPLUG)
        await expect(seen.one("#heard")).to_have_attribute("data-kind", "final")
        await expect(seen.one("#heard-by")).to_contain_text("after you stopped")
        await expect(seen.one("#microphone")).to_have_attribute("aria-pressed", "false")
