from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from modal_whisper.languages import LANGUAGES
from modal_whisper.samples import MUTED, PASSWORD
from tests.emulators.assemblyai import (
    AssemblyAIEmulator,
    Close,
    DelayFinal,
    Drop,
    EmptyFinal,
    ErrorFrame,
    Fault,
    HttpStatus,
    Latency,
    Rules,
    Script,
    Send,
    SlowBegin,
    Stall,
    SwapFinals,
    Word,
    by_recording,
    script_for,
    voiced_spans,
)
from tests.emulators.assemblyai_params import parse_query
from tests.sounds import BYTES_PER_MS, silence, speech
from tests.wyoming_server.backends.assemblyai_clients import ENGLISH, KEY, PRO, assemblyai, options
from tests.wyoming_server.backends.listening import PATIENCE, Heard, listen, recording_of, say
from tests.wyoming_server.backends.servers import deaf_after, serving
from wyoming_server.backends.assemblyai import AssemblyAI, session_url
from wyoming_server.backends.base import Connected, Request
from wyoming_server.errors import (
    DisconnectedError,
    OverdueError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.emulators.assemblyai import SessionRecord
    from wyoming_server.errors import BackendError

MULTILINGUAL = "universal-streaming-multilingual"
SCRIPT = Script((Word("Turn", 100, 400), Word("on.", 400, 800, sentence_end=True)))
UTTERANCE = speech(900) + silence(500)
UNFINISHED = speech(900)
"""The microphone closes on the last word, so that no turn can end by itself."""


def emulator(*faults: Fault, script: Any = SCRIPT, latency: Latency | None = None, **rules: Any) -> Any:
    return AssemblyAIEmulator(
        script=script, latency=latency, rules=Rules(**{"throttle": None, **rules}), faults=faults
    )


async def ended(record: SessionRecord) -> SessionRecord:
    """The record, once the session is over, and as it should be: paid for no longer than it was used."""
    async with asyncio.timeout(PATIENCE):
        await record.closed.wait()
    assert record.terminated
    assert record.billed_seconds < PATIENCE
    return record


def has_final(heard: Heard, record: SessionRecord) -> bool:
    """Whether a final was sent, and everything has arrived that was."""
    turns = [message for _, message in record.sent if message["type"] == "Turn"]
    return bool(record.finals) and len(heard.hypotheses) == len(turns)


def sent_to(record: SessionRecord, pcm: bytes) -> bool:
    """Whether the service received exactly this audio in frames of 50 ms, the last filled up with silence."""
    return set(record.frame_sizes) == {1600} and record.audio == pcm + bytes(-len(pcm) % 1600)


# What the service is told


def test_the_options_keep_the_key_to_themselves() -> None:
    assert KEY not in repr(options())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, {"speech_model": PRO, "mode": "min_latency"}),
        ({"mode": "max_accuracy"}, {"speech_model": PRO, "mode": "max_accuracy"}),
        ({"model": "u3-rt-pro"}, {"speech_model": "u3-rt-pro"}),
        ({"model": MULTILINGUAL}, {"speech_model": MULTILINGUAL}),
    ],
)
def test_model_and_audio_are_always_told_and_the_mode_where_the_model_takes_one(
    changes: dict[str, Any], told: dict[str, Any]
) -> None:
    parameters = parse_query(session_url(options(**changes), Request()).query)
    assert parameters.unknown == ()
    assert parameters.values == told | {
        "sample_rate": 16_000,
        "encoding": "pcm_s16le",
        "language_detection": True,
    }


@pytest.mark.parametrize(
    ("model", "languages", "language", "told"),
    [
        (PRO, (), None, {"language_detection": True}),
        (PRO, (), "de", {"language_codes": ["de"]}),
        (PRO, ("en",), "de", {"language_codes": ["en"]}),
        (PRO, ("en", "de"), None, {"language_codes": ["en", "de"], "language_detection": True}),
        (MULTILINGUAL, (), None, {"language_detection": True}),
        (MULTILINGUAL, (), "de", {}),
        (MULTILINGUAL, ("en", "de"), "de", {"language_detection": True}),
        (ENGLISH, (), None, {}),
    ],
)
def test_languages_are_told_where_the_model_can_use_them_and_asked_for_where_they_are_open(
    model: str, languages: tuple[str, ...], language: str | None, told: dict[str, Any]
) -> None:
    chosen = options(model=model, languages=languages)
    values = parse_query(session_url(chosen, Request(language=language)).query).values
    assert {name: value for name, value in values.items() if name.startswith("language_")} == told


