from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from modal_whisper.speech import SpeechDetector
from tests.sounds import BYTES_PER_MS, silence, speech
from tests.virtual_clock import run_virtual
from tests.wyoming_server.backends.assemblyai_clients import ENGLISH, PRO, options
from tests.wyoming_server.backends.listening import recording_of, say
from tests.wyoming_server.backends.turn_messages import final, partial
from wyoming_server.backends.assemblyai_conversation import Conversation
from wyoming_server.backends.base import Connected, Hypothesis
from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    OverdueError,
    OverloadedError,
    SignInRefusedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wyoming_server.backends.base import Progress

Message = dict[str, Any] | str | int | None
"""JSON, some other text, a code to close with, or None: the end of the connection without a code."""

BEGIN = {"type": "Begin", "id": "1", "expires_at": 2}
TERMINATION = {"type": "Termination", "audio_duration_seconds": 1, "session_duration_seconds": 2}
UTTERANCE = speech(900) + silence(700)
STOP = 1.6


def _speech_end_ms() -> int:
    detector = SpeechDetector()
    detector.feed(UTTERANCE)
    assert detector.speech_end_ms is not None
    return detector.speech_end_ms


END_MS = _speech_end_ms()
END = END_MS / 1000


class Service:
    """The client's side of a socket, and at its other end a service that speaks by the clock."""

    def __init__(self, on_demand: Sequence[tuple[float, Message]]) -> None:
        self.close_code: int | None = None
        self.texts: list[str] = []
        self.frames: list[bytes] = []
        self.is_broken = False
        self._on_demand = on_demand
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()

    def say(self, after: float, message: Message) -> None:
        asyncio.get_running_loop().call_later(after, self._inbox.put_nowait, message)

    def break_down(self) -> None:
        self.is_broken = True

    async def send_bytes(self, data: bytes) -> None:
        if self.is_broken:
            raise ConnectionResetError
        self.frames.append(data)

    async def send_str(self, text: str) -> None:
        self.texts.append(json.loads(text)["type"])
        for after, message in self._on_demand:
            self.say(after, message)

    def __aiter__(self) -> Service:
        return self

    async def __anext__(self) -> aiohttp.WSMessage:
        message = await self._inbox.get()
        if message is None or isinstance(message, int):
            self.close_code = message
            raise StopAsyncIteration
        text = message if isinstance(message, str) else json.dumps(message)
        return aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, text, None)


@dataclass
class Outcome:
    """How a conversation went."""

    service: Service
    result: Hypothesis | BaseException
    after_stop: float
    """Seconds, rounded to milliseconds; negative before the last sample."""
    reports: list[Progress] = field(default_factory=list)

    @property
    def text(self) -> str:
        assert isinstance(self.result, Hypothesis), self.result
        assert self.result.is_final
        return self.result.text


def converse(
    *spoken: tuple[float, Message],
    on_demand: Sequence[tuple[float, Message]] = (),
    begin: float | None = 0.0,
    pcm: bytes = UTTERANCE,
    at_once: bool = False,
    report: Any = None,
    broken_at: float | None = None,
    **changes: Any,
) -> Outcome:
    """Speak; the service says things at the times in `spoken`, and after the end was demanded.

    All times are exact, for no time passes but that which somebody waits for.
    """

    async def run() -> Outcome:
        loop = asyncio.get_running_loop()
        chosen = options(**{"connect_timeout": 3.0, "timeout": 1.5, **changes})
        service = Service(on_demand)
        if begin is not None:
            service.say(begin, BEGIN)
        for at, message in spoken:
            service.say(at, message)
        if broken_at is not None:
            loop.call_later(broken_at, service.break_down)
        recording = recording_of(pcm if at_once else b"", ended=at_once)
        reports: list[Progress] = []
        conversation = Conversation(
            service, recording, report or reports.append, chosen, loop.time() + chosen.connect_timeout
        )

        async def speak() -> None:
            if not at_once:
                await say(recording, pcm)
                recording.end()

        speaking = asyncio.create_task(speak())
        result: Hypothesis | BaseException
        try:
            result = await conversation.final()
        except (BackendError, ZeroDivisionError) as error:
            result = error
        stop = 0.0 if at_once else len(pcm) / BYTES_PER_MS / 1000
        after_stop = round(loop.time() - stop, 3)
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        return Outcome(service, result, after_stop, reports)

    return run_virtual(run())


def test_the_audio_goes_out_in_frames_of_50_ms_and_the_last_one_is_filled_up() -> None:
    pcm = UTTERANCE + b"\1\2" * 10
    frames = converse((1.6, final(0, "Turn on.", END_MS)), pcm=pcm).service.frames

    assert {len(frame) for frame in frames} == {1600}
    assert b"".join(frames) == pcm + bytes(-len(pcm) % 1600)


