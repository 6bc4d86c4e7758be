from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.error import Error

from custom_components.stt_failover import wyoming_client
from custom_components.stt_failover.wyoming_client import (
    Heard,
    Limits,
    NoAnswerError,
    Server,
    Wishes,
    listen,
)
from tests.integration.wyoming_peer import peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wyoming.event import Event

    from tests.integration.wyoming_peer import Client, Peer

pytestmark = pytest.mark.usefixtures("socket_enabled")

_PCM = bytes(range(256)) * 10
_PATIENT = Limits()
_HASTY = Limits(answer=0.01, write=0.05, farewell=0.01)


class Microphone:
    """A stream of samples that notes whether it was closed; without an end if `endless`."""

    def __init__(self, *chunks: bytes, endless: bool = False, error: Exception | None = None) -> None:
        self._chunks = chunks
        self._endless = endless
        self._error = error
        self.is_closed = False

    async def stream(self) -> AsyncGenerator[bytes]:
        try:
            for chunk in self._chunks:
                yield chunk
            if self._error:
                raise self._error
            if self._endless:
                await asyncio.Event().wait()
        finally:
            self.is_closed = True


def _at(server: Peer) -> Server:
    return Server(server.uri, "127.0.0.1")


async def _hear(
    server: Peer, microphone: Microphone, wishes: Wishes | None = None, limits: Limits = _PATIENT
) -> list[Heard]:
    async with aclosing(listen(_at(server), wishes or Wishes(), microphone.stream(), limits)) as heard:
        return [item async for item in heard]


async def _answers(client: Client) -> None:
    await client.read_to("audio-stop")
    await client.write(Transcript("turn on", context={"backend": "local"}))


async def test_transcribe_holds_language_names_and_the_wish_for_partial_results() -> None:
    async with peer(_answers) as server:
        await _hear(server, Microphone(_PCM), Wishes(language="de", names=("Ecobee", "Küche")))
        transcribe = server.client.sent[0]
    assert transcribe.type == "transcribe"
    assert transcribe.data == {
        "language": "de",
        "transcript_names": ["Ecobee", "Küche"],
        "context": {"streaming": True},
    }


async def test_backend_can_be_named() -> None:
    async with peer(_answers) as server:
        await _hear(server, Microphone(_PCM), Wishes(backend="whisper"))
        assert server.client.sent[0].data["name"] == "whisper"


async def test_audio_arrives_in_the_chunks_it_came_in_between_start_and_stop() -> None:
    async with peer(_answers) as server:
        await _hear(server, Microphone(_PCM[:320], _PCM[320:640]))
        start, *chunks, stop = server.client.sent[1:]
    assert start.type == "audio-start"
    assert start.data == {"rate": 16_000, "width": 2, "channels": 1, "timestamp": None}
    assert [chunk.payload for chunk in chunks] == [_PCM[:320], _PCM[320:640]]
    assert stop.type == "audio-stop"


async def test_audio_leaves_while_the_person_still_speaks() -> None:
    spoken: asyncio.Queue[bytes] = asyncio.Queue()
    arrived = asyncio.Event()

    async def behave(client: Client) -> None:
        await client.read_to("audio-chunk")
        arrived.set()
        await _answers(client)

    async def stream() -> AsyncGenerator[bytes]:
        while pcm := await spoken.get():
            yield pcm

    async with peer(behave) as server:
        spoken.put_nowait(_PCM)
        task = asyncio.create_task(anext(listen(_at(server), Wishes(), stream(), _PATIENT)))
        await arrived.wait()
        spoken.put_nowait(b"")
        assert await task == Heard("turn on", is_final=True, backend="local")


async def test_partials_grow_start_anew_where_words_are_taken_back_and_the_final_says_who_answered() -> None:
    async def behave(client: Client) -> None:
        await client.read_to("audio-stop")
        await client.write(
            TranscriptStart(),
            TranscriptChunk("turn"),
            TranscriptChunk(" of"),
            TranscriptStart(),
            TranscriptChunk("turn on"),
            Transcript("Turn on.", context={"backend": "whisper"}),
            TranscriptStop(),
        )

    async with peer(behave) as server:
        assert await _hear(server, Microphone(_PCM)) == [
            Heard("turn"),
            Heard("turn of"),
            Heard("turn on"),
            Heard("Turn on.", is_final=True, backend="whisper"),
        ]


@pytest.mark.parametrize("context", [None, {}, {"backend": ""}, {"backend": 3}])
async def test_answer_of_nobody_names_no_backend(context: dict[str, object] | None) -> None:
    async def behave(client: Client) -> None:
        await client.read_to("audio-stop")
        await client.write(Transcript("", context=context))

    async with peer(behave) as server:
        assert await _hear(server, Microphone(_PCM)) == [Heard("", is_final=True)]


