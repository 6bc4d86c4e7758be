from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSMsgType, web

from modal_whisper.conversation import Limits
from modal_whisper.errors import ModelUnavailableError, TranscriptionError
from modal_whisper.languages import LANGUAGES
from modal_whisper.messages import MAX_MESSAGE_BYTES, Final as FinalMessage, Ready, Start, encode
from modal_whisper.runner import ModelRunner
from modal_whisper.service import create_app
from tests.fakes import ScriptedTranscriber
from tests.sounds import BYTES_PER_MS, silence, speech
from tests.wyoming_server.backends.listening import (
    PATIENCE,
    Heard,
    leaving_nothing,
    listen,
    recording_of,
    say,
)
from tests.wyoming_server.backends.servers import deaf_after, serving
from wyoming_server.backends.base import Hypothesis, Request
from wyoming_server.backends.whisper import Whisper, WhisperOptions
from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    InternalError,
    NotReadyError,
    OverdueError,
    OverloadedError,
    RejectedError,
    SignInRefusedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "worker-key"
UTTERANCE = speech(600) + silence(200)
READY = {"type": "ready", "model": "base", "version": "1"}
FINAL = {"type": "final", "text": "Turn on."}


def options(url: str = "ws://127.0.0.1", **changes: Any) -> WhisperOptions:
    """Patient ones, so that a slow machine fails no test."""
    return WhisperOptions(
        **{
            "url": url,
            "api_key": "",
            "proxy_key": "",
            "proxy_secret": "",
            "model": "",
            "connect_timeout": PATIENCE,
            "timeout": PATIENCE,
            **changes,
        }
    )


@asynccontextmanager
async def whisper(port: int, **changes: Any) -> AsyncIterator[Whisper]:
    """The backend, closed in the end, when nothing of it may be left."""
    async with leaving_nothing() as session:
        backend = Whisper(options(f"ws://127.0.0.1:{port}", **changes), session)
        yield backend
        await backend.close()


@asynccontextmanager
async def worker(
    transcriber: ScriptedTranscriber, *, max_waiting: int = 16, key: str = "", **limits: Any
) -> AsyncIterator[int]:
    """The worker's own service."""
    runner = ModelRunner(transcriber, max_waiting=max_waiting)
    async with serving(create_app(runner, api_key=key, limits=Limits(**limits))) as port:
        yield port


class Stranger:
    """A worker that says what it is told to: at the start, and when the client has stopped."""

    def __init__(self, *at_start: Any, at_stop: tuple[Any, ...] = ()) -> None:
        self.at_start = at_start
        self.at_stop = at_stop
        self.headers: dict[str, str] = {}
        self.texts: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.audio = bytearray()
        self.has_heard = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.headers = dict(request.headers)
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES + 1)
        await socket.prepare(request)
        await self._say(socket, self.at_start)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                self.sizes.append(len(message.data))
                self.audio += message.data
                self.has_heard.set()
                continue
            self.texts.append(json.loads(message.data))
            if self.texts[-1]["type"] == "stop":
                await self._say(socket, self.at_stop)
        return socket

    @staticmethod
    async def _say(socket: web.WebSocketResponse, messages: tuple[Any, ...]) -> None:
        for message in messages:
            if isinstance(message, int):
                await socket.close(code=message)
            elif isinstance(message, bytes):
                await socket.send_bytes(message)
            elif isinstance(message, str):
                await socket.send_str(message)
            else:
                await socket.send_json(message)


# What the settings mean


@pytest.mark.parametrize(
    ("url", "socket_url"),
    [
        ("ws://host:8000", "ws://host:8000/ws/stt"),
        ("http://host:8000/", "ws://host:8000/ws/stt"),
        ("https://me--stt.modal.run", "wss://me--stt.modal.run/ws/stt"),
        ("wss://host/another/path", "wss://host/another/path"),
    ],
)
def test_the_address_of_a_worker_may_be_given_as_people_know_it(url: str, socket_url: str) -> None:
    assert str(options(url).socket_url) == socket_url


@pytest.mark.parametrize(
    ("keys", "headers"),
    [
        ({}, {}),
        ({"api_key": "a"}, {"Authorization": "Bearer a"}),
        ({"proxy_key": "wk-1", "proxy_secret": "ws-2"}, {"Modal-Key": "wk-1", "Modal-Secret": "ws-2"}),
        (
            {"api_key": "a", "proxy_key": "wk-1", "proxy_secret": "ws-2"},
            {"Authorization": "Bearer a", "Modal-Key": "wk-1", "Modal-Secret": "ws-2"},
        ),
    ],
)
async def test_keys_travel_in_the_headers_that_they_belong_in(
    keys: dict[str, str], headers: dict[str, str]
) -> None:
    stranger = Stranger(READY, at_stop=(FINAL,))
    async with serving(stranger.serve) as port, whisper(port, **keys) as backend:
        await listen(backend, recording_of(UTTERANCE))
    names = ("Authorization", "Modal-Key", "Modal-Secret")
    assert {name: stranger.headers[name] for name in names if name in stranger.headers} == headers