def test_progress_is_reported_as_it_comes() -> None:
    outcome = converse((0.6, partial(0, "Turn")), (END, final(0, "Turn on.", END_MS)))
    assert outcome.reports == [Connected(), Hypothesis("Turn"), Hypothesis("Turn on.", ends_turn=True)]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (END, partial(0, "Turn on.") | {"words": [{"end": END_MS}]}),
        (END, final(0, "Turn on.", END_MS - 500)),
    ],
    ids=["no final", "without the last speech"],
)
def test_a_turn_has_ended_only_with_a_final_that_holds_all_that_was_heard(
    at: float, message: Message
) -> None:
    outcome = converse((at, message))
    assert [report.ends_turn for report in outcome.reports if isinstance(report, Hypothesis)] == [False]


@pytest.mark.parametrize(
    ("model", "mode"), [(PRO, "min_latency"), (ENGLISH, "balanced"), ("u3-rt-pro", "balanced")]
)
def test_a_natural_end_is_the_answer_in_the_moment_of_the_last_sample(model: str, mode: str) -> None:
    message = final(0, "Turn on.", END_MS) | {"language_code": "en"}
    outcome = converse((END, message), model=model, mode=mode)

    assert outcome.result == Hypothesis("Turn on.", is_final=True, language="en")
    assert outcome.after_stop == 0.0
    assert outcome.service.texts == []


def test_a_natural_end_is_trusted_only_after_the_silence_by_which_more_would_have_shown() -> None:
    pcm = UTTERANCE[: (END_MS + 210) * BYTES_PER_MS]
    outcome = converse((END + 0.1, final(0, "Turn on.", END_MS)), pcm=pcm)

    assert (outcome.text, outcome.after_stop) == ("Turn on.", 0.14)
    assert outcome.service.texts == ["ForceEndpoint"]


@pytest.mark.parametrize("mode", ["balanced", "max_accuracy"])
def test_slower_modes_need_more_silence(mode: str) -> None:
    outcome = converse((END, final(0, "Turn on.", END_MS)), mode=mode)

    silence_ms = 1590 - END_MS  # judged in pieces of 30 ms
    assert (outcome.text, outcome.after_stop) == ("Turn on.", (850 - silence_ms) / 1000)


def test_no_silence_is_missed_for_longer_than_a_demanded_end_takes() -> None:
    pcm = UTTERANCE[: (END_MS + 210) * BYTES_PER_MS]
    outcome = converse((END + 0.1, final(0, "Turn on.", END_MS)), pcm=pcm, mode="balanced")
    assert (outcome.text, outcome.after_stop) == ("Turn on.", 0.5)


def test_more_that_shows_after_an_early_stop_is_waited_for() -> None:
    pcm = UTTERANCE[: (END_MS + 210) * BYTES_PER_MS]
    outcome = converse(
        (END + 0.1, final(0, "Turn on.", END_MS)),
        on_demand=[(0.1, partial(1, "Plea")), (0.4, final(1, "Please.", END_MS))],
        pcm=pcm,
    )
    assert (outcome.text, outcome.after_stop) == ("Turn on. Please.", 0.4)


def test_a_turn_that_is_open_is_ended_on_demand() -> None:
    outcome = converse((0.6, partial(0, "Turn")), on_demand=[(0.12, final(0, "Turn on.", END_MS))])

    assert (outcome.text, outcome.after_stop) == ("Turn on.", 0.12)
    assert outcome.service.texts == ["ForceEndpoint"]


def test_words_that_were_not_yet_known_come_on_demand() -> None:
    outcome = converse(on_demand=[(0.2, final(0, "Yes.", END_MS))])
    assert (outcome.text, outcome.after_stop) == ("Yes.", 0.2)


def test_finals_that_end_before_the_last_speech_count_if_the_demand_brings_nothing() -> None:
    outcome = converse((0.9, final(0, "Turn on.", END_MS - 500)))

    assert (outcome.text, outcome.after_stop) == ("Turn on.", 0.5)
    assert outcome.service.texts == ["ForceEndpoint"]


def test_a_final_that_came_before_the_last_speech_is_not_trusted_at_once() -> None:
    outcome = converse((END - 0.3, final(0, "Turn on.", END_MS)))
    assert (outcome.text, outcome.after_stop) == ("Turn on.", 0.5)


def test_an_empty_final_on_demand_says_that_there_is_no_more() -> None:
    outcome = converse((0.9, final(0, "Turn on.", END_MS - 500)), on_demand=[(0.1, final(1, ""))])
    assert (outcome.text, outcome.after_stop) == ("Turn on.", 0.1)


