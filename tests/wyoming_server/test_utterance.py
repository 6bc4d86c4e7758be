"""What is written for one utterance, without a socket and on a virtual clock."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st
from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.error import Error

from tests.engines import ignore, new_engine
from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.sounds import silence, speech
from tests.virtual_clock import virtual_clock
from wyoming_server.audio import AudioFormat
from wyoming_server.backends.base import Request
from wyoming_server.errors import SignInRefusedError, UnreachableError
from wyoming_server.utterance import Utterance, Wishes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wyoming.event import Event

    from tests.fake_backends import Step
    from wyoming_server.backends.base import Hypothesis

VOICE = speech(600)
STREAMING = Wishes(Request(), wants_streaming=True)


class Client:
    """Keeps what is written for it. `fails` is what every write ends in, once so many were `taken`.

    One that `recovers` fails once.
    """

    def __init__(self, fails: Exception | None = None, *, taken: int = 0, recovers: bool = False) -> None:
        self.events: list[Event] = []
        self._fails = fails
        self._taken = taken
        self._recovers = recovers

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    async def write(self, event: Event) -> None:
        await asyncio.sleep(0.01)
        if (fails := self._fails) and len(self.events) == self._taken:
            if self._recovers:
                self._fails = None
            raise fails
        self.events.append(event)

    def read(self) -> str:
        """The text as a client puts it together from the stream."""
        text = ""
        for event in self.events:
            if TranscriptStart.is_type(event.type):
                text = ""
            elif TranscriptChunk.is_type(event.type):
                text += TranscriptChunk.from_event(event).text
        return text


def begin(
    client: Client, *backends: ScriptedBackend, wishes: Wishes | None = None, max_seconds: float = 60
) -> Utterance:
    engine = new_engine(backends, deadline=8, listener=ignore)
    audio_format = AudioFormat(16_000, 2, 1)
    return Utterance(engine, wishes or Wishes(Request()), audio_format, client.write, max_seconds=max_seconds)


async def said(*script: Step, wishes: Wishes | None = None, client: Client | None = None) -> Client:
    """What comes of an utterance whose backend follows the script."""
    client = client or Client()
    utterance = begin(client, ScriptedBackend("scripted", CONNECTED, *script), wishes=wishes)
    utterance.feed(VOICE)
    utterance.stop()
    await utterance.wait_answered()
    assert utterance._task.exception() is None
    return client


# The transcript


@virtual_clock
async def test_client_that_asks_for_nothing_gets_the_transcript_alone() -> None:
    client = await said(partial("open"), partial("open the"), Wait.END, final("open the door"))
    assert client.types == ["transcript"]
    transcript = Transcript.from_event(client.events[0])
    assert (transcript.text, transcript.context) == ("open the door", None)


@virtual_clock
async def test_client_that_asks_for_streaming_gets_pieces_then_the_whole_and_who_answered() -> None:
    client = await said(partial("open"), partial("open the"), final("open the door"), wishes=STREAMING)
    assert client.types == ["transcript-start", *["transcript-chunk"] * 3, "transcript", "transcript-stop"]
    assert [event.data["text"] for event in client.events[1:4]] == ["open", " the", " door"]
    transcript = Transcript.from_event(client.events[4])
    assert (transcript.text, transcript.context) == ("open the door", {"backend": "scripted"})


@virtual_clock
async def test_words_that_are_taken_back_begin_the_stream_anew() -> None:
    client = await said(partial("open the door"), partial("open a"), final("open a drawer"), wishes=STREAMING)
    assert client.types[:4] == ["transcript-start", "transcript-chunk"] * 2
    assert client.read() == "open a drawer"


@virtual_clock
async def test_words_that_come_to_nothing_are_taken_back_in_the_stream_too() -> None:
    client = await said(partial("hm"), Wait.END, final(""), wishes=STREAMING)
    assert client.types[2:] == ["transcript-start", "transcript", "transcript-stop"]
    assert client.read() == client.events[-2].data["text"] == ""


@virtual_clock
async def test_silence_is_an_empty_transcript_in_a_stream_of_its_own() -> None:
    client = Client()
    utterance = begin(client, ScriptedBackend("patient", Wait.FOREVER), wishes=STREAMING)
    utterance.feed(silence(600))
    utterance.stop()
    await utterance.wait_answered()
    assert client.types == ["transcript-start", "transcript", "transcript-stop"]
    assert client.events[1].data["text"] == ""


WORDS = st.lists(st.sampled_from(["a", "b", ""]), max_size=4).map(" ".join)


@given(st.lists(WORDS, max_size=5), WORDS)
@virtual_clock
async def test_stream_put_together_is_always_the_transcript(partials: list[str], last: str) -> None:
    script = (*map(partial, partials), Wait.END, final(last))
    client = await said(*script, wishes=STREAMING)
    assert client.read() == last
    assert client.types[0] == "transcript-start"
    assert client.types[-2:] == ["transcript", "transcript-stop"]
    assert client.types.count("transcript") == client.types.count("transcript-stop") == 1
    assert Transcript.from_event(client.events[-2]).text == last
    assert all(event.data["text"] for event in client.events if TranscriptChunk.is_type(event.type))
    assert TranscriptStop.is_type(client.types[-1])


@pytest.mark.parametrize(
    ("asked", "heard", "told"), [("en", "de", "de"), ("en", None, "en"), (None, None, None)]
)
def test_language_of_the_transcript_is_the_one_heard_else_the_one_asked_for(
    asked: str | None, heard: str | None, told: str | None
) -> None:
    @virtual_clock
    async def run() -> None:
        client = await said(final("auf", heard), wishes=Wishes(Request(asked)))
        assert Transcript.from_event(client.events[0]).language == told

    run()


# Failures


@virtual_clock
async def test_failure_is_one_error_with_its_code() -> None:
    client = await said(partial("open"), SignInRefusedError("sign-in refused"), wishes=STREAMING)
    assert client.types == ["transcript-start", "transcript-chunk", "error"]
    error = Error.from_event(client.events[-1])
    assert error.code == "all-backends-failed"
    assert "scripted: sign-in refused" in error.text


@virtual_clock
async def test_deadline_is_one_error() -> None:
    client = await said(partial("open"), Wait.FOREVER)
    assert [Error.from_event(event).code for event in client.events] == ["deadline"]


@virtual_clock
async def test_defect_of_the_engine_is_one_error_that_tells_no_secrets() -> None:
    client = Client()
    broken = new_engine((), deadline=8, listener=ignore)
    broken.transcribe = lambda *_: 1 / 0  # type: ignore[assignment] # a defect
    utterance = Utterance(broken, Wishes(Request()), AudioFormat(16_000, 2, 1), client.write, max_seconds=60)
    await utterance.wait_answered()
    (event,) = client.events
    assert Error.from_event(event) == Error("internal error; the server's log has the details", "internal")


@virtual_clock
async def test_what_fails_after_the_answer_is_no_second_one() -> None:
    for error in (RuntimeError("a defect"), UnreachableError("gone")):

        async def fails_late(*_: object, error: Exception = error) -> AsyncGenerator[Hypothesis, None]:
            yield final("open the door")
            raise error

        client = Client()
        broken = new_engine((), deadline=8, listener=ignore)
        broken.transcribe = fails_late  # type: ignore[method-assign] # a defect
        utterance = Utterance(
            broken, Wishes(Request()), AudioFormat(16_000, 2, 1), client.write, max_seconds=60
        )
        await utterance.wait_answered()
        assert client.types == ["transcript"]


@virtual_clock
async def test_words_that_cannot_be_sent_are_one_error() -> None:
    defect = UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed")
    client = await said(Wait.END, final("\ud83d"), client=Client(fails=defect, recovers=True))
    assert [Error.from_event(event).code for event in client.events] == ["internal"]


@pytest.mark.parametrize("reason", [ConnectionResetError(), TimeoutError(), OSError("no route")], ids=repr)
def test_client_that_takes_no_more_stops_all_work(reason: OSError, caplog: pytest.LogCaptureFixture) -> None:
    @virtual_clock
    async def run() -> None:
        client = Client(fails=reason, taken=1)
        backend = ScriptedBackend("scripted", partial("a"), partial("a b"), Wait.FOREVER)
        utterance = begin(client, backend, wishes=STREAMING)
        await utterance.wait_answered()
        assert client.types == ["transcript-start"]
        assert backend.asked[0].is_over

    run()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@virtual_clock
async def test_client_that_takes_no_error_harms_nobody() -> None:
    client = await said(SignInRefusedError("sign-in refused"), client=Client(fails=ConnectionResetError()))
    assert client.types == []


@virtual_clock
async def test_cancelled_utterance_stops_all_work_and_writes_nothing_more() -> None:
    client, backend = Client(), ScriptedBackend("scripted", partial("a"), Wait.END, final("a b"))
    utterance = begin(client, backend, wishes=STREAMING)
    utterance.feed(VOICE)
    await asyncio.sleep(1)
    assert not utterance.is_answered
    await utterance.cancel()
    assert utterance.is_answered
    assert backend.asked[0].is_over
    utterance.stop()
    await asyncio.sleep(10)
    assert client.types == ["transcript-start", "transcript-chunk"]


@virtual_clock
async def test_utterance_cancelled_before_it_has_begun_writes_nothing() -> None:
    client = Client()
    await begin(client, ScriptedBackend("scripted", final("a"))).cancel()
    assert client.types == []


# Audio


def test_full_utterance_is_answered_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    voice = speech(1200)

    @virtual_clock
    async def run() -> None:
        client, backend = Client(), ScriptedBackend("scripted", Wait.AUDIO, final("open"))
        utterance = begin(client, backend, max_seconds=1)
        for at in range(0, len(voice), 320):
            utterance.feed(voice[at : at + 320])
        assert not utterance.is_speaking
        await utterance.wait_answered()
        assert backend.asked[0].received == voice[:32_000]

    run()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "an utterance reached its limit of 1 s; answering it"
    ]


def test_half_a_sample_at_the_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    @virtual_clock
    async def run() -> None:
        utterance = begin(Client(), ScriptedBackend("scripted", Wait.END, final("open")))
        assert not utterance.has_audio
        utterance.feed(VOICE[:321])
        assert utterance.has_audio
        utterance.stop()
        await utterance.wait_answered()

    run()
    assert "dropped 1 bytes that are no whole sample" in caplog.text


@virtual_clock
async def test_audio_that_comes_after_the_answer_is_not_kept() -> None:
    client = Client()
    utterance = begin(client, ScriptedBackend("scripted", SignInRefusedError("sign-in refused")))
    await utterance.wait_answered()
    utterance.feed(VOICE)
    assert not utterance.has_audio
    assert client.types == ["error"]


# The log


@pytest.mark.parametrize(("level", "is_told"), [(logging.INFO, False), (logging.DEBUG, True)])
def test_words_are_logged_for_debugging_only(
    caplog: pytest.LogCaptureFixture, level: int, *, is_told: bool
) -> None:
    caplog.set_level(level)

    @virtual_clock
    async def run() -> None:
        await said(partial("open the"), Wait.END, final("open the door"), wishes=STREAMING)

    run()
    assert ("open the" in caplog.text) is is_told
