"""The listening server: where it listens, how many it serves, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections import Counter
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import given, strategies as st
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient

from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final
from tests.fakes import PATIENCE
from tests.sounds import speech
from tests.wyoming_server.serving import Client, HeldBackend, connected, encoded, serving
from wyoming_server import handler, server as server_module
from wyoming_server.errors import SettingsError
from wyoming_server.recording import Pool
from wyoming_server.server import whose_place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wyoming.event import Event

    from wyoming_server.server import WyomingServer

VOICE = speech(600)
START = AudioStart(16_000, 2, 1).event()


def listener(text: str = "open the door") -> ScriptedBackend:
    return ScriptedBackend("listener", CONNECTED, Wait.AUDIO, final(text))


async def clients(stack: AsyncExitStack, server: WyomingServer, count: int) -> list[Client]:
    return [await stack.enter_async_context(connected(server)) for _ in range(count)]


@contextmanager
def many_sockets_allowed() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


# Where it listens


@pytest.mark.parametrize(
    ("uri", "known_as"),
    [
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:"),
        ("tcp://0.0.0.0:0", "tcp://127.0.0.1:"),
        ("tcp://[::1]:0", "tcp://[::1]:"),
        ("tcp://[::]:0", "tcp://[::1]:"),
    ],
)
async def test_tcp_server_is_found_where_it_says(uri: str, known_as: str) -> None:
    if "[" in uri and not has_ipv6():
        pytest.skip("this machine has no IPv6, as in many containers")
    async with serving(listener(), uri=uri) as server, connected(server) as client:
        assert server.uri.startswith(known_as)
        await client.say(VOICE)
        assert await client.text() == "open the door"


async def test_unix_server_is_found_where_it_says_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a b#1.sock"
    async with serving(listener(), uri=f"unix://{path}") as server:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"type": "ping"}\n')
        assert b"pong" in await reader.readline()
        writer.close()
        assert server.uri == f"unix://{path}"
    assert entries(tmp_path) == []


async def test_unix_server_speaks_with_the_packages_own_client(tmp_path: Path) -> None:
    async with serving(listener(), uri=f"unix://{tmp_path}/socket") as server, connected(server) as client:
        await client.say(VOICE)
        assert await client.text() == "open the door"


async def test_socket_file_that_a_crash_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    async with serving(listener(), uri=f"unix://{path}") as server, connected(server) as client:
        assert await client.settle() == []


@pytest.mark.parametrize(
    "uri", ["tcp://127.0.0.1:{taken}", "tcp://a..b:1", "unix://{folder}", "unix://{folder}/none/socket"]
)
async def test_place_where_it_cannot_listen_is_one_clear_line(uri: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        uri = uri.format(taken=other.getsockname()[1], folder=tmp_path)
        with pytest.raises(SettingsError, match=r"^URI .*: cannot listen there \(.+\)$") as caught:
            async with serving(listener(), uri=uri):
                pass
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


# How many it serves


async def test_thousand_clients_at_once_do_not_cost_a_speaker_the_answer() -> None:
    held = HeldBackend()
    with many_sockets_allowed():
        async with serving(held) as server, connected(server) as speaker, AsyncExitStack() as stack:
            await speaker.send(START)
            await speaker.settle()
            crowd = await clients(stack, server, 1000)
            await speaker.speak(VOICE)
            assert await speaker.settle() == []
            assert len(server._connections) <= 256
            held.let_go.set()
            await speaker.finish(VOICE)
            assert await speaker.text() == "open the door"
            newest = crowd[-1]
            await newest.say(VOICE)
            assert await newest.text() == "open the door"


async def test_client_that_was_silent_longest_makes_room_for_a_new_one() -> None:
    async with serving(listener(), max_connections=3) as server, AsyncExitStack() as stack:
        first, second, third = await clients(stack, server, 3)
        for client in (first, second, third, first):
            await client.settle()
        (fourth,) = await clients(stack, server, 1)
        await fourth.settle()
        assert await second.rest() == []
        for client in (first, third, fourth):
            assert await client.settle() == []


async def test_clients_that_come_all_at_once_are_kept_within_bounds_and_none_is_left_hanging() -> None:
    async with serving(listener(), max_connections=2) as server, AsyncExitStack() as stack:
        address = urlsplit(server.uri)
        # Without leaving the event loop in between, so that the server finds all of them waiting.
        crowd = [socket.create_connection((address.hostname, address.port)) for _ in range(40)]
        served = []
        for item in crowd:
            stack.enter_context(item)
            item.sendall(b'{"type": "ping"}\n')
            reader, writer = await asyncio.open_connection(sock=item)
            stack.callback(writer.close)
            async with asyncio.timeout(PATIENCE):
                served.append(b"pong" in await _line(reader))
        assert served == [False] * 38 + [True] * 2


async def test_speaker_who_comes_with_a_crowd_is_heard_before_the_crowd_can_push_anybody_out() -> None:
    async with serving(listener(), max_connections=128) as server, AsyncExitStack() as stack:
        address = urlsplit(server.uri)
        said = [START, AudioChunk(16_000, 2, 1, VOICE).event(), AudioStop().event()]
        speaker = stack.enter_context(socket.create_connection((address.hostname, address.port)))
        speaker.sendall(b"".join(map(encoded, said)))
        for _ in range(400):  # without leaving the event loop in between
            stack.enter_context(socket.create_connection((address.hostname, address.port)))
        reader, writer = await asyncio.open_connection(sock=speaker)
        stack.callback(writer.close)
        async with asyncio.timeout(PATIENCE):
            assert b"transcript" in await _line(reader)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


async def test_new_client_is_told_when_all_others_await_an_answer() -> None:
    held = HeldBackend()
    async with serving(held, max_connections=2) as server, AsyncExitStack() as stack:
        busy = await clients(stack, server, 2)
        for client in busy:
            await client.say(VOICE)
            await client.settle()
        (late,) = await clients(stack, server, 1)
        await late.send_bytes(b'{"type": "sing"}\n' * 200_000)  # it may go on sending
        late.half_close()
        assert await late.error() == "too-many-connections"
        assert await late.rest() == []
        held.let_go.set()
        for client in busy:
            assert await client.text() == "open the door"
        (later,) = await clients(stack, server, 1)
        assert await later.settle() == []


async def test_crowd_that_is_turned_away_never_pushes_the_number_of_speakers_over_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler, "_LINGER_SECONDS", PATIENCE)
    async with serving(HeldBackend(), max_connections=2) as server, AsyncExitStack() as stack:
        for client in await clients(stack, server, 2):
            await client.say(VOICE)
            await client.settle()
        for _ in range(5):
            (late,) = await clients(stack, server, 1)
            await late.send(START)
            assert await late.error() == "too-many-connections"
        assert server.clients == 2


async def test_of_a_crowd_that_is_turned_away_the_last_are_told_nothing_so_that_they_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler, "_LINGER_SECONDS", PATIENCE)
    monkeypatch.setattr(server_module, "_MOST_REFUSALS", 2)
    held = HeldBackend()
    async with serving(held, max_connections=1) as server, AsyncExitStack() as stack:
        (busy,) = await clients(stack, server, 1)
        await busy.say(VOICE)
        await busy.settle()
        for client in await clients(stack, server, 2):
            assert await client.error() == "too-many-connections"
        for client in await clients(stack, server, 3):
            with suppress(ConnectionResetError):
                assert await client.rest() == []
        held.let_go.set()
        async with asyncio.timeout(PATIENCE):
            await server.stop()


async def test_client_that_begins_an_utterance_and_leaves_it_at_that_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler, "_STALLED_SECONDS", 0.2)
    held = HeldBackend()
    async with serving(held, max_connections=3) as server, AsyncExitStack() as stack:
        waiting, speaking, stalled = await clients(stack, server, 3)
        await waiting.say(VOICE)
        await stalled.send(START)
        await stalled.speak(VOICE[:320])
        await asyncio.sleep(0.3)  # by which a person would have said more
        await stalled.settle()  # which is no speech
        await speaking.send(START)
        await speaking.speak(VOICE)
        for client in (waiting, speaking):
            await client.settle()
        (late,) = await clients(stack, server, 1)
        assert await late.settle() == []
        assert await stalled.rest() == []
        held.let_go.set()
        await speaking.finish(VOICE)
        for client in (waiting, speaking):
            assert await client.text() == "open the door"


async def test_idle_client_makes_room_before_one_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "_STALLED_SECONDS", 0.0)
    async with serving(listener(), max_connections=2) as server, AsyncExitStack() as stack:
        slow, idle = await clients(stack, server, 2)
        await slow.send(START)
        for client in (slow, idle):
            await client.settle()
        (late,) = await clients(stack, server, 1)
        assert await late.settle() == []
        assert await idle.rest() == []
        await slow.finish(VOICE)
        assert await slow.text() == "open the door"


# Who makes room


@dataclass
class Place:
    """One of the connections that there are, as far as its place is concerned."""

    address: str
    silent: float = 0.0
    """Seconds since its last event."""
    is_busy: bool = False
    lag: float = 0.0

    @property
    def is_stalled(self) -> bool:
        return self.lag > 5

    @property
    def last_event_at(self) -> float:
        return 1000 - self.silent


def busy(address: str, lag: float = 0.1) -> Place:
    return Place(address, is_busy=True, lag=lag)


def makes_room(places: list[Place], newcomer: str = "new") -> int | None:
    return whose_place(dict(enumerate(places)), newcomer)  # type: ignore[arg-type] # see Place


def test_the_longest_idle_of_the_address_that_has_the_most_makes_room() -> None:
    places = [Place("a", 9), Place("b", 2), busy("b"), Place("b", 3), busy("c", 6)]
    assert makes_room(places) == 3
    assert makes_room(places, "b") == 3
    assert makes_room([Place("a", 9), *[busy("b")] * 3]) == 0


def test_where_none_is_idle_the_furthest_behind_of_the_address_that_has_the_most_makes_room() -> None:
    assert makes_room([busy("a", 20), busy("b", 6), busy("b", 7), busy("b", 4)]) == 2
    assert makes_room([busy("a", 6), *[busy("b")] * 3]) == 0


def test_nobody_who_speaks_makes_room_for_others_of_a_household() -> None:
    for home in (1, 2, 16):
        assert makes_room([busy("home")] * home) is None
    assert makes_room([*[busy("home")] * 64, *(busy(f"other {n}") for n in range(192))]) is None


def test_an_address_that_floods_makes_room_before_those_that_were_idle_for_longer() -> None:
    others = [Place("a", 900), busy("b", 50)]
    flood = [busy("flood")] * 17
    assert makes_room([*others, *flood]) == 18
    assert makes_room([*others, busy("flood", 6), *flood]) == 2
    assert makes_room([*others, busy("flood", 6), Place("flood", 1), *flood]) == 3


def test_an_address_that_floods_gets_nobody_elses_place() -> None:
    others = [Place("a", 900), busy("b", 50)]
    assert makes_room([*others, *[busy("flood")] * 17], "flood") is None
    assert makes_room([*others, *[busy("flood")] * 17, busy("flood", 6)], "flood") == 19


def test_one_that_has_as_many_as_the_flood_gets_none_of_its_places() -> None:
    both = [busy("flood")] * 30 + [busy("other")] * 29
    assert makes_room(both, "other") is None
    assert makes_room(both[:-1], "other") == 29


@given(
    places=st.lists(
        st.builds(
            Place,
            st.sampled_from("abc"),
            st.floats(0, 99),
            st.booleans(),
            st.sampled_from([0.0, 4.0, 6.0, 7.0]),
        ),
        min_size=1,
        max_size=60,
    ),
    newcomer=st.sampled_from("abcd"),
)
def test_who_speaks_makes_room_only_where_the_own_address_floods_and_the_newcomers_has_less(
    places: list[Place], newcomer: str
) -> None:
    found = makes_room(places, newcomer)
    counts = Counter(place.address for place in places)
    floods = {name for name, count in counts.items() if count > max(len(places) / 4, 16)}
    if found is None:
        assert newcomer in floods or all(place.is_busy and not place.is_stalled for place in places)
    elif (place := places[found]).is_busy and not place.is_stalled:
        assert place.address in floods
        assert counts[newcomer] + 1 < counts[place.address]


async def test_crowd_of_one_address_that_speaks_on_keeps_no_other_address_out() -> None:
    held = HeldBackend()
    async with serving(held, max_connections=20) as server, AsyncExitStack() as stack:
        crowd = [await client_at("127.0.0.2", stack, server) for _ in range(20)]
        for stranger in crowd:
            await stranger.send(START)
            await stranger.speak(VOICE)
            await stranger.settle()
        (oldest, *_, youngest) = crowd
        late = await client_at("127.0.0.2", stack, server)
        assert await late.error() == "too-many-connections"
        people = await clients(stack, server, 3)
        for person in people:
            await person.say(VOICE)
            await person.settle()
        assert await youngest.rest() == []
        held.let_go.set()
        for person in people:
            assert await person.text() == "open the door"
        await oldest.finish(VOICE)
        assert await oldest.text() == "open the door"


async def client_at(address: str, stack: AsyncExitStack, server: WyomingServer) -> Client:
    """One whose machine has this address."""
    there = urlsplit(server.uri)
    client = AsyncTcpClient(there.hostname or "", there.port or 0)
    client._reader, client._writer = await asyncio.open_connection(
        there.hostname, there.port, local_addr=(address, 0)
    )
    stack.callback(client._writer.transport.abort)
    return Client(client)


async def test_clients_of_a_unix_socket_are_of_one_address(tmp_path: Path) -> None:
    held = HeldBackend()
    uri = f"unix://{tmp_path}/socket"
    async with serving(held, uri=uri, max_connections=18) as server, AsyncExitStack() as stack:
        for client in await clients(stack, server, 18):
            await client.say(VOICE)
            await client.settle()
        (late,) = await clients(stack, server, 1)
        assert await late.error() == "too-many-connections"
        assert {item.address for item in server._connections.values()} == {""}


# What all utterances may hold


async def test_many_long_utterances_at_once_are_cut_short_and_a_short_one_is_not() -> None:
    held = HeldBackend()
    async with serving(held, pool=Pool(20 * len(VOICE))) as server, AsyncExitStack() as stack:
        *long, short = await clients(stack, server, 4)
        for client in long:
            await client.send(START)
            await client.speak(VOICE * 10, chunk=3200)
            await client.settle()
        await short.say(VOICE)
        await short.settle()
        held.let_go.set()
        assert await short.text() == "open the door"
        for client in long:
            await client.finish(VOICE)
            client.half_close()
            assert await client.rest() == ["transcript"]
        first, second, third, fourth = (asked.received for asked in held.asked)
        assert len(first) >= len(second) == 10 * len(VOICE)
        assert len(third) == 20 * len(VOICE) // 3 // 2 * 2
        assert fourth == VOICE
        for _ in range(3):  # those that were answered weigh nothing
            await short.say(VOICE * 15, chunk=3200)
            assert await short.text() == "open the door"
        assert len(held.asked[-1].received) == 15 * len(VOICE)


# How it stops


async def test_stop_closes_idle_clients_and_takes_no_more() -> None:
    async with serving(listener()) as server, connected(server) as client:
        await client.settle()
        address = urlsplit(server.uri)
        await server.stop()
        assert await client.rest() == []
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(address.hostname, address.port)


async def test_stop_lets_utterances_be_answered_and_begins_no_more() -> None:
    held = HeldBackend()
    async with serving(held) as server, AsyncExitStack() as stack:
        waiting, speaking, idle = await clients(stack, server, 3)
        await waiting.say(VOICE)
        await speaking.send(START)
        for client in (waiting, speaking, idle):
            await client.settle()
        stopping = asyncio.create_task(server.stop())
        assert await idle.rest() == []
        held.let_go.set()
        assert await waiting.rest() == ["transcript"]
        assert not stopping.done()
        await speaking.finish(VOICE)
        assert await speaking.rest() == ["transcript"]
        await stopping
    assert len(held.asked) == 2


async def test_stop_tells_those_whose_answer_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SHUTDOWN_SECONDS", 0.05)
    held = HeldBackend()
    async with serving(held) as server, connected(server) as waiting, connected(server) as speaking:
        await waiting.say(VOICE)
        await speaking.send(START)
        for client in (waiting, speaking):
            await client.settle()
        await server.stop()
        for client in (waiting, speaking):
            assert await client.error() == "shutting-down"
            assert await client.rest() == []
        assert all(asked.is_over for asked in held.asked)


async def test_answer_that_comes_after_the_last_word_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SHUTDOWN_SECONDS", 0.05)
    held, written = HeldBackend(), []

    async def write(event: Event, _: asyncio.StreamWriter) -> None:
        written.append(event.type)
        held.let_go.set()
        await asyncio.sleep(0.05)

    async with serving(held) as server, connected(server) as client:
        await client.say(VOICE)
        await client.settle()
        monkeypatch.setattr(handler, "async_write_event", write)
        await server.stop()
    assert written == ["error"]


async def test_stop_does_not_wait_for_clients_that_read_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "SHUTDOWN_SECONDS", 0.05)
    monkeypatch.setattr(server_module, "_LAST_WORD_SECONDS", 0.05)
    monkeypatch.setattr(handler, "_WRITE_TIMEOUT", 3 * PATIENCE)
    async with serving(HeldBackend()) as server, connected(server) as client:
        await client.say(VOICE)
        await client.settle()
        (connection,) = server._connections.values()
        connection._writer.write(bytes(20_000_000))
        async with asyncio.timeout(PATIENCE):
            await server.stop()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