def test_an_empty_final_alone_says_that_no_word_was_heard() -> None:
    outcome = converse(on_demand=[(0.1, final(0, ""))])
    assert (outcome.text, outcome.after_stop) == ("", 0.1)


def test_an_empty_partial_is_no_answer() -> None:
    outcome = converse(on_demand=[(0.1, partial(0, "")), (0.2, final(0, "Yes.", END_MS))])
    assert (outcome.text, outcome.after_stop) == ("Yes.", 0.2)


def test_an_empty_final_is_no_answer_while_a_turn_is_open() -> None:
    outcome = converse((0.6, partial(0, "Turn")), on_demand=[(0.1, final(1, "")), (0.2, final(0, ""))])
    assert isinstance(outcome.result, OverdueError)
    assert outcome.after_stop == 1.5


@pytest.mark.parametrize(("comes", "answered"), [(0.1, 0.5), (0.4, 0.6), (1.0, 1.2)])
def test_noise_after_the_words_delays_the_answer_only_until_no_more_can_come(
    comes: float, answered: float
) -> None:
    outcome = converse((0.6, partial(0, "Turn")), on_demand=[(comes, final(0, "Turn on.", END_MS - 500))])
    assert (outcome.text, outcome.after_stop) == ("Turn on.", answered)


@pytest.mark.parametrize("comes", [0.05, 0.45])
def test_a_final_on_its_way_that_holds_only_the_first_sentence_is_not_the_answer(comes: float) -> None:
    outcome = converse(
        (0.4, partial(0, "Turn")),
        on_demand=[(comes, final(0, "Turn on.", END_MS - 600)), (comes + 0.15, final(1, "Quick.", END_MS))],
    )
    assert (outcome.text, outcome.after_stop) == ("Turn on. Quick.", comes + 0.15)


def test_a_turn_that_opens_after_the_demand_is_waited_for() -> None:
    outcome = converse(
        (0.9, final(0, "Turn on.", END_MS - 500)),
        on_demand=[(0.4, partial(1, "Quick")), (0.9, final(1, "Quick.", END_MS))],
    )
    assert (outcome.text, outcome.after_stop) == ("Turn on. Quick.", 0.9)


def test_finals_in_the_wrong_order_are_both_waited_for() -> None:
    outcome = converse(on_demand=[(0.1, final(1, "lights.", END_MS)), (0.2, final(0, "Turn on the", 400))])
    assert (outcome.text, outcome.after_stop) == ("Turn on the lights.", 0.2)


def test_finals_of_which_one_never_comes_are_the_answer_in_the_end() -> None:
    outcome = converse(on_demand=[(0.1, final(1, "lights.", END_MS))])
    assert (outcome.text, outcome.after_stop) == ("lights.", 0.5)


def test_a_service_that_began_late_is_given_the_time_to_catch_up() -> None:
    outcome = converse((1.5, final(0, "Turn on.", END_MS)), begin=1.0)

    backlog = STOP / 1.25 - (STOP - 1.0)
    missing = (350 - (1590 - END_MS)) / 1000
    assert missing < 0
    assert (outcome.text, outcome.after_stop) == ("Turn on.", round(missing + backlog, 3))


def test_the_second_sentence_of_a_replay_is_waited_for() -> None:
    outcome = converse(
        (0.2 + 0.5, final(0, "Turn on.", END_MS - 500)),
        (0.2 + 1.3, final(1, "Quick.", END_MS)),
        begin=0.2,
        at_once=True,
        timeout=5.0,
    )
    assert (outcome.text, outcome.after_stop) == ("Turn on. Quick.", 1.5)


def test_universal_streaming_is_told_to_terminate_and_the_final_that_reaches_the_end_is_the_answer() -> None:
    outcome = converse(
        (0.6, partial(0, "turn")),
        on_demand=[(0.3, final(0, "turn on", END_MS)), (0.6, TERMINATION)],
        model=ENGLISH,
    )
    assert (outcome.text, outcome.after_stop) == ("turn on", 0.3)
    assert outcome.service.texts == ["Terminate"]


def test_universal_streaming_is_drained_until_it_says_that_it_is_done() -> None:
    outcome = converse(
        (0.6, final(0, "turn", END_MS - 600)),
        on_demand=[(0.3, final(1, "on", END_MS - 500)), (0.6, final(2, "")), (1.2, TERMINATION)],
        model=ENGLISH,
    )
    assert (outcome.text, outcome.after_stop) == ("turn on", 1.2)