@pytest.mark.parametrize("term", ["\N{CJK UNIFIED IDEOGRAPH-706F}" * 50, '"' * 50, "x" * 50])
def test_many_key_terms_are_as_many_as_an_address_has_room_for(term: str) -> None:
    names = tuple(f"{number:02}{term}"[:50] for number in range(100))
    url = session_url(options(), Request(names=names))
    chosen = parse_query(url.query).values["keyterms_prompt"]
    assert tuple(chosen) == names[: len(chosen)]
    assert len(chosen) > 5
    assert len(url.raw_query_string) < 8000


def test_key_terms_are_told_as_one_list_within_the_limits_of_the_service() -> None:
    names = ("Zoë & Söhne", 'the "den"', "x" * 50, "x" * 51, "a=b+c%20")
    terms = tuple(f"term {number}" for number in range(100))
    url = session_url(options(), Request(names=names, terms=terms))

    told = parse_query(url.query).values["keyterms_prompt"]
    assert told == [*names[:3], names[4], *terms[:96]]


@pytest.mark.parametrize("base", ["ws://host:1", "ws://host:1/", "ws://host:1/behind/a/proxy"])
def test_the_path_of_the_service_is_added_to_any_address(base: str) -> None:
    assert str(session_url(options(base), Request()).with_query(None)) == base.rstrip("/") + "/v3/ws"


def test_languages_are_those_of_the_model_and_any_for_a_model_that_is_not_known() -> None:
    assert AssemblyAI(options(model=ENGLISH), Any).languages == {"en"}
    assert "zu" in AssemblyAI(options(), Any).languages
    assert AssemblyAI(options(model="universal-4"), Any).languages == LANGUAGES


@pytest.mark.usefixtures("fast_service")
async def test_a_session_is_what_the_request_asks_for() -> None:
    request = Request(language="de", names=("Zoë & Söhne",), terms=("a+b", '"c"'))
    async with emulator() as service, assemblyai(service.url) as backend:
        await listen(backend, recording_of(UTTERANCE), request)
        record = await service.session()

    assert record.headers["authorization"] == KEY
    assert record.parameters.unknown == ()
    assert record.params == {
        "speech_model": PRO,
        "mode": "min_latency",
        "sample_rate": 16_000,
        "encoding": "pcm_s16le",
        "language_codes": ["de"],
        "keyterms_prompt": ["Zoë & Söhne", "a+b", '"c"'],
    }


@pytest.mark.usefixtures("fast_service")
async def test_the_language_that_the_service_heard_comes_with_the_final() -> None:
    script = Script(SCRIPT.words, language="de")
    async with emulator(script=script) as service, assemblyai(service.url) as backend:
        heard = await listen(backend, recording_of(UTTERANCE))
    assert heard.final.language == "de"


# The audio


