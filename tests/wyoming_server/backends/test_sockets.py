from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest
from aiohttp import abc, web
from yarl import URL

from tests.emulators.assemblyai_outbox import reset
from tests.wyoming_server.backends.listening import PATIENCE, leaving_nothing
from tests.wyoming_server.backends.servers import deaf_after, serving
from wyoming_server.backends.sockets import (
    BackgroundTasks,
    close_socket,
    error_for_failure,
    error_for_status,
    new_session,
    open_socket,
)
from wyoming_server.errors import (
    BackendError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CERTIFICATE = Path(__file__).with_name("untrusted.pem")
"""For localhost and 127.0.0.1, until 2126, signed by nobody but itself; with its key."""


async def open_at(
    port: int, *, scheme: str = "ws", host: str = "127.0.0.1", within: float = PATIENCE, **headers: str
) -> aiohttp.ClientWebSocketResponse:
    async with leaving_nothing() as session:
        web_socket = await open_socket(session, URL(f"{scheme}://{host}:{port}/path"), headers, within)
        await close_socket(web_socket)
        return web_socket


async def failure_at(port: int, **how: Any) -> BackendError:
    with pytest.raises(BackendError) as failure:
        await open_at(port, **how)
    return failure.value


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of 127.0.0.1 that nobody listens on, and that nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[int]:
    """A port where everybody gets these bytes for an answer, or none until they leave."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        if not data:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def greet(request: web.Request) -> web.StreamResponse:
    web_socket = web.WebSocketResponse()
    await web_socket.prepare(request)
    await web_socket.send_str(request.headers.get("Greeting", ""))
    await web_socket.receive()
    return web_socket


async def test_an_open_socket_has_sent_its_headers_and_talks() -> None:
    async with serving(greet) as port, leaving_nothing() as session:
        url = URL(f"ws://127.0.0.1:{port}")
        web_socket = await open_socket(session, url, {"Greeting": "hello"}, PATIENCE)
        assert await web_socket.receive_str() == "hello"
        await close_socket(web_socket)
        assert web_socket.closed


async def test_a_refused_connection(refusing_port: int) -> None:
    error = await failure_at(refusing_port)
    assert type(error) is UnreachableError
    assert "cannot connect" in str(error)


async def test_a_host_that_has_no_address() -> None:
    class NoNames(abc.AbstractResolver):
        async def resolve(self, *_: Any, **__: Any) -> list[Any]:
            raise OSError(None, "Name or service not known")

        async def close(self) -> None:
            pass

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=NoNames())) as session:
        with pytest.raises(UnreachableError, match="host name cannot be resolved"):
            await open_socket(session, URL("ws://no-such-host.invalid"), {}, PATIENCE)


async def test_a_certificate_that_nobody_vouches_for() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE)
    async with serving(greet, tls=tls) as port:
        error = await failure_at(port, scheme="wss")
    assert type(error) is UnreachableError
    assert "TLS certificate is not trusted" in str(error)


async def test_a_trusted_certificate_opens_and_is_let_go() -> None:
    served, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=CERTIFICATE)
    served.load_cert_chain(CERTIFICATE)
    async with serving(greet, tls=served) as port, leaving_nothing(tls=trusting) as session:
        web_socket = await open_socket(session, URL(f"wss://localhost:{port}"), {"Greeting": "hi"}, PATIENCE)
        assert await web_socket.receive_str() == "hi"
        await close_socket(web_socket)


async def test_tls_where_none_is_spoken() -> None:
    async with serving(greet) as port:
        error = await failure_at(port, scheme="wss")
    assert type(error) is UnreachableError
    assert "cannot connect" in str(error)


STATUSES: list[tuple[int, type[BackendError]]] = [
    (200, RejectedError),
    (401, SignInRefusedError),
    (402, SignInRefusedError),
    (403, SignInRefusedError),
    (404, RejectedError),
    (410, RejectedError),
    (429, RateLimitedError),
    (500, OverloadedError),
    (503, OverloadedError),
]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
async def test_a_handshake_that_is_answered_with_another_status(
    status: int, kind: type[BackendError]
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": "a stranger's text"}, status=status)

    async with serving(refuse) as port:
        error = await failure_at(port)
    assert type(error) is kind
    assert f"HTTP {status}" in str(error)
    assert "stranger" not in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("is_socket", [True, False])
async def test_keys_go_nowhere_else_however_a_service_redirects(status: int, *, is_socket: bool) -> None:
    asked: list[web.Request] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response()

    async with serving(elsewhere) as other, new_session() as session:

        async def redirect(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": f"http://127.0.0.1:{other}/path"})

        async with serving(redirect) as port:
            url = URL(f"http://127.0.0.1:{port}/path")
            if is_socket:
                with pytest.raises(RejectedError, match=f"HTTP {status}"):
                    await open_socket(session, url, {"Modal-Key": "wk-1"}, PATIENCE)
            else:
                with pytest.raises(aiohttp.TooManyRedirects) as caught:
                    await session.get(url, headers={"Modal-Key": "wk-1"})
                assert type(error_for_failure(caught.value)) is RejectedError
    assert asked == []


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_service_that_says_when_to_come_back(status: int) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    async with serving(refuse) as port:
        error = await failure_at(port)
    assert isinstance(error, RateLimitedError | OverloadedError)
    assert error.retry_after == 7.0


@pytest.mark.parametrize(
    "text", [None, "", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-5", "nan", "inf", "1e9", "1_0"]
)
def test_a_busy_service_that_does_not_say_when_in_seconds(text: str | None) -> None:
    for status in (429, 503):
        error = error_for_status(status, text)
        assert isinstance(error, RateLimitedError | OverloadedError)
        assert error.retry_after is None


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_a_server_that_speaks_something_else_or_nothing_at_all(data: bytes) -> None:
    async with answering(data) as port:
        error = await failure_at(port, within=PATIENCE if data else 0.2)
    assert type(error) is UnreachableError
    assert ("cannot connect" if data else "no connection within 0.2 s") in str(error)


async def test_who_gives_up_opening_leaves_no_connection() -> None:
    async with answering(b"") as port, leaving_nothing() as session:
        opening = asyncio.create_task(open_socket(session, URL(f"ws://127.0.0.1:{port}"), {}, PATIENCE))
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening


@pytest.mark.usefixtures("impatient_ending")
async def test_a_peer_that_reads_nothing_is_let_go_all_the_same() -> None:
    async def fill(web_socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await web_socket.send_bytes(bytes(60_000))

    async with serving(deaf_after({})) as port, leaving_nothing() as session:
        web_socket = await open_socket(session, URL(f"ws://127.0.0.1:{port}"), {}, PATIENCE)
        filling = asyncio.create_task(fill(web_socket))
        assert await asyncio.wait([filling], timeout=0.2) == (set(), {filling})
        await web_socket.send_bytes(bytes(262_125))  # the most that aiohttp takes before it waits
        await asyncio.wait_for(close_socket(web_socket), PATIENCE)
        filling.cancel()


async def test_a_socket_that_the_peer_has_closed_can_be_closed() -> None:
    async def leave(request: web.Request) -> web.StreamResponse:
        web_socket = web.WebSocketResponse()
        await web_socket.prepare(request)
        await web_socket.close()
        return web_socket

    async with serving(leave) as port, leaving_nothing() as session:
        web_socket = await open_socket(session, URL(f"ws://127.0.0.1:{port}"), {}, PATIENCE)
        assert (await web_socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await close_socket(web_socket)
        await close_socket(web_socket)


async def test_a_peer_that_slams_the_door_is_closed_without_an_error() -> None:
    async def slam(request: web.Request) -> web.StreamResponse:
        web_socket = web.WebSocketResponse(autoclose=False)
        await web_socket.prepare(request)
        await web_socket.receive()
        reset(cast("asyncio.Transport", request.transport))
        return web_socket

    async with serving(slam) as port, leaving_nothing() as session:
        await close_socket(await open_socket(session, URL(f"ws://127.0.0.1:{port}"), {}, PATIENCE))


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (aiohttp.ServerDisconnectedError("words"), "cannot connect (ServerDisconnectedError)"),
        (aiohttp.InvalidURL("https://key@host"), "cannot connect (InvalidURL)"),
        (ConnectionRefusedError(111, "Connection refused"), "cannot connect (Connection refused)"),
        (TimeoutError(), "cannot connect (TimeoutError)"),
    ],
)
def test_a_failure_is_told_by_its_kind_and_not_by_its_text(
    failure: aiohttp.ClientError | OSError, reason: str
) -> None:
    error = error_for_failure(failure)
    assert isinstance(error, UnreachableError)
    assert str(error) == reason


async def test_background_work_is_waited_for_with_what_it_starts_meanwhile() -> None:
    done: list[str] = []
    tasks = BackgroundTasks()

    async def second() -> None:
        await asyncio.sleep(0.01)
        done.append("second")

    async def first() -> None:
        await asyncio.sleep(0.01)
        tasks.add(second())
        done.append("first")

    tasks.add(first())
    assert done == []
    await tasks.wait()
    assert done == ["first", "second"]
    await tasks.wait()