def test_the_options_keep_the_keys_to_themselves() -> None:
    shown = repr(options(api_key="key-1", proxy_key="key-2", proxy_secret="key-3"))
    assert "key-" not in shown


# With the worker's own service


async def test_what_the_worker_understands_is_the_final() -> None:
    transcriber = ScriptedTranscriber("Turn on the lights.", language="de")
    async with worker(transcriber, key=KEY) as port, whisper(port, api_key=KEY) as backend:
        heard = await listen(backend, recording_of(UTTERANCE))

    assert heard.connected.is_set()
    assert heard.hypotheses == [Hypothesis("Turn on the lights.", is_final=True, language="de")]


async def test_the_worker_gets_every_sample_and_every_wish() -> None:
    transcriber = ScriptedTranscriber("Turn on.")
    request = Request(language="de", names=("Zoë",), terms=('"lamp"', "fan"))
    async with worker(transcriber) as port, whisper(port) as backend:
        recording = recording_of(UTTERANCE[: 300 * BYTES_PER_MS], ended=False)
        listening = asyncio.create_task(listen(backend, recording, request))
        await say(recording, UTTERANCE[300 * BYTES_PER_MS :], b"\1\2")
        recording.end()
        await listening
        (asked,) = transcriber.asked

    assert asked.pcm == UTTERANCE + b"\1\2"
    passage = asked.passage
    assert (passage.language, passage.names, passage.terms) == ("de", ("Zoë",), ('"lamp"', "fan"))


async def test_a_long_replay_goes_out_in_the_largest_messages_that_the_worker_takes() -> None:
    stranger = Stranger(READY, at_stop=(FINAL,))
    async with serving(stranger.serve) as port, whisper(port) as backend:
        await listen(backend, recording_of(UTTERANCE, silence(69_200)))
    assert len(stranger.audio) == 70_000 * BYTES_PER_MS
    assert stranger.sizes[0] == MAX_MESSAGE_BYTES
    assert len(stranger.sizes) == 3


async def test_a_worker_that_answers_by_its_small_model_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="wyoming_server")
    for model in ("base", "medium", ""):
        final = json.loads(encode(FinalMessage("Turn on.", "en", model=model)))
        stranger = Stranger(json.loads(encode(Ready("medium", "1"))), at_stop=(final,))
        async with serving(stranger.serve) as port, whisper(port) as backend:
            heard = await listen(backend, recording_of(UTTERANCE))
        assert heard.final.text == "Turn on."
    assert caplog.messages == ["the worker answered by base: medium was not up in time"]


async def test_silence_is_an_empty_final() -> None:
    async with worker(ScriptedTranscriber("Thank you.")) as port, whisper(port) as backend:
        heard = await listen(backend, recording_of(silence(500)))
    assert heard.hypotheses == [Hypothesis("", is_final=True)]


async def test_many_people_are_served_at_once() -> None:
    transcriber = ScriptedTranscriber("Turn on.")
    async with worker(transcriber) as port, whisper(port) as backend:
        answers = await asyncio.gather(
            *(listen(backend, recording_of(speech(400 + 100 * number))) for number in range(5))
        )
    assert [heard.final.text for heard in answers] == ["Turn on."] * 5
    assert sorted(len(asked.pcm) // BYTES_PER_MS for asked in transcriber.asked) == [400, 500, 600, 700, 800]


async def test_a_wrong_key_is_refused_and_named_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        worker(ScriptedTranscriber(), key=KEY) as port,
        whisper(port, api_key="wrong-key") as backend,
    ):
        with pytest.raises(SignInRefusedError) as refused:
            await listen(backend, recording_of(ended=False))
    assert "wrong-key" not in str(refused.value) + caplog.text


async def test_what_a_worker_says_of_its_failure_is_one_line_of_some_length() -> None:
    transcriber = ScriptedTranscriber(TranscriptionError("first\nsecond " + "x" * 1000))
    async with worker(transcriber) as port, whisper(port) as backend:
        with pytest.raises(InternalError) as failed:
            await listen(backend, recording_of(UTTERANCE))
    assert str(failed.value).startswith("the worker says: first second xxx")
    assert len(str(failed.value)) == len("the worker says: ") + 200