@pytest.mark.usefixtures("fast_service")
@pytest.mark.parametrize("extra", [0, 2, 1598])
async def test_every_sample_arrives_in_frames_of_50_ms(extra: int) -> None:
    pcm = UTTERANCE + b"\1\2" * (extra // 2)
    async with emulator() as service, assemblyai(service.url) as backend:
        await listen(backend, recording_of(pcm))
        assert sent_to(await service.session(), pcm)


async def test_what_is_said_while_the_socket_still_opens_arrives_too() -> None:
    async with (
        emulator(latency=Latency(connect=0.3, begin=0.2)) as service,
        assemblyai(service.url) as backend,
    ):
        recording = recording_of(speech(200), ended=False)
        listening = asyncio.create_task(listen(backend, recording))
        record = await service.session()
        assert record.http_status is None
        recording.write(speech(900)[200 * BYTES_PER_MS :])
        recording.end()
        assert (await listening).final.text == "Turn on."
        assert sent_to(record, speech(900))
        assert record.first_audio_at is not None
        assert record.begun_at is not None
        assert record.first_audio_at < record.begun_at


async def test_the_audio_goes_out_while_it_is_said() -> None:
    async with emulator() as service, assemblyai(service.url) as backend:
        recording = recording_of(speech(500), ended=False)
        heard = Heard()
        listening = asyncio.create_task(listen(backend, recording, heard=heard))
        await heard.until(lambda: heard.texts == ["Turn"])
        assert (await service.session()).audio_bytes == 500 * BYTES_PER_MS
        recording.write(speech(900)[500 * BYTES_PER_MS :])
        recording.end()
        assert (await listening).final.text == "Turn on."


# The answer


@pytest.mark.parametrize("model", [PRO, ENGLISH])
async def test_a_natural_end_is_answered_when_the_microphone_closes_without_a_word_to_the_service(
    model: str,
) -> None:
    async with emulator() as service, assemblyai(service.url, model=model) as backend:
        recording, heard = recording_of(ended=False), Heard()
        listening = asyncio.create_task(listen(backend, recording, heard=heard))
        record = await service.session()
        await say(recording, UTTERANCE)
        await heard.until(lambda: has_final(heard, record))
        assert record.messages == []
        recording.end()
        final = (await listening).final

    assert final.text == (SCRIPT.text if model == PRO else "turn on")
    assert (await ended(record)).message_types == ["Terminate"]


async def test_a_person_is_heard_to_have_finished_by_the_time_that_a_client_closes_the_microphone() -> None:
    pcm = speech(sample=MUTED)
    pcm = pcm[: voiced_spans(pcm)[-1][1] * BYTES_PER_MS] + silence(700)
    script = script_for(pcm, MUTED.text)
    async with (
        emulator(script=script, latency=Latency.measured(), throttle=1.25) as service,
        assemblyai(service.url) as backend,
    ):
        recording, heard = recording_of(ended=False), Heard()
        listening = asyncio.create_task(listen(backend, recording, heard=heard))
        record = await service.session()
        await say(recording, pcm)
        await heard.until(lambda: has_final(heard, record))
        recording.end()
        assert (await listening).final.text == MUTED.text
    assert record.message_types == ["Terminate"]


@pytest.mark.usefixtures("fast_service")
async def test_pro_ends_an_open_turn_on_demand() -> None:
    async with emulator() as service, assemblyai(service.url) as backend:
        heard = await listen(backend, recording_of(UNFINISHED))
        record = await service.session()
    assert heard.final.text == "Turn on."
    assert (await ended(record)).message_types == ["ForceEndpoint", "Terminate"]


@pytest.mark.usefixtures("fast_service")
@pytest.mark.parametrize("extra_empty_final", [False, True])
async def test_universal_streaming_terminates_and_loses_no_word(*, extra_empty_final: bool) -> None:
    async with (
        emulator(extra_empty_final=extra_empty_final) as service,
        assemblyai(service.url, model=ENGLISH) as backend,
    ):
        heard = await listen(backend, recording_of(UNFINISHED))
        record = await service.session()
    assert heard.final.text == "turn on"
    assert "ForceEndpoint" not in (await ended(record)).message_types


@pytest.mark.usefixtures("fast_service")
@pytest.mark.parametrize("model", [PRO, ENGLISH])
async def test_the_finals_of_several_sentences_are_joined(model: str) -> None:
    pcm = speech(sample=PASSWORD)
    async with (
        emulator(script=script_for(pcm, PASSWORD.text)) as service,
        assemblyai(service.url, model=model) as backend,
    ):
        heard = await listen(backend, recording_of(pcm))
        record = await service.session()
    assert heard.final.text.lower().replace(".", "") == PASSWORD.text.lower().replace(".", "")
    assert len(record.finals) >= 2 if model == PRO else record.finals
    assert all(
        later.startswith(sooner[:5]) for sooner, later in zip(heard.texts, heard.texts[1:], strict=False)
    )


@pytest.mark.usefixtures("fast_service")
async def test_a_stop_right_after_the_second_sentence_does_not_lose_it() -> None:
    script = Script((*SCRIPT.words, Word("Quick.", 1000, 1300, sentence_end=True)))
    pcm = speech(800) + silence(200) + speech(300)
    async with emulator(script=script) as service, assemblyai(service.url) as backend:
        recording = recording_of(pcm[: -300 * BYTES_PER_MS], ended=False)
        heard = Heard()
        listening = asyncio.create_task(listen(backend, recording, heard=heard))
        record = await service.session()
        await heard.until(lambda: has_final(heard, record))
        recording.write(pcm[-300 * BYTES_PER_MS :])
        recording.end()
        assert (await listening).final.text == "Turn on. Quick."


@pytest.mark.usefixtures("fast_service")
async def test_finals_that_come_in_the_wrong_order_are_put_in_the_right_one() -> None:
    async with emulator(Fault("end", SwapFinals())) as service, assemblyai(service.url) as backend:
        heard = await listen(backend, recording_of(UNFINISHED))
        record = await service.session()
    assert [final["turn_order"] for final in record.finals] == [1, 0]
    assert heard.final.text == "Turn on."


@pytest.mark.usefixtures("fast_service")
@pytest.mark.parametrize("force_without_turn", ["nothing", "empty"])
async def test_noise_after_the_last_word_costs_no_answer(force_without_turn: str) -> None:
    noisy = speech(1800)
    async with (
        emulator(force_without_turn=force_without_turn) as service,
        assemblyai(service.url) as backend,
    ):
        recording = recording_of(noisy, ended=False)
        heard = Heard()
        listening = asyncio.create_task(listen(backend, recording, heard=heard))
        record = await service.session()
        await heard.until(lambda: has_final(heard, record))
        recording.end()
        await listening
    assert heard.final.text == "Turn on."
    assert (await ended(record)).message_types == ["ForceEndpoint", "Terminate"]


@pytest.mark.usefixtures("fast_service")
async def test_a_service_that_hears_no_words_says_so_without_an_error() -> None:
    async with (
        emulator(script=Script.empty(), force_without_turn="empty") as service,
        assemblyai(service.url) as backend,
    ):
        assert (await listen(backend, recording_of(UTTERANCE))).final.text == ""


@pytest.mark.usefixtures("fast_service")
async def test_many_people_speak_at_once_and_each_gets_the_own_words() -> None:
    people = [(speech(400 + 100 * number) + silence(300), f"Word {number}.") for number in range(8)]
    scripts = by_recording((pcm, script_for(pcm, text)) for pcm, text in people)
    # Most of them begin with the same samples: a first frame of their own tells them apart.
    people = [(bytes([number, 0]) * 800 + pcm, text) for number, (pcm, text) in enumerate(people)]
    scripts = by_recording((pcm, script_for(pcm, text)) for pcm, text in people)
    async with emulator(script=scripts) as service, assemblyai(service.url) as backend:
        answers = await asyncio.gather(*(listen(backend, recording_of(pcm)) for pcm, _ in people))
    assert [heard.final.text for heard in answers] == [text for _, text in people]
    for record in service.sessions:
        await ended(record)


# The end of a session


@pytest.mark.usefixtures("fast_service")
async def test_the_answer_leaves_before_the_session_is_ended_and_close_waits_for_the_end() -> None:
    async with (
        emulator(latency=Latency(termination=0.3)) as service,
        assemblyai(service.url) as backend,
    ):
        await listen(backend, recording_of(UNFINISHED))
        record = await service.session()
        assert record.sent[-1][1]["type"] == "Turn"
        await backend.close()
        assert record.sent[-1][1]["type"] == "Termination"
    assert (await ended(record)).close_code == 1000


async def test_a_session_is_ended_when_the_utterance_is_given_up_in_mid_speech() -> None:
    async with emulator() as service, assemblyai(service.url) as backend:
        heard = Heard()
        listening = asyncio.create_task(listen(backend, recording_of(speech(500), ended=False), heard=heard))
        await heard.connected.wait()
        listening.cancel()
        await asyncio.wait([listening])
        assert listening.cancelled()
        await ended(await service.session())


async def test_a_session_is_ended_when_the_consumer_leaves_early() -> None:
    async with emulator() as service, assemblyai(service.url) as backend:
        recording = recording_of(speech(500), ended=False)
        async with aclosing(backend.transcribe(recording, Request())) as progress:
            assert await anext(progress) == Connected()
        await ended(await service.session())


async def test_a_session_that_opens_only_after_it_was_given_up_is_ended_too() -> None:
    async with emulator(latency=Latency(connect=0.2)) as service, assemblyai(service.url) as backend:
        listening = asyncio.create_task(listen(backend, recording_of(speech(500), ended=False)))
        record = await service.session()
        listening.cancel()
        await asyncio.wait([listening])
        assert record.http_status is None
        await backend.close()
        await ended(record)


async def test_an_utterance_that_is_given_up_while_it_is_refused_leaves_nothing() -> None:
    async with (
        emulator(Fault("connect", HttpStatus(503)), latency=Latency(connect=0.1)) as service,
        assemblyai(service.url) as backend,
    ):
        listening = asyncio.create_task(listen(backend, recording_of(ended=False)))
        await service.session()
        listening.cancel()
        await asyncio.wait([listening])


@pytest.mark.usefixtures("fast_service", "impatient_ending")
async def test_a_service_that_does_not_end_the_session_is_not_waited_for_for_ever() -> None:
    async with (
        emulator(Fault("end", Stall(), on=("Terminate",))) as service,
        assemblyai(service.url) as backend,
    ):
        assert (await listen(backend, recording_of(UNFINISHED))).final.text == "Turn on."
        await backend.close()
        await ended(await service.session())


# What goes wrong

CLOSES: list[tuple[int, type[BackendError]]] = [
    (1000, DisconnectedError),
    (1008, SignInRefusedError),
    (1011, OverloadedError),
    (3005, OverloadedError),
    (3006, RejectedError),
    (3008, DisconnectedError),
    (3009, RateLimitedError),
]


@pytest.mark.parametrize("at", ["connect", "audio"])
@pytest.mark.parametrize(("code", "kind"), CLOSES)
@pytest.mark.parametrize("with_message", [False, True])
async def test_a_session_that_the_service_ends_is_the_right_error_at_once(
    at: Any, code: int, kind: type[BackendError], *, with_message: bool
) -> None:
    action = ErrorFrame(code, "why") if with_message else Close(code)
    async with emulator(Fault(at, action, audio_ms=300)) as service, assemblyai(service.url) as backend:
        with pytest.raises(kind) as failure:
            await listen(backend, recording_of(speech(500), ended=False))
    assert type(failure.value) is kind
    assert f"({code})" in str(failure.value)


async def test_a_wrong_key_is_refused_and_named_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with emulator() as service, assemblyai(service.url, api_key="wrong-key") as backend:
        with pytest.raises(SignInRefusedError) as refused:
            await listen(backend, recording_of(speech(500), ended=False))
    assert "wrong-key" not in str(refused.value) + caplog.text


async def test_too_many_sessions_are_told_from_a_refused_key() -> None:
    async with emulator(max_sessions=0) as service, assemblyai(service.url) as backend:
        with pytest.raises(RateLimitedError):
            await listen(backend, recording_of(speech(500), ended=False))


async def test_an_unknown_model_is_rejected() -> None:
    async with emulator() as service, assemblyai(service.url, model="universal-9") as backend:
        with pytest.raises(RejectedError, match="ASSEMBLYAI_MODEL"):
            await listen(backend, recording_of(speech(500), ended=False))


@pytest.mark.parametrize("at", ["connect", "audio", "end"])
async def test_a_connection_that_is_dropped_is_an_error_at_once(at: Any) -> None:
    async with emulator(Fault(at, Drop(), audio_ms=700)) as service, assemblyai(service.url) as backend:
        with pytest.raises(DisconnectedError if at != "connect" else UnreachableError):
            await listen(backend, recording_of(UNFINISHED, ended=at == "end"))


async def test_a_service_that_closes_its_half_of_the_connection_has_left() -> None:
    async def begin_and_leave(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "Begin"})
        assert request.transport is not None
        request.transport.write_eof()
        await socket.receive()
        return socket

    async with serving(begin_and_leave) as port, assemblyai(f"ws://127.0.0.1:{port}") as backend:
        with pytest.raises(DisconnectedError):
            await listen(backend, recording_of(speech(500), ended=False))


