"""What the page shows of a real server, and that it does nothing else."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.stage import TOKEN
from tests.browser.visit import PATIENCE_MS, Visit
from tests.emulators.assemblyai import Drop, ErrorFrame, Fault, Script, Word
from tests.end_to_end.clips import MUTED, PASSWORD, error_rate
from tests.end_to_end.stage import WORST_ERROR_RATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from playwright.async_api import Locator, Route

    from tests.browser.stage import Stage

    Visiting = Callable[..., AbstractAsyncContextManager[Visit]]

pytestmark = pytest.mark.asyncio(loop_scope="package")
REFUSED = r"status of 401"
DROPPED = Fault("audio", Drop(), audio_ms=800)
# When the change is seen in the page, by the clock of this machine; asking from here takes longer.
WATCH = """() => {
  const card = document.querySelector("article[data-backend=assemblyai]");
  new MutationObserver(() => {
    if (card.dataset.state === "off") window.seenAt ??= Date.now();
  }).observe(card, {attributes: true});
}"""
HAS_ROOM = """(shape) => {
  const {width, height} = shape.getBoundingClientRect();
  return width > 0 && height > 0;
}"""
KEY = "stt-failover.token"
BARE = """(options) => options.filter(({value, label}) => value && label === value).map(({value}) => value)"""
MARKUP = '<img src="x" onerror="document.title=1">'


async def test_the_page_loads_without_complaints_and_asks_nobody_but_the_server(visit: Visiting) -> None:
    async with visit() as seen:
        await seen.go_in()
        await expect(seen.one("#now-name")).to_have_attribute("data-backend", "assemblyai")
        await expect(seen.one("#backends article")).to_have_count(4)
        await expect(seen.backend("assemblyai")).to_have_attribute("data-state", "closed")
        await expect(seen.backend("whisper")).to_have_attribute("data-state", "missing")
        await expect(seen.one("#about")).to_contain_text("failover")
        # The fixture would have told of a breach of the policy; here is one, so that it is known to.
        await seen.page.evaluate("document.body.append(document.createElement('style'))")
        await seen.page.evaluate("document.querySelector('style').textContent = 'p {color: red}'")
        assert any("Content Security Policy" in problem for problem in seen.problems)
        seen.forgive("Content Security Policy")


async def test_the_token_is_asked_for_once(visit: Visiting) -> None:
    async with visit(token="") as seen:
        await seen.go()
        await seen.is_asked_for_a_token()
        await seen.page.get_by_label("Token", exact=True).fill("a-wrong-token")
        await seen.page.keyboard.press("Enter")
        await expect(seen.one("#token-message")).to_contain_text("does not accept this token")
        await seen.is_asked_for_a_token()

        await seen.one("#token").fill(TOKEN)
        await seen.one("#token-form button").click()
        await seen.is_live()
        await seen.page.reload()
        await seen.is_live()
        await expect(seen.one("#token-form")).to_be_hidden()

        await seen.one("#forget").click()
        await seen.is_asked_for_a_token()
        await seen.page.reload()
        await seen.is_asked_for_a_token()
        assert not await seen.page.evaluate(f"JSON.stringify(localStorage).includes('{TOKEN}')")
        seen.forgive(REFUSED)


async def test_a_token_that_another_tab_forgets_or_stores_counts_in_all(visit: Visiting) -> None:
    async with visit() as one:
        await one.go_in()
        other = Visit(await one.page.context.new_page(), one.url)
        await other.go_in()
        await one.one("#forget").click()
        await other.is_asked_for_a_token()
        await expect(other.one("#token-message")).to_contain_text("forgotten")
        await one.one("#token").fill("a-wrong-token")
        await one.page.keyboard.press("Enter")
        await expect(one.one("#token-message")).to_contain_text("~/.config/stt-failover/settings.json")
        await one.one("#token").fill(TOKEN)
        await one.page.keyboard.press("Enter")
        await one.is_live()
        await other.is_live()
        one.forgive(REFUSED)
        assert not other.problems


async def test_a_refused_token_does_not_take_away_a_newer_one_of_another_tab(visit: Visiting) -> None:
    async with visit(token="an-old-token") as seen:

        async def store_newer(route: Route) -> None:
            # What a page itself stores is no event for it, as if it had slept through another tab's.
            await seen.page.evaluate(f"localStorage.setItem('{KEY}', '{TOKEN}')")
            await route.continue_()

        await seen.page.route("**/api/status", store_newer, times=1)
        await seen.go_in()
        assert await seen.page.evaluate(f"localStorage.getItem('{KEY}')") == TOKEN
        seen.forgive(REFUSED)


async def test_a_proxy_that_wants_a_sign_in_costs_nobody_the_token(visit: Visiting) -> None:
    async with visit() as seen:
        for body in ("<h1>Sign in</h1>", '{"message": "sign in"}', "null"):
            await seen.page.route("**/api/status", refusal(body))
            await seen.go()
            await expect(seen.one("#token-message")).to_contain_text("A proxy")
            await seen.page.unroute("**/api/status")
        await seen.go_in()
        seen.forgive(REFUSED)


async def test_what_was_said_before_is_said_in_the_new_language(visit: Visiting, stage: Stage) -> None:
    stage.will_be_said(PASSWORD)
    async with visit() as seen:
        await seen.go_in()
        result = seen.backend("whisper").locator(".result")
        await seen.backend("whisper").locator(".test").click()
        await expect(result).to_have_text(re.compile("^not set up: "))
        await seen.one("#warm").click()
        await expect(seen.one("#action-result")).to_have_text("Those that are set up are getting ready.")
        await seen.one("#language").select_option("zh")
        await expect(seen.one("#action-result")).to_have_text("已配置的后端正在准备。")
        await expect(result).to_have_text(re.compile("^未配置"))
        await seen.one("#language").select_option("en")
        await expect(result).to_have_text(re.compile("^not set up: "))


async def test_every_spoken_language_has_a_name(visit: Visiting) -> None:
    async with visit() as seen:
        await seen.go_in()
        for language in ("en", "zh"):
            await seen.one("#language").select_option(language)
            names = await seen.one("#spoken option").evaluate_all(BARE)
            assert names == []
            assert await seen.one("#spoken option").count() > 90


async def test_a_backend_without_enough_answers_says_why_it_has_no_median(visit: Visiting) -> None:
    async with visit() as seen:
        await seen.go_in()
        median = seen.backend("whisper").locator("dd").first
        await expect(median).to_contain_text("known after ten answers")
        await expect(median.locator("[title]")).to_have_attribute("title", "known after ten answers")


async def test_what_is_said_to_a_satellite_is_drawn(visit: Visiting, stage: Stage) -> None:
    async with visit() as seen:
        await seen.go_in()
        before = await seen.one("#utterances > li").count()
        assert (await stage.say(MUTED))[0] == "assemblyai"
        latest = seen.one("#utterances > li").first
        await expect(seen.one("#utterances > li")).to_have_count(before + 1)
        await expect(latest).to_have_attribute("data-backend", "assemblyai")
        await expect(latest.locator("svg.timeline g")).to_have_count(1)
        await expect(latest.locator('g[data-backend="assemblyai"]')).to_have_attribute("data-outcome", "won")
        await wait_drawn(latest.locator('g[data-backend="assemblyai"] rect').first)

        await expect(seen.one("#latency svg[role=img]")).to_have_attribute(
            "aria-label", re.compile(r"latest \d")
        )
        await wait_drawn(seen.one("#latency svg[role=img] circle").last)
        answered = seen.one('#failovers svg[role=img] rect[data-backend="assemblyai"]').last
        await wait_drawn(answered)
        await seen.one("#failovers summary").click()
        await expect(seen.one("#failovers tbody tr").last).to_contain_text("AssemblyAI")
        costs = seen.one('#costs tr[data-backend="assemblyai"] td').first
        await expect(costs).to_contain_text(re.compile(r"0\.0*[1-9]"))


async def test_a_failover_is_drawn_with_who_was_asked_when_and_who_won(visit: Visiting, stage: Stage) -> None:
    async with visit() as seen:
        await seen.go_in()
        before = await seen.one("#utterances > li").count()
        backend, text = await stage.say(MUTED, DROPPED)
        assert backend == "local"
        assert error_rate(MUTED.text, text) <= WORST_ERROR_RATE
        await expect(seen.one("#utterances > li")).to_have_count(before + 1)
        latest = seen.one("#utterances > li").first
        await expect(latest).to_have_attribute("data-backend", "local")
        first = latest.locator('g[data-backend="assemblyai"]')
        second = latest.locator('g[data-backend="local"]')
        await expect(first).to_have_attribute("data-outcome", "failed")
        await expect(second).to_have_attribute("data-outcome", "won")
        assert await left_of(first.locator("rect").first) < await left_of(second.locator("rect").first)
        label = await latest.locator("svg.timeline").get_attribute("aria-label")
        told = "AssemblyAI, first choice.*failed.*Whisper local, the one before failed.*won"
        assert re.search(told, label or "")
        await expect(seen.one("#failovers svg[role=img]")).to_have_attribute(
            "aria-label", re.compile(r"[1-9]\d* failover")
        )
        await expect(seen.backend("assemblyai")).to_have_attribute("data-state", "open")
        await expect(seen.one("#now")).to_have_attribute("data-level", "warn")
        await expect(seen.one("#now-name")).to_have_attribute("data-backend", "local")
        await seen.one("#close-breakers").click()
        await expect(seen.one("#now")).to_have_attribute("data-level", "well")


async def test_a_backend_that_is_switched_off_shows(visit: Visiting, stage: Stage) -> None:
    async with visit() as seen:
        await seen.go_in()
        await expect(seen.backend("assemblyai")).to_have_attribute("data-state", "closed")
        await seen.page.evaluate(WATCH)
        asked = time.time()
        await stage.change(BACKENDS="local")
        await expect(seen.backend("assemblyai")).to_have_attribute("data-state", "off")
        seconds = await seen.page.evaluate("window.seenAt") / 1000 - asked
        print(f"shown {seconds:.2f} s after it was switched off")  # noqa: T201 - for whoever measures, with -s
        await expect(seen.one("#now-name")).to_have_attribute("data-backend", "local")
        await expect(seen.backend("assemblyai").locator(".state")).to_have_text("switched off")
        await stage.change(BACKENDS=None)
        await expect(seen.backend("assemblyai")).to_have_attribute("data-state", "closed")


async def test_the_test_button_shows_what_a_backend_understands(visit: Visiting, stage: Stage) -> None:
    stage.will_be_said(PASSWORD)
    async with visit() as seen:
        await seen.go_in()
        await seen.page.get_by_role("button", name="Test Whisper local").click()
        heard = seen.backend("local").locator(".result")
        await expect(heard).to_have_attribute("data-ok", "true")
        await expect(heard).to_contain_text(re.compile(r"Understood in .*password", re.IGNORECASE))
        await seen.page.get_by_role("button", name="Test Whisper worker").click()
        refused = seen.backend("whisper").locator(".result")
        await expect(refused).to_have_attribute("data-ok", "false")
        await expect(refused).to_contain_text("WHISPER_SERVICE_URL")


async def test_markup_from_elsewhere_is_shown_as_text(visit: Visiting, stage: Stage) -> None:
    stage.assemblyai.script = Script((Word(MARKUP, 100, 900, sentence_end=True),))
    async with visit() as seen:
        await seen.go_in()
        title = await seen.page.title()
        images = await seen.one("img").count()
        result = seen.backend("assemblyai").locator(".result")
        await seen.page.get_by_role("button", name="Test AssemblyAI", exact=True).click()
        await expect(result).to_contain_text(MARKUP)
        stage.assemblyai.faults = [Fault("connect", ErrorFrame(3005, MARKUP))]
        await seen.page.get_by_role("button", name="Test AssemblyAI", exact=True).click()
        await expect(result).to_have_attribute("data-ok", "false")
        assert await seen.one("img").count() == images
        assert await seen.page.title() == title


def refusal(body: str) -> Callable[[Route], Awaitable[None]]:
    """What a proxy answers that nobody has signed in to."""

    async def refuse(route: Route) -> None:
        await route.fulfill(status=401, body=body)

    return refuse


async def wait_drawn(shape: Locator) -> None:
    """Return once it takes room on the page; charts are drawn anew now and then."""
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while not await shape.evaluate(HAS_ROOM):
            pass  # each question is a journey to the browser and back


async def left_of(shape: Locator) -> float:
    left: float = await shape.evaluate("(shape) => shape.getBoundingClientRect().left")
    return left
