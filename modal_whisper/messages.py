"""The messages of /ws/stt, both directions; docs/ws-stt.md describes them for other implementers.

Audio travels as binary messages of 16 kHz, mono, signed 16-bit little-endian PCM; everything else is one JSON
object a text message, told apart by its "type". Unknown fields are ignored so that either side can be newer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from modal_whisper.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_MESSAGE_BYTES = 1024 * 1024
"""The largest message, text or binary, that either side may send; Modal's own bound is 2 MiB."""


@dataclass(frozen=True, slots=True)
class Start:
    """Client: an utterance begins. Binary audio and one Stop follow."""

    type: ClassVar[str] = "start"
    language: str | None = None
    """A language code, with or without a region or script; None lets the model detect it."""
    names: tuple[str, ...] = ()
    """Names the speaker may use, most important first."""
    terms: tuple[str, ...] = ()
    """Words of lower priority than the names."""
    languages: tuple[str, ...] = ()
    """The languages to detect among, where none is given; empty for all."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Client: the person has stopped; the final is due."""

    type: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker: answers Start at once, before the model has loaded."""

    type: ClassVar[str] = "ready"
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Partial:
    """Worker: the whole text so far; replaces any partial before it."""

    type: ClassVar[str] = "partial"
    text: str


@dataclass(frozen=True, slots=True)
class Final:
    """Worker: the answer, exactly once an utterance. An empty text means that nobody spoke."""

    type: ClassVar[str] = "final"
    text: str
    language: str | None = None
    audio_ms: int = 0
    """How much audio of this utterance the worker received."""
    work_ms: int = 0
    """How long it computed."""
    model: str = ""
    """The name of the model that wrote it: another one than in Ready, where that was not up in time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Worker: this utterance gets no final. The connection stays usable."""

    type: ClassVar[str] = "error"
    code: str
    """bad-message, too-long, model-unavailable, overloaded or internal."""
    message: str


ClientMessage = Start | Stop
WorkerMessage = Ready | Partial | Final | Failure
_CLIENT_TYPES: dict[str, type[ClientMessage]] = {kind.type: kind for kind in (Start, Stop)}
_WORKER_TYPES: dict[str, type[WorkerMessage]] = {kind.type: kind for kind in (Ready, Partial, Final, Failure)}


def encode(message: ClientMessage | WorkerMessage) -> str:
    """The message as the JSON text that goes on the wire: ASCII, which can be sent whatever is in it."""
    return json.dumps({"type": message.type, **asdict(message)})


def decode_client(text: str) -> ClientMessage:
    """Read a client's message; raises MessageError in words that help the client's author."""
    return _decode(text, _CLIENT_TYPES)


def decode_worker(text: str) -> WorkerMessage:
    """Read a worker's message; raises MessageError."""
    return _decode(text, _WORKER_TYPES)


_Message = TypeVar("_Message", ClientMessage, WorkerMessage)

_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a string", lambda value: isinstance(value, str)),
    "str | None": ("a string or null", lambda value: value is None or isinstance(value, str)),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "tuple[str, ...]": (
        "a list of strings",
        lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    ),
}


def _decode(text: str, types: Mapping[str, type[_Message]]) -> _Message:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise MessageError("a text message must be one JSON object") from None
    if not isinstance(data, dict):
        raise MessageError("a text message must be one JSON object")
    name = data.get("type")
    kind = types.get(name) if isinstance(name, str) else None
    if kind is None:
        raise MessageError(f"unknown message type; expected one of: {', '.join(types)}")
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name not in data:
            continue
        wanted, is_valid = _CHECKS[str(field.type)]
        value = data[field.name]
        if not is_valid(value):
            raise MessageError(f"{field.name} of {kind.type} must be {wanted}")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**values)
    except TypeError:
        raise MessageError(f"{kind.type} lacks a required field") from None