async def test_answer_before_the_audio_ends_stops_the_reading_and_closes_the_stream() -> None:
    async def behave(client: Client) -> None:
        await client.read_to("audio-chunk")
        await client.write(Transcript("lights"))

    microphone = Microphone(_PCM, endless=True)
    async with peer(behave) as server:
        assert await _hear(server, microphone) == [Heard("lights", is_final=True)]
    assert microphone.is_closed


async def test_error_event_is_raised_with_the_code_of_the_server() -> None:
    async def behave(client: Client) -> None:
        await client.read_to("audio-stop")
        await client.write(Error("no backend can be asked", "all-failed"))

    async with peer(behave) as server:
        with pytest.raises(NoAnswerError, match="no backend can be asked") as caught:
            await _hear(server, Microphone(_PCM))
    assert caught.value.code == "all-failed"


async def test_error_event_without_words_or_code_has_some_all_the_same() -> None:
    async def behave(client: Client) -> None:
        client.writer.write(b'{"type": "error"}\n')
        await client.read_to("audio-stop")

    async with peer(behave) as server:
        with pytest.raises(NoAnswerError, match="gave no reason") as caught:
            await _hear(server, Microphone(_PCM, endless=True))
    assert caught.value.code == "error"


async def test_error_that_was_sent_before_the_server_stopped_reading_is_still_heard() -> None:
    async def behave(client: Client) -> None:
        await client.write(Error("too many clients", "busy"))
        client.writer.write_eof()
        while await client.read():
            pass

    async with peer(behave) as server:
        with pytest.raises(NoAnswerError) as caught:
            await _hear(server, Microphone(_PCM))
    assert caught.value.code == "busy"


async def test_error_is_waited_for_where_the_server_reads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = asyncio.Event()
    write = wyoming_client.async_write_event

    async def break_off(event: Event, writer: asyncio.StreamWriter) -> None:
        if event.type == "audio-chunk":
            broken.set()
            raise ConnectionResetError
        await write(event, writer)

    async def behave(client: Client) -> None:
        await broken.wait()
        for _ in range(100):  # until all that does not wait for it is done
            await asyncio.sleep(0)
        await client.write(Error("too much", "too-large"))

    monkeypatch.setattr(wyoming_client, "async_write_event", break_off)
    async with peer(behave) as server:
        with pytest.raises(NoAnswerError) as caught:
            await _hear(server, Microphone(_PCM), limits=Limits(farewell=10))
    assert caught.value.code == "too-large"


@pytest.mark.parametrize(
    "line",
    [b"", b"[]\n", b'"x"\n', b"no json\n", b'{"data": {}}\n', b'{"type": "x", "data": [1]}\n', b'{"data_l'],
)
async def test_connection_that_breaks_or_speaks_no_wyoming_counts_as_lost(line: bytes) -> None:
    async def behave(client: Client) -> None:
        client.writer.write(line)

    async with peer(behave) as server:
        with pytest.raises(NoAnswerError) as caught:
            await _hear(server, Microphone(_PCM, endless=True))
    assert caught.value.code == "lost"


async def test_unknown_events_and_texts_of_a_wrong_type_are_passed_over() -> None:
    async def behave(client: Client) -> None:
        client.writer.write(b'{"type": "ping"}\n{"type": "transcript-chunk", "data": {"text": 3}}\n')
        await _answers(client)

    async with peer(behave) as server:
        assert [item.text for item in await _hear(server, Microphone(_PCM))] == ["turn on"]


async def test_refused_connection_is_unreachable_and_the_stream_is_closed() -> None:
    async with peer(_answers) as server:
        pass
    microphone = Microphone(_PCM)
    stream = microphone.stream()
    with pytest.raises(NoAnswerError) as caught:
        await anext(listen(_at(server), Wishes(), stream, _PATIENT))
    assert caught.value.code == "unreachable"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_connection_that_takes_too_long_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*address: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", hang)
    with pytest.raises(NoAnswerError) as caught:
        await anext(
            listen(Server("tcp://host.invalid:1", ""), Wishes(), Microphone().stream(), Limits(connect=0.01))
        )
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize("error", [OSError("no such host"), UnicodeError("label too long")], ids=repr)
async def test_host_without_an_address_is_unreachable(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*address: Any) -> None:
        raise error

    monkeypatch.setattr(asyncio, "open_connection", fail)
    with pytest.raises(NoAnswerError, match=str(error)) as caught:
        await anext(listen(Server("tcp://host.invalid:1", ""), Wishes(), Microphone().stream(), _PATIENT))
    assert caught.value.code == "unreachable"