async def test_a_worker_with_too_many_clients_is_overloaded() -> None:
    async with worker(ScriptedTranscriber(), max_connections=0) as port, whisper(port) as backend:
        with pytest.raises(OverloadedError):
            await listen(backend, recording_of(ended=False))


async def test_a_worker_with_too_much_to_do_is_overloaded() -> None:
    busy = threading.Event()
    transcriber = ScriptedTranscriber(busy, "Turn on.")
    async with worker(transcriber, max_waiting=0) as port, whisper(port) as backend:
        first = asyncio.create_task(listen(backend, recording_of(UTTERANCE)))
        await transcriber.wait_asked()
        with pytest.raises(OverloadedError, match="the worker says"):
            await listen(backend, recording_of(UTTERANCE))
        busy.set()
        assert (await first).final.text == "Turn on."


async def test_a_worker_without_a_model_is_not_ready() -> None:
    failure = ModelUnavailableError("the model cannot be fetched; set MODEL_DIR")
    async with worker(ScriptedTranscriber(loading=[failure])) as port, whisper(port) as backend:
        with pytest.raises(NotReadyError, match="set MODEL_DIR"):
            await listen(backend, recording_of(UTTERANCE))


async def test_a_worker_whose_model_fails_has_an_internal_error() -> None:
    async with (
        worker(ScriptedTranscriber("Turn", TranscriptionError("out of memory"))) as port,
        whisper(port) as backend,
    ):
        with pytest.raises(InternalError, match="out of memory"):
            await listen(backend, recording_of(UTTERANCE))


async def test_an_utterance_that_is_too_long_for_the_worker_is_rejected_while_it_is_said() -> None:
    async with worker(ScriptedTranscriber(), max_utterance=0.5) as port, whisper(port) as backend:
        with pytest.raises(RejectedError, match="longer than"):
            await listen(backend, recording_of(UTTERANCE, ended=False))


async def test_a_language_that_whisper_does_not_know_is_rejected() -> None:
    async with worker(ScriptedTranscriber()) as port, whisper(port) as backend:
        assert backend.languages == LANGUAGES
        with pytest.raises(RejectedError, match="unknown language"):
            await listen(backend, recording_of(UTTERANCE, ended=False), Request(language="tlh"))


async def test_a_worker_that_shuts_down_in_mid_speech_is_an_error_at_once() -> None:
    async with leaving_nothing() as session:
        async with worker(ScriptedTranscriber()) as port:
            backend = Whisper(options(f"ws://127.0.0.1:{port}"), session)
            heard = Heard()
            listening = asyncio.create_task(
                listen(backend, recording_of(UTTERANCE, ended=False), heard=heard)
            )
            await heard.connected.wait()
        with pytest.raises(DisconnectedError, match="1001"):
            await listening
        await backend.close()


async def test_an_utterance_that_is_given_up_stops_the_model() -> None:
    busy = threading.Event()
    transcriber = ScriptedTranscriber("Turn", busy, " on.")
    async with worker(transcriber) as port, whisper(port) as backend:
        listening = asyncio.create_task(listen(backend, recording_of(UTTERANCE)))
        await transcriber.wait_asked()
        listening.cancel()
        await asyncio.wait([listening])
        assert listening.cancelled()
        await backend.close()
        cancelled = transcriber.asked[0].cancelled
        assert await asyncio.to_thread(cancelled.wait, PATIENCE)
        busy.set()


async def test_an_utterance_that_is_given_up_in_mid_speech_asks_nobody() -> None:
    transcriber = ScriptedTranscriber("Turn on.")
    async with worker(transcriber) as port, whisper(port) as backend:
        heard = Heard()
        listening = asyncio.create_task(listen(backend, recording_of(UTTERANCE, ended=False), heard=heard))
        await heard.connected.wait()
        listening.cancel()
        await asyncio.wait([listening])
    assert transcriber.asked == []


# With workers that are none, or newer, or broken


async def test_the_audio_goes_out_while_it_is_said_without_waiting_for_the_worker_to_be_ready() -> None:
    stranger = Stranger()
    async with serving(stranger.serve) as port, whisper(port, connect_timeout=0.5) as backend:
        recording = recording_of(speech(250), ended=False)
        listening = asyncio.create_task(listen(backend, recording))
        await stranger.has_heard.wait()
        assert stranger.audio == speech(250)
        assert stranger.texts == [json.loads(encode(Start()))]
        with pytest.raises(UnreachableError, match=r"within 0\.5 s"):
            await listening


