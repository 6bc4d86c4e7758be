"""The files of the status page, and what they may do in a browser."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

import pytest

from tests.wyoming_server.api.running import Running, running
from tests.wyoming_server.houses import ALL, Works
from wyoming_server.api.site import is_open

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import aiohttp

STRANGER = {"Authorization": ""}
FILES = {item.name: item.read_bytes() for item in (resources.files("wyoming_server.api") / "page").iterdir()}
TEXTS = {name: content.decode() for name, content in FILES.items()}
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "worker-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'self'",
}
WORD = re.compile(r'^  "?([\w. -]+?)"?:\s+"(.*)",$', re.MULTILINE)


@pytest.fixture(autouse=True)
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    return Works(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


async def get(
    house: Running, page: str, method: str = "GET", headers: Mapping[str, str] = STRANGER
) -> tuple[aiohttp.ClientResponse, bytes]:
    async with house.client.request(method, page, headers=headers, skip_auto_headers=["Accept"]) as answer:
        return answer, await answer.read()


def addresses() -> Iterator[str]:
    yield "/"
    yield from (f"/page/{name}" for name in FILES)


async def test_every_file_is_there_for_everybody_with_its_type(path: Path) -> None:
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    async with running(path, ALL) as house:
        answer, body = await get(house, "/")
        assert (answer.status, answer.content_type, body) == (200, "text/html", FILES["index.html"])
        for name, content in FILES.items():
            answer, body = await get(house, f"/page/{name}")
            assert (answer.status, body) == (200, content)
            assert (answer.content_type, answer.charset) == (kinds[name.rpartition(".")[2]], "utf-8")


async def test_no_file_may_run_what_is_not_a_file_of_ours_or_speak_to_anybody_else(path: Path) -> None:
    async with running(path, ALL) as house:
        for address in addresses():
            answer, _ = await get(house, address)
            policy = dict(
                item.strip().split(" ", 1) for item in answer.headers["Content-Security-Policy"].split(";")
            )
            assert policy == POLICY
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "microphone=(self)" in answer.headers["Permissions-Policy"]


async def test_a_browser_asks_each_time_and_gets_what_has_changed(path: Path) -> None:
    async with running(path, ALL) as house:
        tags = set()
        for address in addresses():
            answer, _ = await get(house, address)
            tag = answer.headers["ETag"]
            assert answer.headers["Cache-Control"] == "no-cache"
            for given in (tag, f'"other", W/{tag}', "*"):
                answer, body = await get(house, address, headers={**STRANGER, "If-None-Match": given})
                assert (answer.status, body, answer.headers["ETag"]) == (304, b"", tag)
                assert "Content-Security-Policy" in answer.headers
            answer, _ = await get(house, address, headers={**STRANGER, "If-None-Match": '"other"'})
            assert answer.status == 200
            tags.add(tag)
        assert len(tags) == len(FILES)


async def test_it_can_be_asked_for_its_head_but_nothing_else_can_be_done_to_it(path: Path) -> None:
    async with running(path, ALL) as house:
        for address in ("/", "/page/page.js"):
            answer, body = await get(house, address, "HEAD")
            assert (answer.status, body) == (200, b"")
            assert int(answer.headers["Content-Length"]) > 1000
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                status, told = await house.ask(method, address, headers=STRANGER)
                assert (status, told["code"]) == (405, "not-allowed")


@pytest.mark.parametrize(
    "address",
    [
        "/page/",
        "/page/nothing.js",
        "/page/__init__.py",
        "/page/..%2Fguard.py",
        "/page/..%2f..%2fsettings.py",
        "/page/%2e%2e/api/status",
        "/page/..%5cguard.py",
        "/page//etc/passwd",
        "/page/%00",
    ],
)
async def test_nothing_else_is_given_away(path: Path, address: str) -> None:
    from yarl import URL

    async with running(path, ALL) as house:
        url = URL(house.url + address, encoded=True)
        async with house.client.get(url, headers=STRANGER) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    "address", ["//", "/page", "/pages/x", "/Page/x", "/api/status", "/api/day", "/metrics"]
)
def test_only_the_addresses_of_the_page_are_open(address: str) -> None:
    assert not is_open(address)


async def test_other_sites_may_not_show_or_read_it(path: Path) -> None:
    async with running(path, ALL) as house:
        answer, _ = await get(house, "/", headers={**STRANGER, "Origin": "http://evil.example"})
        assert answer.status == 403
        answer, _ = await get(house, "/", headers=STRANGER)
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_all_addresses_in_the_page_are_its_own_and_relative() -> None:
    for name, text in TEXTS.items():
        found = re.findall(r'(?:src|href)="([^"#][^"]*)"', text) + re.findall(r'from "([^"]+)"', text)
        for address in found:
            assert address.startswith("./"), name
            assert address.removeprefix("./").removeprefix("page/") in FILES, name
        assert set(re.findall(r"https?://[\w.]+", text)) <= {
            "http://www.w3.org",  # the name of SVG
            "http://localhost",  # what a person is told to open
        }, name


def test_nothing_in_the_page_is_made_of_strings_with_markup() -> None:
    for name, text in TEXTS.items():
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert way not in text, name
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", TEXTS["index.html"])


def test_both_languages_have_all_words_and_the_same_blanks_to_fill_in() -> None:
    english, chinese = (
        dict(WORD.findall(re.sub(r":\n\s+", ": ", TEXTS[f"words.{language}.js"])))
        for language in ("en", "zh")
    )
    assert len(english) > 120
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key
    used = set(re.findall(r'data-text="([^"]+)"', TEXTS["index.html"]))
    for name, text in TEXTS.items():
        if name.endswith(".js"):
            used |= set(re.findall(r'\bword\("([\w.-]+)"', text))
    assert used <= english.keys()


def test_no_file_of_the_page_is_too_long_to_be_read_at_once() -> None:
    assert {name: text.count("\n") for name, text in TEXTS.items() if text.count("\n") > 300} == {}
