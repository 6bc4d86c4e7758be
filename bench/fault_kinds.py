"""Every kind of fault that a primary or a worker may have, at every point where it makes sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bench.fault_primary import Primary
from bench.service import recording
from tests.emulators.assemblyai import (
    Close,
    DelayFinal,
    Drop,
    EmptyFinal,
    ErrorFrame,
    Fault,
    HttpStatus,
    Latency,
    NeverAnswer,
    Send,
    SlowBegin,
    Stall,
    StopReading,
    SwapFinals,
)
from tests.end_to_end.clips import MUTED, Clip

if TYPE_CHECKING:
    from bench.fault_primary import LineFault, Where
    from tests.emulators.assemblyai_faults import Action

Name = Literal["assemblyai", "whisper", "local"]
WorkerFault = Literal[
    "",
    "cold for 20 s",
    "model unavailable",
    "out of memory",
    "overloaded",
    "refused",
    "black hole",
    "wrong key",
    "stalls",
    "answers empty",
]

PADDED: Final = MUTED.followed_by_silence(0.7)
"""Ends as Home Assistant ends it."""
CUT_OFF: Final = Clip(recording(), MUTED.text, MUTED.language)
"""Ends with the last word, so that nothing can be known before the end."""
CONNECTING: Final = "connecting"
LAST: Final = "last 200 ms"
AFTER: Final = "after audio-stop"
POINTS: Final = {"first second": 500, "mid-speech": 1000, LAST: int(CUT_OFF.seconds * 1000) - 150}
"""Milliseconds of audio. In the last 200 ms and afterwards it is CUT_OFF that is said."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A fault at a point. `shows`: whether the server can see it before audio-stop."""

    kind: str
    point: str
    primary: Primary | None
    backup: Name
    """Who should answer."""
    shows: bool = True
    worker: WorkerFault = ""
    backends: str = "assemblyai,whisper,local"

    @property
    def clip(self) -> Clip:
        """What is said."""
        return CUT_OFF if self.point in (LAST, AFTER) else PADDED

    @property
    def baseline(self) -> tuple[Name, bool]:
        """Which of the baselines it is measured against."""
        return self.backup, self.clip is CUT_OFF


def baselines() -> list[Cell]:
    """Each backend asked alone, with and without the silence at the end."""
    names: tuple[Name, ...] = ("assemblyai", "whisper", "local")
    return [
        Cell("", point, Primary() if name == "assemblyai" else None, name, backends=name)
        for name in names
        for point in (CONNECTING, AFTER)
    ]


def cells() -> list[Cell]:
    """The whole matrix."""
    return [*_connecting(), *_closings(), *_stalls(), *_oddities(), *_workers()]


def _connecting() -> list[Cell]:
    places: dict[str, Where] = {
        "refused": "refused",
        "unroutable": "unroutable",
        "accepted, never a word": "silent",
        "TLS not trusted": "untrusted",
        "TLS handshake never answered": "silent TLS",
        "DNS: no such name": "no name",
        "DNS: no answer": "slow names",
    }
    actions: dict[str, Action] = {
        f"HTTP {status}": HttpStatus(status) for status in (401, 402, 403, 404, 429, 500, 502, 503)
    }
    actions |= {
        "upgrade never answered": NeverAnswer(),
        "Begin never": Stall(),
        "Begin after 2 s": SlowBegin(2.0),
    }
    slow = Primary(latency=Latency(connect=2.0))
    return [
        *(Cell(kind, CONNECTING, Primary(where=where), "whisper") for kind, where in places.items()),
        *(_emulated(kind, CONNECTING, action) for kind, action in actions.items()),
        Cell("handshake takes 2 s", CONNECTING, slow, "whisper"),
    ]


def _closings() -> list[Cell]:
    actions: dict[str, Action] = {f"close {code}": Close(code) for code in (1000, 1001, 1011, 1012, 1013)}
    actions |= {
        f"error {code}": ErrorFrame(code, "something is wrong")
        for code in (1008, 3005, 3006, 3007, 3008, 3009, 4001)
    }
    actions["reset"] = Drop()
    return [
        _emulated(kind, point, action, shows=point != AFTER)
        for kind, action in actions.items()
        for point in (CONNECTING, *POINTS, AFTER)
    ]


def _stalls() -> list[Cell]:
    lines: tuple[LineFault, ...] = ("half-closed", "one byte a second")
    slow: LineFault = "one byte a second"
    return [
        *(_emulated("stall", point, Stall(), shows=False) for point in (*POINTS, AFTER)),
        *(_emulated("stops reading", point, StopReading(), shows=False) for point in (*POINTS, AFTER)),
        _emulated("final after 2 s", AFTER, DelayFinal(2.0), shows=False),
        Cell(slow, CONNECTING, Primary(line=slow), "whisper"),
        *(
            Cell(kind, point, Primary(line=kind, after_ms=ms), "whisper", shows=kind == "half-closed")
            for kind in lines
            for point, ms in POINTS.items()
        ),
    ]


def _oddities() -> list[Cell]:
    nonsense: dict[str, str | bytes] = {
        "garbage JSON": '{"type":"Turn",',
        "JSON that is no object": "[1]",
        "binary frame": b"\xff\x00",
        "Turn without fields": '{"type":"Turn"}',
    }
    return [
        *(
            _emulated(kind, point, Send(data), backup="assemblyai")
            for kind, data in nonsense.items()
            for point in (CONNECTING, "mid-speech", AFTER)
        ),
        _emulated("final with no words", AFTER, EmptyFinal(), shows=False),
        _emulated("finals out of order", AFTER, SwapFinals(), shows=False, backup="assemblyai"),
    ]


def _workers() -> list[Cell]:
    faults: dict[WorkerFault, bool] = {
        "cold for 20 s": False,
        "stalls": False,
        "out of memory": False,
        "overloaded": False,
        "answers empty": False,
        "model unavailable": False,
        "refused": True,
        "black hole": True,
        "wrong key": True,
    }
    first: list[tuple[str, str, Action]] = [
        ("HTTP 503", CONNECTING, HttpStatus(503)),
        ("reset", "mid-speech", Drop()),
        ("reset", AFTER, Drop()),
        ("stall", AFTER, Stall()),
    ]
    return [
        _emulated(
            f"{kind}; worker: {fault}",
            point,
            action,
            backup="local",
            shows=shows and point != AFTER,
            worker=fault,
        )
        for fault, shows in faults.items()
        for kind, point, action in first
    ]


def _emulated(
    kind: str,
    point: str,
    action: Action,
    *,
    backup: Name = "whisper",
    shows: bool = True,
    worker: WorkerFault = "",
) -> Cell:
    if point in POINTS:
        fault = Fault("audio", action, audio_ms=POINTS[point])
    else:
        fault = Fault("connect" if point == CONNECTING else "end", action)
    return Cell(kind, point, Primary((fault,)), backup, shows, worker)
