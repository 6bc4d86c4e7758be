"""Who may come in, and how the others are told."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import PATIENCE
from tests.wyoming_server.api.running import BEARER, running
from tests.wyoming_server.houses import ALL, KEY, TOKEN, Works

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [
    ("GET", "/api/status"),
    ("GET", "/api/config"),
    ("PATCH", "/api/config"),
    ("POST", "/api/test"),
    ("POST", "/api/warm"),
    ("POST", "/api/close-breakers"),
    ("GET", "/api/traces"),
    ("GET", "/api/day"),
    ("GET", "/api/events"),
    ("GET", "/ws/stt"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
]


@pytest.fixture(autouse=True)
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    return Works(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


@pytest.mark.parametrize(("method", "page"), PAGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer ü\udcff"},
        {"Authorization": "", "Sec-WebSocket-Protocol": f"bearer.{TOKEN}"},
        {"Authorization": "", "Sec-WebSocket-Protocol": "stt-failover, bearer.wrong"},
    ],
)
async def test_no_page_is_for_those_without_the_token(
    path: Path, method: str, page: str, headers: dict[str, str]
) -> None:
    async with running(path, ALL) as house, house.client.request(method, page, headers=headers) as answer:
        body = await answer.json()
        assert (answer.status, body["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert set(body) == {"error", "code"}
        assert "wrong" in body["error"]


@pytest.mark.parametrize(
    "headers",
    [
        BEARER,
        {"Authorization": f"bearer  {TOKEN} "},
        {"Authorization": "", "Sec-WebSocket-Protocol": f"stt-failover, bearer.{TOKEN}"},
        {"Authorization": "", "Sec-WebSocket-Protocol": f"bearer.{TOKEN},stt-failover"},
    ],
)
async def test_those_with_the_token_come_in(path: Path, headers: dict[str, str]) -> None:
    async with running(path, ALL) as house:
        status, _ = await house.ask("GET", "/api/status", headers=headers)
        assert status == 200


@pytest.mark.parametrize("padding", ["", "="])
async def test_a_browser_can_send_a_token_that_no_subprotocol_can_hold(path: Path, padding: str) -> None:
    token = "p@ss/word, and+=~?>"
    encoded = "cEBzcy93b3JkLCBhbmQrPX4_Pg" + 2 * padding
    async with running(path, ALL, token) as house:
        for offered, status in (
            (f"stt-failover, bearer64.{encoded}", 200),
            (f"bearer64.{encoded}", 401),
            ("stt-failover, bearer64.cEBzcy93b3Jk", 401),
            ("stt-failover, bearer64.", 401),
            ("stt-failover, bearer64.!", 401),
            ("stt-failover, bearer64.abcde", 401),
            ("stt-failover, bearer64._w", 401),
        ):
            headers = {"Authorization": "", "Sec-WebSocket-Protocol": offered}
            assert (await house.ask("GET", "/api/status", headers=headers))[0] == status, offered


async def test_health_is_for_everybody(path: Path) -> None:
    async with running(path, ALL) as house:
        status, body = await house.ask("GET", "/health", headers={"Authorization": "Bearer wrong"})
        assert status == 200
        assert body == {"status": "ok", "version": body["version"], "id": house.house.server_id}


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [
        ("http://127.0.0.1:{port}", True),
        ("https://127.0.0.1:{port}", True),
        ("http://localhost:{port}", False),
        ("http://evil.example", False),
        ("http://127.0.0.1:1", False),
        ("null", False),
        ("", False),
        ("http://[", False),
    ],
)
async def test_pages_of_other_sites_are_turned_away(path: Path, origin: str, *, is_let_in: bool) -> None:
    async with running(path, ALL) as house:
        headers = {"Origin": origin.format(port=house.api.port)}
        for page in ("/api/status", "/health"):
            status, body = await house.ask("GET", page, headers=headers)
            assert (status, body.get("code")) == ((200, None) if is_let_in else (403, "forbidden"))


FOREIGN = {"Authorization": "", "Origin": "http://evil.example"}


@pytest.mark.parametrize("trusted", ["127.0.0.1", "172.30.32.2, ::ffff:127.0.0.1"])
async def test_who_asks_from_a_trusted_address_needs_no_token_and_may_be_called_anything(
    path: Path, trusted: str
) -> None:
    async with running(path, {**ALL, "API_TRUSTED": trusted}) as house:
        assert (await house.ask("GET", "/api/status", headers=FOREIGN))[0] == 200
        assert (await house.ask("GET", "/nowhere", headers=FOREIGN))[1]["code"] == "not-found"
        assert (await house.ask("POST", "/api/warm", b" " * 100_000, headers=FOREIGN))[0] == 413
        async with house.client.ws_connect("/api/events", headers=FOREIGN) as feed:
            assert (await feed.receive_json())["type"] == "status"
        async with house.client.ws_connect(
            "/api/events", headers=FOREIGN, protocols=["stt-failover", "bearer.old"]
        ) as feed:
            assert feed.protocol == "stt-failover"


@pytest.mark.parametrize(("method", "page"), [("PATCH", "/api/config"), ("POST", "/api/test")])
async def test_settings_want_the_token_from_a_trusted_address_too(path: Path, method: str, page: str) -> None:
    async with running(path, {**ALL, "API_TRUSTED": "127.0.0.1"}) as house:
        body = {"settings": {"DEADLINE": 5}, "backends": []}
        status, refusal = await house.ask(method, page, body, headers=FOREIGN)
        assert (status, refusal["code"]) == (403, "forbidden")
        assert (await house.ask(method, page, body))[0] == 200
        assert (await house.ask("POST", "/api/test", {"backends": []}, headers=FOREIGN))[0] == 200


@pytest.mark.parametrize("trusted", ["", "172.30.32.2", "::1", "127.0.0.2"])
async def test_nobody_else_is_trusted_whatever_they_claim_to_be(path: Path, trusted: str) -> None:
    async with running(path, {**ALL, "API_TRUSTED": trusted}) as house:
        claims = {"X-Forwarded-For": trusted, "X-Real-IP": trusted, "Forwarded": f"for={trusted}"}
        headers = {"Authorization": "", **claims}
        assert (await house.ask("GET", "/api/status", headers=headers))[0] == 401
        assert (await house.ask("GET", "/api/status", headers={**headers, **FOREIGN}))[0] == 403


async def test_who_is_trusted_counts_after_a_restart(path: Path) -> None:
    async with running(path, ALL) as house:
        body = {"settings": {"API_TRUSTED": ["127.0.0.1"]}}
        _, answer = await house.ask("PATCH", "/api/config", body)
        assert answer["restart"] == ["API_TRUSTED"]
        assert answer["settings"]["API_TRUSTED"] == {"value": ["127.0.0.1"], "source": "stored"}
        assert (await house.ask("GET", "/api/status", headers={"Authorization": ""}))[0] == 401
    async with running(path, ALL) as house:
        assert (await house.ask("GET", "/api/status", headers={"Authorization": ""}))[0] == 200


async def test_who_guesses_is_made_to_wait_even_with_the_right_token(path: Path) -> None:
    async with running(path, ALL) as house:
        for _ in range(10):
            status, _ = await house.ask("GET", "/api/status", headers={"Authorization": "Bearer guess"})
            assert status == 401
        for headers in (BEARER, {"Authorization": "Bearer guess"}):
            async with house.client.get("/api/status", headers=headers) as answer:
                assert (answer.status, (await answer.json())["code"]) == (429, "too-many-attempts")
                assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert (await house.ask("GET", "/health"))[0] == 200


async def test_nobody_can_lock_out_who_has_a_token_that_cannot_be_guessed(path: Path) -> None:
    token = "t" * 32
    async with running(path, ALL, token) as house:
        for _ in range(12):
            await house.ask("GET", "/api/status", headers={"Authorization": "Bearer guess"})
        right = {"Authorization": f"Bearer {token}"}
        assert (await house.ask("GET", "/api/status", headers=right))[0] == 200


async def test_no_token_at_all_is_no_guess(path: Path) -> None:
    async with running(path, ALL) as house:
        for _ in range(20):
            assert (await house.ask("GET", "/api/status", headers={"Authorization": ""}))[0] == 401
        assert (await house.ask("GET", "/api/status"))[0] == 200


async def test_what_is_not_there_and_what_is_not_allowed_is_json(path: Path) -> None:
    async with running(path, ALL) as house:
        assert (await house.ask("GET", "/nowhere"))[1]["code"] == "not-found"
        async with house.client.delete("/api/config") as answer:
            assert (answer.status, (await answer.json())["code"]) == (405, "not-allowed")
            assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "PATCH"}
        assert (await house.ask("GET", "/nowhere"))[0] == 404


async def chunks(size: int) -> Any:
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("is_announced", [True, False])
async def test_a_body_that_is_too_large_is_refused_or_not_looked_at(
    path: Path, *, is_announced: bool
) -> None:
    async with running(path, ALL) as house:
        for method, page in (("PATCH", "/api/config"), ("POST", "/api/warm")):
            data = b" " * 100_000 if is_announced else chunks(100_000)
            async with house.client.request(method, page, data=data) as answer:
                is_read = is_announced or page == "/api/config"
                assert answer.status == (413 if is_read else 202)
                assert (await answer.json()).get("code") == ("too-large" if is_read else None)


async def test_a_body_that_stops_halfway_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wyoming_server.api.pages._BODY_SECONDS", 0.05)
    async with running(path, ALL) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.api.port)
        writer.write(
            b"PATCH /api/config HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n"
            b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n{"
        )
        async with asyncio.timeout(PATIENCE):
            answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "bad-request"
        writer.close()


async def test_a_defect_is_told_without_its_details(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(path, ALL) as house:
        monkeypatch.setattr("wyoming_server.api.pages.status", lambda *_: 1 / 0)
        status, body = await house.ask("GET", "/api/status")
        assert (status, body["code"]) == (500, "internal")
        assert "zero" not in body["error"]
        assert "ZeroDivisionError" in caplog.text


async def test_no_answer_may_be_kept_and_none_holds_a_secret(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(path, ALL) as house:
        seen = ""
        for method, page in PAGES:
            async with house.client.request(method, page) as answer:
                seen += await answer.text() + str(answer.headers)
                if page != "/metrics":
                    assert answer.headers["Cache-Control"] == "no-store"
        body = {"settings": {"WHISPER_API_KEY": "w-key-w-key ü"}}
        seen += str(await house.ask("PATCH", "/api/config", body))
        seen += str(await house.ask("POST", "/api/test", body))
        headers = {**BEARER, "Sec-WebSocket-Protocol": f"bearer.{TOKEN}", "Connection": "Upgrade"}
        headers |= {
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "A" * 22 + "==",
        }
        seen += str(await house.ask("GET", "/api/events", headers=headers))
        assert "bad-request" in seen  # the last one: the protocol itself was not offered
    for secret in (KEY, TOKEN, "w-key-w-key"):
        assert secret not in seen
        assert secret not in caplog.text