def test_universal_streaming_may_have_heard_no_words() -> None:
    outcome = converse(on_demand=[(0.3, final(0, "")), (0.6, TERMINATION)], model=ENGLISH)
    assert (outcome.text, outcome.after_stop) == ("", 0.6)


def test_a_session_that_ends_within_a_turn_has_no_answer() -> None:
    outcome = converse(
        (0.6, partial(0, "turn")), on_demand=[(0.3, final(0, "")), (0.6, TERMINATION)], model=ENGLISH
    )
    assert isinstance(outcome.result, DisconnectedError)
    assert outcome.after_stop == 0.6


@pytest.mark.parametrize("model", [PRO, ENGLISH])
def test_a_termination_that_nobody_asked_for_is_no_answer(model: str) -> None:
    outcome = converse((0.5, TERMINATION), (0.6, 1000), model=model)
    assert isinstance(outcome.result, DisconnectedError)
    assert outcome.after_stop == -1.0


def test_a_termination_is_no_answer_to_the_demand_for_an_end_of_turn() -> None:
    outcome = converse(
        (0.6, partial(0, "Turn")), on_demand=[(0.1, TERMINATION), (0.2, final(0, "Turn on.", END_MS))]
    )
    assert (outcome.text, outcome.after_stop) == ("Turn on.", 0.2)


def test_a_service_that_never_begins_is_unreachable() -> None:
    outcome = converse(begin=None, connect_timeout=0.7)
    assert isinstance(outcome.result, UnreachableError)
    assert outcome.after_stop == round(0.7 - STOP, 3)


def test_no_final_in_time_is_overdue() -> None:
    outcome = converse((0.6, partial(0, "Turn")), timeout=1.25)
    assert isinstance(outcome.result, OverdueError)
    assert outcome.after_stop == 1.25


def test_the_time_for_the_final_begins_with_a_late_session() -> None:
    outcome = converse(begin=2.0, at_once=True, timeout=1.25)
    assert isinstance(outcome.result, OverdueError)
    assert outcome.after_stop == 3.25


@pytest.mark.parametrize("ending", [None, 1000, 3005, {"type": "Error", "error_code": 1011, "error": "?"}])
def test_what_ends_the_session_in_mid_speech_is_an_error_at_once(ending: Message) -> None:
    outcome = converse((0.5, final(0, "Turn on.", 450)), (0.6, ending))
    assert isinstance(outcome.result, DisconnectedError | OverloadedError)
    assert outcome.after_stop == -1.0


def test_a_half_known_turn_is_no_answer_when_the_session_ends() -> None:
    outcome = converse((0.6, partial(0, "Turn on.")), on_demand=[(0.1, None)])
    assert isinstance(outcome.result, DisconnectedError)
    assert outcome.after_stop == 0.1


def test_an_error_message_is_believed_before_the_socket_that_broke() -> None:
    refusal = {"type": "Error", "error_code": 1008, "error": "Unauthorized Connection: Invalid API key"}
    outcome = converse((0.6, refusal), (0.6, None), begin=None, broken_at=0.1)
    assert isinstance(outcome.result, SignInRefusedError)
    assert outcome.after_stop == -1.0


@pytest.mark.parametrize(
    ("message", "is_error"),
    [({"error": "no"}, True), ({"type": "Novelty", "error": None}, False), ({"type": "Warning"}, False)],
)
def test_an_error_may_come_without_a_type(message: Message, *, is_error: bool) -> None:
    outcome = converse((0.6, message), (END, final(0, "Turn on.", END_MS)))
    assert isinstance(outcome.result, DisconnectedError) is is_error


@pytest.mark.parametrize(
    "garbage",
    [
        "not json{",
        "[1, 2]",
        "null",
        "17",
        "[" * 100_000,
        {"type": ["Turn"]},
        {"type": 1},
        {"type": "Turn"},
        final(0, "Off.") | {"turn_order": "0"},
        final(0, "Off.") | {"words": [{"end": "soon"}]},
        final(0, "Off.", 500) | {"words": [{"end": float("inf")}]},
    ],
)
def test_garbage_is_passed_over(garbage: Message) -> None:
    outcome = converse((0.6, garbage), (END, final(0, "Turn on.", END_MS)))
    assert (outcome.text, outcome.after_stop) == ("Turn on.", 0.0)


def test_a_defect_of_ours_shows_at_once() -> None:
    def fail(_: Progress) -> None:
        raise ZeroDivisionError

    outcome = converse((END, final(0, "Turn on.", END_MS)), begin=0.2, report=fail)
    assert isinstance(outcome.result, ZeroDivisionError)
    assert outcome.after_stop == -1.4
