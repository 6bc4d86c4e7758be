from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.engines import new_engine
from tests.fake_backends import CONNECTED, ScriptedBackend, final, partial
from tests.sounds import speech
from tests.virtual_clock import run_virtual
from wyoming_server import log
from wyoming_server.audio import AudioFormat
from wyoming_server.backends.base import Request
from wyoming_server.breaker import Cause, State
from wyoming_server.errors import AllFailedError, SignInRefusedError, UnreachableError
from wyoming_server.events import (
    Answered,
    AttemptStarted,
    BackendConnected,
    BackendFailed,
    BreakerChanged,
    BudgetReached,
    Unanswered,
)
from wyoming_server.trace import Reason
from wyoming_server.utterance import Utterance, Wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wyoming.event import Event as WyomingEvent

    from wyoming_server.events import Event

REFUSED = SignInRefusedError("sign-in refused (1008)")
OUR_LOGGERS = ("stt_failover", "wyoming_server", "modal_whisper")


@pytest.fixture
def set_up() -> Iterator[Callable[..., None]]:
    """log.set_up in a process that has no log yet."""
    handlers = logging.root.handlers
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook

    def anew(log_format: str, *, debug: bool) -> None:
        logging.root.handlers = []
        log.set_up(log_format, debug=debug)

    yield anew
    logging.root.handlers = handlers
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(capture=False)


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (BackendConnected("assemblyai", 123.4), "INFO", "connected to assemblyai (123 ms)"),
        (
            BackendFailed("assemblyai", REFUSED, "whisper", 1.2444),
            "WARNING",
            "assemblyai failed: sign-in refused (1008); whisper takes over with 1.24 s of audio",
        ),
        (
            BackendFailed("local", UnreachableError("no model"), None, 3.0),
            "WARNING",
            "local failed: no model; nobody is left to take over",
        ),
        (Answered("whisper", 212.3, 3.0), "INFO", "whisper answered 212 ms after the last sample"),
        (Answered("", 0.0, 1.5), "INFO", "nobody spoke in 1.50 s of audio"),
        (
            Unanswered(AllFailedError({"assemblyai": REFUSED}), 2.5),
            "ERROR",
            "no answer for 2.50 s of audio: no backend could answer (assemblyai: sign-in refused (1008))",
        ),
        (
            AttemptStarted("whisper", Reason.HEDGE, 2.5),
            "INFO",
            "whisper is asked too, because the one before is late (2.50 s of audio)",
        ),
        (
            BackendFailed("assemblyai", REFUSED, None, 1.0, was_known=True),
            "DEBUG",
            "assemblyai failed again: sign-in refused (1008)",
        ),
        (
            BreakerChanged("assemblyai", State.OPEN, Cause.SIGN_IN, None),
            "WARNING",
            "assemblyai is left out (sign-in) until the settings change",
        ),
        (
            BreakerChanged("whisper", State.OPEN, Cause.NETWORK, 9.7),
            "WARNING",
            "whisper is left out (network); tried again in 10 s",
        ),
        (
            BreakerChanged("whisper", State.HALF_OPEN, Cause.NETWORK, None),
            "DEBUG",
            "trying whisper in the background",
        ),
        (BreakerChanged("whisper", State.CLOSED, None, None), "INFO", "whisper is back"),
        (
            BudgetReached("assemblyai", 0.504),
            "WARNING",
            "assemblyai has cost $0.50 today and is asked last until tomorrow",
        ),
    ],
)
def test_every_fact_is_one_line(
    event: Event, level: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        log.log_event(event)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [(level, line)]


@pytest.mark.parametrize("reason", [Reason.FIRST, Reason.RACE, Reason.FAILED])
def test_that_somebody_is_asked_as_expected_is_no_news(
    reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        log.log_event(AttemptStarted("whisper", reason, 1.0))
    assert caplog.records == []


def test_text_lines_have_a_time_and_a_level_and_go_to_standard_error(
    set_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("text", debug=False)
    log.log_event(BackendConnected("assemblyai", 123.4))
    shown = capsys.readouterr()
    assert shown.out == ""
    day, clock, rest = shown.err.split(" ", 2)
    assert (day.count("-"), clock.count(":")) == (2, 2)
    assert rest == "INFO connected to assemblyai (123 ms)\n"


def test_json_lines_can_be_read_by_machines(
    set_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("json", debug=False)
    log.log_event(Answered("whisper", 212.3, 3.0))
    logging.getLogger("wyoming_server.x").warning('two\nlines, "quoted", %s', "größer")
    shown = capsys.readouterr().err
    assert shown.isascii()
    first, second = (json.loads(line) for line in shown.splitlines())
    assert list(first)[:4] == ["time", "level", "logger", "message"]
    at = first.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(at)) < timedelta(minutes=5)
    assert first == {
        "level": "INFO",
        "logger": "stt_failover",
        "message": "whisper answered 212 ms after the last sample",
        "event": "answered",
        "backend": "whisper",
        "ms": 212.3,
        "audio_seconds": 3.0,
    }
    assert second["message"] == 'two\nlines, "quoted", größer'


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (
            BackendConnected("assemblyai", 123.4567),
            {"event": "connected", "backend": "assemblyai", "ms": 123.457},
        ),
        (
            BackendFailed("assemblyai", REFUSED, "whisper", 1.25),
            {
                "event": "failed",
                "backend": "assemblyai",
                "code": "sign-in-refused",
                "successor": "whisper",
                "audio_seconds": 1.25,
            },
        ),
        (
            AttemptStarted("whisper", Reason.HEDGE, 2.5),
            {"event": "attempt", "backend": "whisper", "reason": "hedge", "audio_seconds": 2.5},
        ),
        (
            BreakerChanged("whisper", State.OPEN, Cause.NETWORK, 9.7),
            {
                "event": "breaker",
                "backend": "whisper",
                "state": "open",
                "cause": "network",
                "retry_seconds": 9.7,
            },
        ),
        (
            BreakerChanged("whisper", State.CLOSED, None, None),
            {
                "event": "breaker",
                "backend": "whisper",
                "state": "closed",
                "cause": None,
                "retry_seconds": None,
            },
        ),
        (BudgetReached("assemblyai", 0.5), {"event": "budget", "backend": "assemblyai", "dollars": 0.5}),
        (Answered("", 0.0, 1.5), {"event": "silent", "audio_seconds": 1.5}),
        (
            Unanswered(AllFailedError({"assemblyai": REFUSED}), 2.5),
            {"event": "unanswered", "code": "all-backends-failed", "audio_seconds": 2.5},
        ),
    ],
    ids=lambda item: type(item).__name__ if not isinstance(item, dict) else "",
)
def test_facts_are_fields_of_their_json_line(
    event: Event, fields: dict[str, object], set_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("json", debug=True)
    log.log_event(event)
    entry = json.loads(capsys.readouterr().err)
    assert {
        name: entry[name] for name in entry if name not in ("time", "level", "logger", "message")
    } == fields


NASTY = "one\ntwo\r\x1b[31m\x00\x7f\x85\u2028three\udc80"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_strangers_send_makes_no_line_of_its_own(
    log_format: str, set_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(log_format, debug=False)
    logging.getLogger("wyoming_server.x").warning("they sent %s", NASTY)
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    assert shown[:-1].isprintable()
    if log_format == "json":
        assert json.loads(shown)["message"] == f"they sent {NASTY}"
    else:
        assert r"one\ntwo\r\x1b[31m\x00\x7f\x85\u2028three\udc80" in shown


def test_a_warning_of_python_is_one_line(
    set_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("text", debug=False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("careful", stacklevel=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert "UserWarning: careful" in line


STRAYS = """
import asyncio, logging, threading, warnings
from wyoming_server import log
log.set_up("json", debug=False)

class Broken:
    def __del__(self):
        raise KeyError("unraisable")

async def forgotten():
    asyncio.get_running_loop().create_future().set_exception(ValueError("asyncio"))

warnings.warn("careful")
logging.getLogger("somebody.elses").error("library")
thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start()
thread.join()
Broken()
asyncio.run(forgotten())
raise RuntimeError("uncaught")
"""


def test_what_python_and_libraries_complain_of_is_json_too() -> None:
    run = subprocess.run(
        [sys.executable, "-c", STRAYS], check=False, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    entries = [json.loads(line) for line in run.stderr.splitlines()]
    assert [entry["logger"] for entry in entries] == [
        "py.warnings",
        "somebody.elses",
        "stt_failover.strays",
        "stt_failover.strays",
        "asyncio",
        "stt_failover.strays",
    ]
    warning, _, thread, unraisable, forgotten, uncaught = entries
    assert "UserWarning: careful" in warning["message"]
    assert thread["message"] == "worker ended by ZeroDivisionError"
    for entry, end in [
        (thread, "ZeroDivisionError: division by zero"),
        (unraisable, "KeyError: 'unraisable'"),
        (forgotten, "ValueError: asyncio"),
        (uncaught, "RuntimeError: uncaught"),
    ]:
        assert entry["traceback"].endswith(end)
    assert (uncaught["level"], uncaught["message"]) == ("CRITICAL", "nobody has caught RuntimeError")


def test_a_traceback_stays_within_its_json_line(
    set_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("json", debug=False)
    try:
        1 / 0  # noqa: B018 - it is its failure that is wanted
    except ZeroDivisionError:
        logging.getLogger("wyoming_server.x").exception("broken")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["message"] == "broken"
    assert entry["traceback"].startswith("Traceback (most recent call last):\n")
    assert entry["traceback"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("debug", [True, False])
def test_debug_is_for_our_own_lines(
    set_up: Callable[..., None], capsys: pytest.CaptureFixture[str], *, debug: bool
) -> None:
    set_up("text", debug=debug)
    for name in (*OUR_LOGGERS, "wyoming_server.handler"):
        logging.getLogger(name).debug("detail of %s", name)
    for name in ("aiohttp.client", "asyncio", "faster_whisper", "httpx", "huggingface_hub.file_download"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("serious")
    logging.getLogger("somebody").debug("chatter")
    logging.getLogger("somebody").info("well")
    lines = [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]
    details = [f"DEBUG detail of {name}" for name in (*OUR_LOGGERS, "wyoming_server.handler")]
    assert lines == [*(details if debug else []), *["WARNING serious"] * 5, "INFO well"]


async def utterance(*backends: ScriptedBackend) -> list[WyomingEvent]:
    written: list[WyomingEvent] = []

    async def write(event: WyomingEvent) -> None:
        written.append(event)

    engine = new_engine(backends, deadline=8.0, listener=log.log_event)
    one = Utterance(
        engine,
        Wishes(Request(names=("Rumpelstiltskin",)), wants_streaming=True),
        AudioFormat(16_000, 2, 1),
        write,
        max_seconds=60.0,
    )
    one.feed(speech(600))
    one.stop()
    await one.wait_answered()
    return written


@pytest.mark.parametrize("debug", [True, False])
def test_words_that_people_said_are_logged_for_debugging_only(
    set_up: Callable[..., None], capsys: pytest.CaptureFixture[str], *, debug: bool
) -> None:
    set_up("text", debug=debug)
    backend = ScriptedBackend("scripted", CONNECTED, partial("open sesame"), 0.25, final("open sesame now"))
    events = run_virtual(utterance(backend))
    assert "open sesame now" in str(events)
    shown = capsys.readouterr().err
    assert ("open sesame now" in shown) is debug
    assert "Rumpelstiltskin" not in shown
    lines = [line.split(" ", 2)[2] for line in shown.splitlines() if "DEBUG" not in line]
    assert lines == [
        "INFO connected to scripted (0 ms)",
        "INFO scripted answered 250 ms after the last sample",
    ]
