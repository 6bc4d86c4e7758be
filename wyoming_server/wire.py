"""Reading Wyoming events: quickly, and without believing any length that a peer announces.

An event is one line of JSON, then `data_length` bytes of JSON, then `payload_length` bytes.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from wyoming.event import Event

from wyoming_server.errors import FramingError

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_DATA_BYTES: Final = 64 * 1024
MAX_PAYLOAD_BYTES: Final = 1024 * 1024
_READ_BYTES: Final = 64 * 1024
_MOST_IN_A_ROW: Final = 16
"""Events that a client may send at once before others have their turn."""


class EventReader:
    """Cuts a stream into events; whatever has arrived is parsed without waiting in between."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._header: _Header | None = None
        self._in_a_row = 0

    async def read(self) -> Event | None:
        """The next event, None at the end of the stream; raises FramingError."""
        self._in_a_row += 1
        if self._in_a_row > _MOST_IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)
        while (event := self._take()) is None:
            received = await self._stream.read(_READ_BYTES)
            if not received:
                if self._buffer or self._header:
                    raise FramingError("the connection ended in the middle of an event")
                return None
            self._buffer += received
        return event

    def _take(self) -> Event | None:
        if self._header is None:
            end = self._buffer.find(b"\n", 0, MAX_HEADER_BYTES)
            if end < 0:
                if len(self._buffer) >= MAX_HEADER_BYTES:
                    raise FramingError(f"a header line is longer than {MAX_HEADER_BYTES} bytes")
                return None
            self._header = _Header(bytes(self._buffer[:end]))
            del self._buffer[: end + 1]
        header = self._header
        if len(self._buffer) < header.data_length + header.payload_length:
            return None
        self._header = None
        data, rest = self._cut(header.data_length), self._cut(header.payload_length)
        return Event(header.type, header.data | _json_object(data) if data else header.data, rest or None)

    def _cut(self, length: int) -> bytes:
        piece = bytes(self._buffer[:length])
        del self._buffer[:length]
        return piece


class _Header:
    """The first line of an event, checked."""

    def __init__(self, line: bytes) -> None:
        fields = _json_object(line)
        kind = fields.get("type")
        if not isinstance(kind, str):
            raise FramingError('an event header needs a "type" that is a string')
        self.type: str = kind
        data = fields.get("data") or {}
        if not isinstance(data, dict):
            raise FramingError('the "data" of an event must be a JSON object')
        self.data: dict[str, Any] = data
        self.data_length = _length(fields, "data_length", MAX_DATA_BYTES)
        self.payload_length = _length(fields, "payload_length", MAX_PAYLOAD_BYTES)


def _json_object(encoded: bytes) -> dict[str, Any]:
    try:
        text = encoded.decode()
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could never be sent back
    except (ValueError, RecursionError):
        raise FramingError("an event must be JSON on a line of its own") from None
    if not isinstance(value, dict):
        raise FramingError("an event must be a JSON object")
    return value


def _length(fields: dict[str, Any], name: str, most: int) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= most:  # True is an int, but no length
        raise FramingError(f"{name} must be a whole number of bytes up to {most}")
    return value
