from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wyoming_server import log
from wyoming_server.events import Answered, all_of
from wyoming_server.trace import AttemptTrace, Outcome, Reason, Trace

if TYPE_CHECKING:
    import pytest


def trace(number: int) -> Trace:
    attempt = AttemptTrace(
        backend="cloud",
        reason=Reason.HEDGE,
        outcome=Outcome.FAILED,
        error="overdue",
        started=0.5,
        connected=None,
        first_partial=None,
        final=None,
        bytes_read=320,
        dollars=0.25,
    )
    return Trace(
        audio_seconds=float(number),
        last_speech=None,
        ended=2.0,
        answered=2.5,
        backend="local",
        error=None,
        attempts=(attempt,),
    )


def test_several_listeners_hear_everything_in_their_order() -> None:
    heard: list[tuple[str, object]] = []
    tell = all_of(lambda event: heard.append(("a", event)), lambda event: heard.append(("b", event)))
    event = Answered("cloud", 1.0, 1.0)
    tell(event)
    assert heard == [("a", event), ("b", event)]


def test_traces_are_json_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        log.log_traces([trace(1), trace(2)])
    first, second = (json.loads(message) for message in caplog.messages)
    assert (first["audio_seconds"], second["audio_seconds"]) == (1.0, 2.0)
    assert first["attempts"][0]["reason"] == "the one before is late"
    assert first["attempts"][0]["outcome"] == "failed"