@pytest.mark.usefixtures("impatient_ending")
async def test_a_service_that_never_begins_is_unreachable_and_its_session_ended() -> None:
    async with (
        emulator(Fault("connect", Stall())) as service,
        assemblyai(service.url, connect_timeout=0.2) as backend,
    ):
        with pytest.raises(UnreachableError, match=r"within 0\.2 s"):
            await listen(backend, recording_of(speech(500), ended=False))
        await backend.close()
        await ended(await service.session())


@pytest.mark.usefixtures("fast_service")
async def test_a_service_that_begins_late_is_given_its_time_from_there() -> None:
    async with (
        emulator(Fault("connect", SlowBegin(0.4))) as service,
        assemblyai(service.url, timeout=0.35) as backend,
    ):
        assert (await listen(backend, recording_of(UNFINISHED))).final.text == "Turn on."


@pytest.mark.usefixtures("impatient_ending")
@pytest.mark.parametrize("model", [PRO, ENGLISH])
@pytest.mark.parametrize("action", [Stall(), DelayFinal(PATIENCE)])
async def test_no_final_after_the_end_is_overdue(action: Any, model: str) -> None:
    async with (
        emulator(Fault("end", action)) as service,
        assemblyai(service.url, model=model, timeout=0.2) as backend,
    ):
        with pytest.raises(OverdueError, match=r"within 0\.2 s"):
            await listen(backend, recording_of(UNFINISHED))
        await backend.close()
        await ended(await service.session())


