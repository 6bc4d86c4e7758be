"""One connection, over a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping

from modal_whisper.samples import MUTED
from tests.fake_backends import CONNECTED, Asked, ScriptedBackend, Wait, final
from tests.fakes import PATIENCE
from tests.sounds import speech, tone
from tests.wyoming_server.serving import HeldBackend, connected, encoded, serving, wish
from wyoming_server import handler, server as server_module
from wyoming_server.engine import Engine
from wyoming_server.errors import UnreachableError
from wyoming_server.utterance import Utterance
from wyoming_server.wire import MAX_DATA_BYTES, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.wyoming_server.serving import Client
    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.recording import Recording
    from wyoming_server.server import WyomingServer

VOICE = speech(600)
START = AudioStart(16_000, 2, 1).event()
STOP = AudioStop().event()
CHUNK = AudioChunk(16_000, 2, 1, VOICE).event()


def listener(text: str = "open the door", name: str = "listener", **options: Any) -> ScriptedBackend:
    """A backend that gives its words once it has read the whole recording."""
    return ScriptedBackend(name, CONNECTED, Wait.AUDIO, final(text), **options)


def failing() -> ScriptedBackend:
    return ScriptedBackend("failing", UnreachableError("no connection"))


def connection_of(server: WyomingServer) -> handler.Connection:
    (connection,) = server._connections.values()
    return connection


async def ended(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


# Describe and ping


async def test_info_is_one_program_with_one_model_of_all_languages() -> None:
    backends = (
        listener(name="a", languages=frozenset({"en", "de"})),
        listener(name="b", languages=frozenset({"en", "fr"})),
    )
    async with serving(*backends) as server, connected(server) as client:
        await client.send(Describe().event())
        info = Info.from_event(await client.next())
    (program,) = info.asr
    (model,) = program.models
    assert model.languages == ["de", "en", "fr"]
    assert program.installed
    assert model.installed
    assert program.supports_transcript_streaming


async def test_describe_is_answered_while_somebody_speaks_and_while_the_answer_is_awaited() -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client, connected(server) as other:
        for moment in (START, STOP):
            await client.send(moment)
            await client.speak(VOICE if moment is START else b"")
            for asking in (client, other):
                await asking.send(Describe().event())
                assert (await asking.next()).type == "info"
        held.let_go.set()
        assert await client.text() == "open the door"


async def test_describe_is_answered_by_a_server_whose_backends_fail() -> None:
    async with serving(failing()) as server, connected(server) as client:
        await client.say(VOICE)
        assert await client.error() == "all-backends-failed"
        await client.send(Describe().event())
        assert (await client.next()).type == "info"


async def test_ping_comes_back_with_its_text() -> None:
    async with serving(listener()) as server, connected(server) as client:
        await client.send(Ping("a").event(), Ping().event())
        assert (await client.next()).data == {"text": "a"}
        assert (await client.next()).type == "pong"


# What a client wishes


async def test_wishes_reach_the_backend() -> None:
    backend = listener()
    async with serving(backend, key_terms=("Zoë",)) as server, connected(server) as client:
        await client.send(
            wish(language="en_GB", transcript_names=["Ada", " Bob "], transcript_terms=["dimmer"])
        )
        await client.say(VOICE)
        await client.text()
    request = backend.asked[0].request
    assert (request.language, request.tag) == ("en", "en_GB")
    assert request.names == ("Ada", "Bob", "Zoë")
    assert request.terms == ("dimmer",)
    assert request.backend is None


async def test_names_of_the_settings_reach_the_backend_without_any_wish() -> None:
    backend = listener()
    async with serving(backend, key_terms=("Zoë",)) as server, connected(server) as client:
        await client.say(VOICE)
        await client.text()
    assert backend.asked[0].request.key_terms == ("Zoë",)


async def test_wish_by_the_name_of_a_backend_goes_to_that_backend_alone() -> None:
    first, second = listener("first", "a"), listener("second", "b")
    async with serving(first, second) as server, connected(server) as client:
        await client.send(wish(name="b"))
        await client.say(VOICE)
        assert await client.text() == "second"
        await client.send(wish(name="failover"))
        await client.say(VOICE)
        assert await client.text() == "first"
    assert len(first.asked) == len(second.asked) == 1


@pytest.mark.parametrize(
    "data",
    [
        {"name": ["a"]},
        {"language": 7},
        {"language": ""},
        {"context": "streaming"},
        {"transcript_names": "Ada"},
        {"transcript_terms": [1, None, " "]},
    ],
    ids=str,
)
async def test_wish_that_makes_no_sense_is_passed_over(data: dict[str, Any]) -> None:
    backend = listener()
    async with serving(backend) as server, connected(server) as client:
        await client.send(Event("transcribe", data))
        await client.say(VOICE)
        assert await client.text() == "open the door"
    request = backend.asked[0].request
    assert (request.language, request.key_terms, request.backend) == (None, (), None)


async def test_unknown_language_is_an_error_and_the_next_utterance_is_heard() -> None:
    async with serving(listener()) as server, connected(server) as client:
        await client.send(wish(language="tlh"))
        await client.say(VOICE)
        assert await client.error() == "unknown-language"
        await client.send(wish(language="en"))
        await client.say(VOICE)
        assert await client.text() == "open the door"


# Audio


@pytest.mark.parametrize("chunk", [320, 321, MAX_PAYLOAD_BYTES], ids=["10 ms", "odd", "1 MiB"])
async def test_every_byte_of_the_audio_reaches_the_backend(chunk: int) -> None:
    backend = listener()
    pcm = (speech() * 40)[: MAX_PAYLOAD_BYTES + 320] if chunk > 1000 else VOICE
    async with serving(backend) as server, connected(server) as client:
        await client.say(pcm, chunk=chunk)
        await client.text()
    assert backend.asked[0].received == pcm


@pytest.mark.parametrize(
    ("rate", "width", "channels"),
    [(48_000, 2, 2), (8_000, 1, 1), (44_100, 4, 1), (22_050, 3, 2), (16_000, 2, 6)],
)
async def test_audio_of_any_format_is_heard_at_its_length(rate: int, width: int, channels: int) -> None:
    backend = listener()
    pcm = tone(500, rate=rate, width=width, channels=channels)
    async with serving(backend) as server, connected(server) as client:
        await client.say(pcm, chunk=4096, rate=rate, width=width, channels=channels)
        await client.text()
    assert len(backend.asked[0].received) == pytest.approx(16_000, abs=64)


async def test_wav_header_at_the_start_is_no_audio() -> None:
    backend = listener()
    async with serving(backend) as server, connected(server) as client:
        await client.say(MUTED.path.read_bytes(), chunk=4096)
        await client.text()
    assert backend.asked[0].received == speech(sample=MUTED)


async def test_half_a_sample_at_the_end_is_dropped() -> None:
    backend = listener()
    async with serving(backend) as server, connected(server) as client:
        await client.say(VOICE + b"\x07")
        assert await client.text() == "open the door"
    assert backend.asked[0].received == VOICE


@pytest.mark.parametrize("data", [{}, {"rate": 0, "width": 2, "channels": 1}, {"rate": "16000"}], ids=str)
async def test_audio_that_cannot_be_understood_is_an_error_and_the_next_is_heard(
    data: dict[str, Any],
) -> None:
    async with serving(listener()) as server, connected(server) as client:
        await client.send(Event("audio-start", data))
        await client.speak(VOICE)
        await client.send(STOP)
        assert await client.error() == "bad-audio"
        await client.say(VOICE)
        assert await client.text() == "open the door"


async def test_audio_that_turns_out_to_be_no_pcm_is_one_error_and_all_work_stops() -> None:
    held = HeldBackend()
    wav = bytearray(MUTED.path.read_bytes())
    wav[20:22] = b"\x55\x00"  # the tag of MP3
    async with serving(held) as server, connected(server) as client:
        await client.send(START)
        await client.settle()
        await client.speak(bytes(wav), chunk=4096)
        await client.send(STOP)
        assert await client.error() == "bad-audio"
        assert held.asked[0].is_over
        assert await client.settle() == []


# One utterance after another


async def test_one_connection_serves_many_utterances() -> None:
    backend = listener()
    async with serving(backend) as server, connected(server) as client:
        for count in range(1, 6):
            await client.say(VOICE)
            assert await client.text() == "open the door"
            assert len(backend.asked) == count


async def test_each_connection_has_its_own_utterance() -> None:
    held = HeldBackend()
    pieces = [VOICE, VOICE[:12_800], VOICE[:9600]]
    async with (
        serving(held) as server,
        connected(server) as a,
        connected(server) as b,
        connected(server) as c,
    ):
        for client, piece in zip((a, b, c), pieces, strict=True):
            await client.say(piece)
            await client.settle()
        held.let_go.set()
        for client in (c, b, a):
            assert await client.text() == "open the door"
    assert [bytes(asked.received) for asked in held.asked] == pieces


async def test_next_utterance_waits_for_the_answer_of_the_one_before() -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client, connected(server) as other:
        await client.say(VOICE)
        await client.say(VOICE)
        for _ in range(10):  # in which the server could take in all that was sent
            await other.settle()
        assert len(held.asked) == 1
        held.let_go.set()
        assert await client.text() == "open the door"
        assert await client.text() == "open the door"
    assert [bytes(asked.received) for asked in held.asked] == [VOICE, VOICE]


async def test_utterance_past_its_limit_is_answered_and_the_next_is_heard() -> None:
    backend = listener()
    async with serving(backend, max_utterance=0.5) as server, connected(server) as client:
        await client.send(START)
        await client.speak(speech(1000))
        assert await client.text() == "open the door"
        await client.speak(VOICE)
        await client.send(STOP)
        assert await client.settle() == []
        await client.say(VOICE[:9600])
        assert await client.text() == "open the door"
    assert [bytes(asked.received) for asked in backend.asked] == [speech(500), VOICE[:9600]]


async def test_failure_of_all_backends_is_one_error_for_each_utterance() -> None:
    async with serving(failing()) as server, connected(server) as client:
        await client.send(START)
        assert await client.error() == "all-backends-failed"  # before the person has finished
        await client.speak(VOICE)
        await client.send(STOP)
        assert await client.settle() == []
        await client.say(VOICE)
        assert await client.error() == "all-backends-failed"
        assert await client.settle() == []


async def test_failure_before_any_audio_is_the_one_answer_of_an_empty_utterance() -> None:
    async with serving(failing()) as server, connected(server) as client:
        await client.send(START)
        assert await client.error() == "all-backends-failed"
        await client.send(STOP)
        assert await client.settle() == []


async def test_silent_backend_is_an_error_by_the_deadline() -> None:
    async with (
        serving(ScriptedBackend("silent", Wait.FOREVER), deadline=0.05) as server,
        connected(server) as client,
    ):
        await client.say(VOICE)
        assert await client.error() == "deadline"


# Clients that leave


async def test_client_that_comes_and_goes_harms_nobody() -> None:
    async with serving(listener()) as server:
        async with connected(server):
            pass
        async with connected(server) as client:
            client.crash()
        async with connected(server) as client:
            await client.say(VOICE)
            assert await client.text() == "open the door"


@pytest.mark.parametrize("how", ["leaves", "crashes", "half-closes"])
async def test_client_that_vanishes_while_it_speaks_stops_all_work(how: str) -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        await client.send(START)
        await client.speak(VOICE)
        await client.settle()
        connection = connection_of(server)
        if how == "leaves":
            await client.leave()
        elif how == "crashes":
            client.crash()
        else:
            client.half_close()
        await ended(held.over)
        assert held.asked[0].is_over
        await connection.wait_idle()


async def test_client_that_crashes_before_its_answer_stops_all_work() -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        await client.say(VOICE)
        await client.settle()
        client.crash()
        await ended(held.over)


async def test_client_that_only_stops_to_send_gets_its_answer_and_is_closed() -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        await client.say(VOICE)
        await client.settle()
        client.half_close()
        held.let_go.set()
        assert await client.rest() == ["transcript"]


async def test_client_that_leaves_before_its_answer_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    held = HeldBackend()
    async with serving(held) as server:
        async with connected(server) as client:
            await client.say(VOICE)
            await client.settle()
            connection = connection_of(server)
        held.let_go.set()
        await connection.wait_idle()
        async with connected(server) as client:
            assert await client.settle() == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# Events that make no sense


async def refused_then_heard(client: Client, *events: Event) -> str:
    """The one error that the events lead to, after which an utterance is heard as usual."""
    await client.send(*events)
    code = await client.error()
    assert await client.settle() == []
    await client.say(VOICE)
    assert await client.text() == "open the door"
    return code


@pytest.mark.parametrize(
    ("code", "events"),
    [
        ("out-of-order", [AudioChunk(16_000, 2, 1, VOICE).event()]),
        ("out-of-order", [AudioChunk(16_000, 2, 1, VOICE).event()] * 3 + [STOP]),
        ("out-of-order", [STOP]),
        ("no-audio", [START, STOP]),
        ("no-audio", [START, AudioChunk(16_000, 2, 1, b"").event(), Event("audio-chunk"), STOP]),
        ("no-audio", [START, AudioChunk(16_000, 2, 1, b"\x00").event(), STOP]),
    ],
    ids=["chunk", "chunks and stop", "stop", "nothing between", "empty chunks", "half a sample"],
)
async def test_events_out_of_order_are_one_error(code: str, events: list[Event]) -> None:
    async with serving(listener()) as server, connected(server) as client:
        assert await refused_then_heard(client, *events) == code


async def test_each_mistake_is_an_error_of_its_own() -> None:
    chunk = AudioChunk(16_000, 2, 1, VOICE).event()
    async with serving(listener()) as server, connected(server) as client:
        await client.send(STOP, STOP, chunk, chunk, STOP, STOP, chunk)
        assert await client.settle() == ["error"] * 5


async def test_mistakes_of_a_client_are_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="wyoming_server")
    async with serving(listener()) as server, connected(server) as client:
        await client.send(*[STOP] * 20)
        assert await client.settle() == ["error"] * 20
    assert [message for message in caplog.messages if message.startswith("refused a client")] == [
        "refused a client: audio-stop came without audio-start"
    ]


async def test_utterance_that_has_failed_needs_no_stop_before_the_next() -> None:
    async with serving(failing()) as server, connected(server) as client:
        for _ in range(2):
            await client.send(START)
            assert await client.error() == "all-backends-failed"
            await client.speak(VOICE)
        assert await client.settle() == []


async def test_audio_start_within_an_utterance_is_its_error_and_begins_the_next() -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        await client.send(START)
        await client.speak(VOICE)
        await client.settle()
        held.let_go.set()
        await client.say(VOICE[:9600])
        assert await client.error() == "out-of-order"
        assert await client.text() == "open the door"
        assert await client.settle() == []
    assert held.asked[0].is_over
    assert held.asked[1].received == VOICE[:9600]


@pytest.mark.parametrize(
    "events",
    [[STOP], [STOP] * 3, [CHUNK], [CHUNK, CHUNK, STOP], [STOP, CHUNK], [CHUNK, STOP, STOP]],
    ids=lambda events: " ".join(event.type.removeprefix("audio-") for event in events),
)
async def test_audio_between_the_stop_and_the_answer_is_passed_over(events: list[Event]) -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        for text in ("open the door", "close it"):
            held.let_go.clear()
            held._text = text
            await client.say(VOICE)
            await client.send(*events)
            assert await client.settle() == []
            held.let_go.set()
            assert await client.text() == text
            assert await client.settle() == []
    assert [bytes(asked.received) for asked in held.asked] == [VOICE] * 2


async def test_audio_that_goes_on_through_the_answer_is_passed_over_to_its_stop() -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        await client.say(VOICE)
        await client.speak(VOICE)
        assert await client.settle() == []
        held.let_go.set()
        assert await client.text() == "open the door"
        await client.finish(VOICE)
        assert await client.settle() == []
        assert await refused_then_heard(client, STOP) == "out-of-order"


async def test_audio_start_that_follows_an_answer_without_a_stop_between_is_no_mistake() -> None:
    class SlowToEnd(HeldBackend):
        async def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Progress, None]:
            self.asked.append(Asked(request, 0.0))
            await recording.wait_ended()
            try:
                yield final("open the door")
            finally:
                with suppress(asyncio.CancelledError):
                    await self.let_go.wait()
                await self.let_go.wait()

    backend = SlowToEnd()
    async with (
        serving(backend, max_utterance=0.5) as server,
        connected(server) as client,
        connected(server) as other,
    ):
        await client.send(START)
        await client.speak(VOICE)  # until it is cut off
        assert await client.text() == "open the door"
        await client.say(VOICE[:9600])
        for _ in range(10):  # in which the server could take in all that was sent
            await other.settle()
        backend.let_go.set()
        assert await client.text() == "open the door"
        assert await client.settle() == []
    assert len(backend.asked) == 2


async def test_unknown_event_is_passed_over() -> None:
    async with serving(listener()) as server, connected(server) as client:
        await client.send(Event("sing", {"song": [1]}, b"la"), Event(""), START, Event("detection"))
        await client.speak(VOICE)
        await client.send(Event("voice-stopped"), STOP)
        assert await client.text() == "open the door"


# Bytes that are no events


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n",
        b"[]\n",
        b'{"type": 1}\n',
        b'{"type": "a", "data": 1}\n',
        b'{"type": "a", "data_length": 3}\nabc',
        b'{"type": "a", "data_length": -1}\n',
        b'{"type": "a", "payload_length": "1"}\n',
        b'{"type": "a", "payload_length": %d}\n' % (MAX_PAYLOAD_BYTES + 1),
        b'{"type": "a", "data_length": %d}\n' % (MAX_DATA_BYTES + 1),
        b"x" * MAX_HEADER_BYTES,
    ],
    ids=lambda raw: raw[:50].decode(),
)
async def test_bytes_that_are_no_event_are_an_error_and_the_end_of_the_connection(raw: bytes) -> None:
    async with serving(listener()) as server, connected(server) as client:
        await client.send_bytes(raw)
        assert await client.error() == "bad-framing"
        assert await client.rest() == []


async def test_half_a_line_and_no_more_is_an_error() -> None:
    async with serving(listener()) as server, connected(server) as client:
        await client.send_bytes(b'{"type": "desc')
        client.half_close()
        assert await client.error() == "bad-framing"
        assert await client.rest() == []


async def test_half_a_line_within_an_utterance_is_its_one_answer() -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        await client.send(START)
        await client.speak(VOICE)
        await client.settle()
        await client.send_bytes(b'{"type": "audio-st\n')
        assert await client.error() == "bad-framing"
        assert await client.rest() == []
        await ended(held.over)


async def test_error_can_be_read_by_a_client_that_sends_on_regardless() -> None:
    header = json.dumps({"type": "audio-chunk", "payload_length": 3 * MAX_PAYLOAD_BYTES}).encode()
    async with serving(listener()) as server, connected(server) as client:
        await client.send_bytes(header + b"\n" + bytes(3 * MAX_PAYLOAD_BYTES))
        client.half_close()
        assert await client.error() == "bad-framing"
        assert await client.rest() == []


async def test_client_is_told_at_once_that_nothing_follows_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "_LINGER_SECONDS", 3 * PATIENCE)
    async with serving(listener()) as server, connected(server) as client:
        await client.send_bytes(b"?\n")
        assert await client.rest() == ["error"]


@pytest.mark.parametrize("raw", [b"?\n", b"x" * MAX_HEADER_BYTES, b'{"type": "desc'], ids=len)
async def test_bytes_that_are_no_event_cost_a_finished_utterance_neither_its_answer_nor_are_they_a_second(
    raw: bytes,
) -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client, connected(server) as other:
        await client.say(VOICE)
        await client.send_bytes(raw)
        client.half_close()
        for _ in range(10):  # in which the server could take in all that was sent
            await other.settle()
        held.let_go.set()
        assert await client.rest() == ["transcript"]


async def test_bytes_that_are_no_event_are_no_second_answer_of_an_utterance_that_has_failed() -> None:
    async with serving(failing()) as server, connected(server) as client:
        await client.send(START)
        assert await client.error() == "all-backends-failed"
        await client.speak(VOICE)
        await client.send_bytes(b"?\n")
        assert await client.rest() == []


async def test_a_stop_too_many_after_the_answer_is_told_though_the_engine_still_tidies_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_end = asyncio.Event()
    transcribe = Engine.transcribe

    async def tidying(engine: Engine, *arguments: Any) -> AsyncGenerator[Progress, None]:
        try:
            async for progress in transcribe(engine, *arguments):
                yield progress
        finally:
            await let_end.wait()

    monkeypatch.setattr(Engine, "transcribe", tidying)
    held = HeldBackend()
    held.let_go.set()
    async with serving(held) as server, connected(server) as client, connected(server) as other:
        await client.say(VOICE)
        assert await client.text() == "open the door"
        await client.send(STOP)
        for _ in range(10):  # in which the server could pass it over
            await other.settle()
        let_end.set()
        assert await client.error() == "out-of-order"


async def test_two_utterances_at_once_and_bytes_that_are_no_event_are_two_answers() -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        await client.say(VOICE)
        await client.send(STOP, wish(language="en"))
        await client.say(VOICE)
        await client.send_bytes(b"?\n")
        held.let_go.set()
        assert await client.rest() == ["transcript"] * 2
    assert [asked.request.language for asked in held.asked] == [None, "en"]


async def test_answer_that_the_client_has_yet_to_read_is_its_only_one_when_the_server_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "SHUTDOWN_SECONDS", 0.05)
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        await client.say(VOICE)
        await client.settle()
        connection = connection_of(server)
        connection._writer.write(bytes(20_000_000))
        held.let_go.set()
        stopping = asyncio.create_task(server.stop())
        await connection.wait_idle()
        reader = client._client._reader
        assert reader is not None
        heard = (await reader.read()).lstrip(b"\0")
        await stopping
    assert (heard.count(b'"transcript"'), heard.count(b'"error"')) == (1, 0)


# Clients that keep the server waiting


async def test_announced_bytes_that_never_come_end_the_connection() -> None:
    async with serving(listener(), idle_timeout=0.05) as server, connected(server) as client:
        await client.send_bytes(b'{"type": "audio-chunk", "payload_length": 500000}\n')
        assert await client.rest() == []


async def test_client_that_falls_silent_in_an_utterance_is_answered_and_closed() -> None:
    backend = listener()
    chunk = AudioChunk(16_000, 2, 1, VOICE).event()
    async with serving(backend, idle_timeout=0.05) as server, connected(server) as client:
        await client.send_bytes(encoded(START) + encoded(chunk))
        assert await client.rest() == ["transcript"]
    assert backend.asked[0].received == VOICE


async def ping_on(client: Client) -> None:
    with suppress(ConnectionError):
        while True:
            await client.send(Ping().event())
            await asyncio.sleep(0.01)


async def test_utterance_that_pings_keep_open_is_answered_once_it_is_twice_as_late_as_it_may_be_long() -> (
    None
):
    backend = listener()
    async with serving(backend, max_utterance=0.7, idle_timeout=0.5) as server, connected(server) as client:
        await client.send(START)
        await client.speak(VOICE)
        pinging = asyncio.create_task(ping_on(client))
        heard = await client.rest()
        pinging.cancel()
        assert [name for name in heard if name != "pong"] == ["transcript"]
    assert backend.asked[0].received == VOICE


async def test_what_came_while_the_process_was_suspended_is_read_before_the_client_counts_as_silent() -> None:
    backend = listener()
    async with serving(backend, idle_timeout=0.2) as server, connected(server) as client:
        await client.send(START)
        await client.speak(VOICE)
        await client.settle()
        rest = encoded(AudioChunk(16_000, 2, 1, VOICE).event()) + encoded(STOP)
        client.writer.write(rest)
        time.sleep(0.5)  # noqa: ASYNC251 - nothing goes on meanwhile
        assert await client.text() == "open the door"
    assert backend.asked[0].received == VOICE * 2


async def test_client_that_awaits_its_answer_in_silence_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    held, is_idle = HeldBackend(), asyncio.Event()
    next_event = handler.Connection._next_event

    async def watched(connection: handler.Connection) -> Event | None:
        event = await next_event(connection)
        if event is None:
            is_idle.set()
        return event

    monkeypatch.setattr(handler.Connection, "_next_event", watched)
    async with serving(held, idle_timeout=0.05) as server, connected(server) as client:
        await client.say(VOICE)
        await ended(is_idle)
        held.let_go.set()
        assert await client.rest() == ["transcript"]


async def test_client_that_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "_WRITE_TIMEOUT", 0.05)

    async def ask_on(client: Client) -> None:
        while True:
            await client.send(Describe().event())

    async with serving(listener()) as server, connected(server) as client, connected(server) as other:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ConnectionError):
                await ask_on(client)
        await other.say(VOICE)
        assert await other.text() == "open the door"


async def test_client_that_does_not_take_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "_WRITE_TIMEOUT", 0.05)
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client:
        await client.say(VOICE)
        await client.settle()
        writer = connection_of(server)._writer
        writer.write(bytes(20_000_000))
        held.let_go.set()
        async with asyncio.timeout(PATIENCE):
            await writer.wait_closed()


async def test_end_of_a_connection_does_not_wait_for_a_client_that_reads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler, "_WRITE_TIMEOUT", 0.05)
    monkeypatch.setattr(handler, "_LINGER_SECONDS", 0.0)
    async with serving(listener(), idle_timeout=0.05) as server, connected(server) as client:
        await client.settle()
        writer = connection_of(server)._writer
        writer.write(bytes(20_000_000))
        async with asyncio.timeout(PATIENCE):
            await writer.wait_closed()


# Defects


async def test_defect_of_ours_is_an_error_and_stays_with_one_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = HeldBackend()
    async with serving(held) as server, connected(server) as client, connected(server) as other:
        await other.say(VOICE)
        await other.settle()
        monkeypatch.setattr(Utterance, "feed", lambda *_: 1 / 0)
        await client.send(START)
        await client.speak(VOICE[:320])
        event = await client.next()
        assert Error.from_event(event).code == "internal"
        assert "ZeroDivisionError" not in Error.from_event(event).text
        assert await client.rest() == []
        held.let_go.set()
        assert await other.text() == "open the door"
    assert "ZeroDivisionError" in caplog.text