async def test_server_that_never_answers_is_given_up_after_the_limit() -> None:
    async def behave(client: Client) -> None:
        while await client.read():
            pass

    async with peer(behave) as server:
        with pytest.raises(NoAnswerError) as caught:
            await _hear(server, Microphone(_PCM), limits=_HASTY)
    assert caught.value.code == "silent"


async def test_server_that_stops_reading_is_given_up_though_the_audio_goes_on() -> None:
    async def behave(client: Client) -> None:
        client.writer.transport.pause_reading()
        await asyncio.Event().wait()

    microphone = Microphone(*[bytes(1_000_000)] * 20, endless=True)
    async with peer(behave) as server:
        with pytest.raises(NoAnswerError) as caught:
            await _hear(server, microphone, limits=_HASTY)
    assert caught.value.code == "silent"
    assert microphone.is_closed


async def test_stream_that_falls_silent_is_answered_by_what_it_gave() -> None:
    microphone = Microphone(_PCM, endless=True)
    async with peer(_answers) as server:
        heard = await _hear(server, microphone, limits=Limits(pause=0.01))
        assert server.client.audio == _PCM
    assert [item.text for item in heard] == ["turn on"]
    assert microphone.is_closed


async def test_utterance_without_an_end_is_closed_at_the_limit() -> None:
    async def endless() -> AsyncGenerator[bytes]:
        while True:
            yield _PCM
            await asyncio.sleep(0)

    async with peer(_answers) as server:
        stream = listen(_at(server), Wishes(), endless(), Limits(longest=0.05))
        assert [item.text async for item in stream] == ["turn on"]


@pytest.mark.parametrize("error", [ValueError("a"), TimeoutError("b"), OSError("c")], ids=repr)
async def test_error_of_the_stream_itself_is_raised_as_it_is(error: Exception) -> None:
    async with peer(_answers) as server:
        with pytest.raises(type(error), match=str(error)):
            await _hear(server, Microphone(_PCM, error=error))


async def test_who_stops_listening_ends_the_connection_and_the_stream() -> None:
    async def behave(client: Client) -> None:
        await client.write(TranscriptChunk("turn"))
        while await client.read():
            pass

    microphone = Microphone(_PCM, endless=True)
    async with peer(behave) as server:
        async with aclosing(listen(_at(server), Wishes(), microphone.stream(), _PATIENT)) as heard:
            assert await anext(heard) == Heard("turn")
        await server.done()
    assert microphone.is_closed


async def test_cancelled_listener_ends_the_connection_and_the_stream() -> None:
    arrived = asyncio.Event()

    async def behave(client: Client) -> None:
        await client.read_to("audio-chunk")
        arrived.set()
        while await client.read():
            pass

    microphone = Microphone(_PCM, endless=True)
    async with peer(behave) as server:
        task = asyncio.create_task(_hear(server, microphone))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.done()
    assert microphone.is_closed


def test_words_stay_out_of_the_representation() -> None:
    assert "lights" not in repr(Heard("lights"))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("tcp://0.0.0.0:10300", ("ha.local", 10300)),
        ("tcp://[::]:10301", ("ha.local", 10301)),
        ("tcp://192.168.1.5:10300", ("192.168.1.5", 10300)),
        ("tcp://:10300", ("ha.local", 10300)),
    ],
)
def test_server_that_listens_everywhere_is_reached_where_its_api_is(
    uri: str, expected: tuple[str, int]
) -> None:
    assert Server(uri, "ha.local").address() == expected


@pytest.mark.parametrize("named", ["127.0.0.1", "127.0.1.1", "[::1]", "localhost"])
def test_server_that_hears_its_own_machine_only_is_not_looked_for_on_this_one(named: str) -> None:
    uri = f"tcp://{named}:10300"
    with pytest.raises(NoAnswerError, match=r"set its URI to tcp://0\.0\.0\.0:10300$") as caught:
        Server(uri, "192.168.1.5").address()
    assert caught.value.code == "unreachable"
    for own in ("127.0.0.1", "::1", "localhost"):
        assert Server(uri, own).address() == (named.strip("[]"), 10300)


@pytest.mark.parametrize("uri", ["", "unix:///run/stt.sock", "stdio://", "tcp://host", "tcp://host:99999999"])
def test_server_without_a_port_in_the_network_is_unreachable(uri: str) -> None:
    with pytest.raises(NoAnswerError) as caught:
        Server(uri, "ha.local").address()
    assert caught.value.code == "unreachable"