async def test_nobody_at_the_address() -> None:
    async with serving(Stranger().serve) as port:
        pass
    async with whisper(port) as backend:
        with pytest.raises(UnreachableError):
            await listen(backend, recording_of(UTTERANCE))


@pytest.mark.parametrize(
    ("at_start", "at_stop", "kind"),
    [
        ((FINAL,), (), RejectedError),
        (("hello",), (), RejectedError),
        (({"type": "welcome"},), (), RejectedError),
        ((READY,), ({"type": "novelty"},), RejectedError),
        ((READY,), ({"type": "error", "code": "novelty", "message": "why"},), RejectedError),
        (({"type": "error", "code": "overloaded", "message": "why"},), (), OverloadedError),
        ((1011,), (), DisconnectedError),
        ((READY,), (1000,), DisconnectedError),
        ((READY, {"type": "partial", "text": "Turn"}, 1009), (), DisconnectedError),
    ],
)
async def test_what_is_no_answer_is_the_right_error_at_once(
    at_start: tuple[Any, ...], at_stop: tuple[Any, ...], kind: type[BackendError]
) -> None:
    async with serving(Stranger(*at_start, at_stop=at_stop).serve) as port, whisper(port) as backend:
        with pytest.raises(kind) as failure:
            await listen(backend, recording_of(UTTERANCE, ended=bool(at_stop)))
    assert type(failure.value) is kind


async def test_binary_messages_unknown_fields_and_a_second_ready_are_passed_over() -> None:
    stranger = Stranger(b"\0", READY | {"new": 1}, READY, at_stop=(b"\0", FINAL | {"new": [1]}))
    async with serving(stranger.serve) as port, whisper(port) as backend:
        assert (await listen(backend, recording_of(UTTERANCE))).texts == ["Turn on."]


async def test_no_final_after_the_end_is_overdue() -> None:
    stranger = Stranger(READY, at_stop=({"type": "partial", "text": "Turn"},))
    async with serving(stranger.serve) as port, whisper(port, timeout=0.2) as backend:
        heard = Heard()
        with pytest.raises(OverdueError, match=r"within 0\.2 s"):
            await listen(backend, recording_of(UTTERANCE), heard=heard)
    assert heard.texts == ["Turn"]


async def test_a_person_may_speak_longer_than_the_worker_may_take_for_its_final() -> None:
    async with (
        serving(Stranger(READY, at_stop=(FINAL,)).serve) as port,
        whisper(port, timeout=0.2) as backend,
    ):
        recording = recording_of(ended=False)
        listening = asyncio.create_task(listen(backend, recording))
        await say(recording, UTTERANCE)
        recording.end()
        assert (await listening).final.text == "Turn on."


async def test_the_time_for_the_final_begins_when_the_worker_is_ready() -> None:
    class Sleeper(Stranger):
        async def _say(self, socket: web.WebSocketResponse, messages: tuple[Any, ...]) -> None:
            await asyncio.sleep(0.3 if READY in messages else 0)
            await Stranger._say(socket, messages)

    async with serving(Sleeper(READY, at_stop=(FINAL,)).serve) as port, whisper(port, timeout=0.2) as backend:
        assert (await listen(backend, recording_of(UTTERANCE))).final.text == "Turn on."


@pytest.mark.usefixtures("impatient_ending")
async def test_a_worker_that_stops_reading_is_overdue_in_time_and_let_go() -> None:
    async with serving(deaf_after(READY)) as port, whisper(port, timeout=0.2) as backend:
        with pytest.raises(OverdueError):
            await listen(backend, recording_of(silence(119_000)))


@pytest.mark.parametrize(
    ("expected", "warnings"),
    [
        ("", ["the worker runs the model small, not base"]),
        ("base", ["the worker runs the model small, not base"]),
    ],
)
async def test_a_worker_that_runs_another_model_than_before_is_reported_once(
    expected: str, warnings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Stranger(READY, at_stop=(FINAL,))
    async with serving(stranger.serve) as port, whisper(port, model=expected) as backend:
        await listen(backend, recording_of(UTTERANCE))
        stranger.at_start = (READY | {"model": "small"},)
        await listen(backend, recording_of(UTTERANCE))
        await listen(backend, recording_of(UTTERANCE))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == warnings


async def test_a_worker_that_runs_another_model_than_the_settings_say_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        serving(Stranger(READY, at_stop=(FINAL,)).serve) as port,
        whisper(port, model="small") as backend,
    ):
        await listen(backend, recording_of(UTTERANCE))
    assert "runs the model base, not small" in caplog.text