@pytest.mark.usefixtures("impatient_ending")
async def test_a_service_that_stops_reading_is_overdue_in_time_and_let_go() -> None:
    async with (
        serving(deaf_after({"type": "Begin"})) as port,
        assemblyai(f"ws://127.0.0.1:{port}", timeout=0.2) as backend,
    ):
        with pytest.raises(OverdueError):
            await listen(backend, recording_of(silence(110_000)))


@pytest.mark.usefixtures("fast_service")
async def test_an_empty_final_for_words_that_were_heard_is_no_answer() -> None:
    async with (
        emulator(Fault("end", EmptyFinal())) as service,
        assemblyai(service.url, model=ENGLISH) as backend,
    ):
        with pytest.raises(DisconnectedError):
            await listen(backend, recording_of(UNFINISHED))
        record = await service.session()
    assert record.finals[-1]["transcript"] == ""


@pytest.mark.usefixtures("fast_service")
@pytest.mark.parametrize("at", ["connect", "audio", "end"])
@pytest.mark.parametrize(
    "data",
    ["not json{", b"\xff\xfe\0garbage", "[1, 2]", {"type": "Novelty", "x": 1}, {"type": "Turn", "words": 1}],
)
async def test_garbage_between_good_messages_is_passed_over(at: Any, data: Any) -> None:
    async with emulator(Fault(at, Send(data))) as service, assemblyai(service.url) as backend:
        assert (await listen(backend, recording_of(UNFINISHED))).final.text == "Turn on."


@pytest.mark.parametrize("pieces", [(), (silence(20),), (silence(500),)])
async def test_a_recording_without_words_is_overdue_or_empty_but_never_hangs(pieces: Sequence[bytes]) -> None:
    async with emulator(script=Script.empty()) as service, assemblyai(service.url, timeout=0.2) as backend:
        with pytest.raises(OverdueError):
            await listen(backend, recording_of(*pieces))
        await backend.close()
        await ended(await service.session())
