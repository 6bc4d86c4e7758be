from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event, write_event

from tests.virtual_clock import virtual_clock
from wyoming_server.errors import FramingError
from wyoming_server.wire import MAX_DATA_BYTES, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, EventReader

UTTERANCE = [
    Transcribe(language="de", context={"streaming": True}).event(),
    AudioStart(16_000, 2, 1).event(),
    AudioChunk(16_000, 2, 1, b"\n{}\r\n" * 100).event(),
    AudioStop().event(),
]


def encoded(*events: Event) -> bytes:
    """As the wyoming package writes them."""
    stream = io.BytesIO()
    for event in events:
        write_event(event, stream)
    return stream.getvalue()


def header(**fields: Any) -> bytes:
    return json.dumps({"type": "ping", **fields}).encode() + b"\n"


def stream_of(*pieces: bytes, ends: bool = True) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    for piece in pieces:
        stream.feed_data(piece)
    if ends:
        stream.feed_eof()
    return stream


async def read_all(stream: asyncio.StreamReader) -> list[Event]:
    reader = EventReader(stream)
    events = []
    while (event := await reader.read()) is not None:
        events.append(event)
    return events


async def refusal(*pieces: bytes, ends: bool = False) -> str:
    """What is said of bytes that are no event; on a stream that goes on, so that nothing is waited for."""
    reader = EventReader(stream_of(*pieces, ends=ends))
    with pytest.raises(FramingError) as caught:  # noqa: PT012 - events before the wrong one are well
        while True:
            await reader.read()
    assert caught.value.code == "bad-framing"
    return str(caught.value)


@virtual_clock
async def test_events_are_read_as_the_wyoming_package_writes_them() -> None:
    assert await read_all(stream_of(encoded(*UTTERANCE))) == UTTERANCE


@virtual_clock
async def test_the_end_of_the_stream_is_told_again_and_again() -> None:
    reader = EventReader(stream_of())
    assert await reader.read() is None
    assert await reader.read() is None


@virtual_clock
async def test_data_may_stand_in_the_header_and_behind_it() -> None:
    behind = b'{"b": 3, "c": 4}'
    line = header(data={"a": 1, "b": 2}, data_length=len(behind))
    assert await read_all(stream_of(line, behind)) == [Event("ping", {"a": 1, "b": 3, "c": 4})]


@virtual_clock
async def test_the_least_event_is_a_type() -> None:
    assert await read_all(stream_of(b'{"type":"ping"}\n')) == [Event("ping", {}, None)]


@virtual_clock
async def test_fields_that_are_null_count_as_missing() -> None:
    line = header(data=None, data_length=None, payload_length=None)
    assert await read_all(stream_of(line)) == [Event("ping")]


@virtual_clock
async def test_what_follows_an_event_is_left_alone_until_it_is_asked_for() -> None:
    reader = EventReader(stream_of(header(), b"no JSON\n"))
    assert await reader.read() == Event("ping")
    with pytest.raises(FramingError):
        await reader.read()


@virtual_clock
async def test_an_event_is_given_out_without_waiting_for_what_comes_next() -> None:
    reader = EventReader(stream_of(encoded(*UTTERANCE[:3]), b'{"type"', ends=False))
    assert [await reader.read() for _ in range(3)] == UTTERANCE[:3]


@virtual_clock
async def test_a_read_that_is_given_up_loses_nothing() -> None:
    whole = encoded(*UTTERANCE)
    stream = asyncio.StreamReader()
    reader = EventReader(stream)
    events = []
    for at in range(0, len(whole), 7):
        stream.feed_data(whole[at : at + 7])
        try:
            async with asyncio.timeout(1):
                events.append(await reader.read())
        except TimeoutError:
            continue
    assert events == UTTERANCE


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
events_ = st.builds(
    Event,
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=8), json_values, max_size=4),
    st.none() | st.binary(min_size=1, max_size=200),
)


@given(events=st.lists(events_, max_size=5), cuts=st.lists(st.integers(1, 200), min_size=1, max_size=10))
@virtual_clock
async def test_any_split_of_any_events_gives_back_the_same_events(
    events: list[Event], cuts: list[int]
) -> None:
    whole = encoded(*events)
    stream = asyncio.StreamReader()
    reading = asyncio.create_task(read_all(stream))
    at, number = 0, 0
    while at < len(whole):
        size = cuts[number % len(cuts)]
        stream.feed_data(whole[at : at + size])
        at, number = at + size, number + 1
        await asyncio.sleep(number % 2)
    stream.feed_eof()
    assert await reading == events


@given(events=st.lists(events_, min_size=1, max_size=3), data=st.data())
@virtual_clock
async def test_an_event_that_is_cut_off_is_an_error_and_never_half_an_event(
    events: list[Event], data: st.DataObject
) -> None:
    whole = encoded(*events)
    ends = [len(encoded(*events[:count])) for count in range(len(events) + 1)]
    cut = data.draw(st.integers(0, len(whole) - 1).filter(lambda at: at not in ends))
    reader = EventReader(stream_of(whole[:cut]))
    complete = sum(end <= cut for end in ends) - 1
    assert [await reader.read() for _ in range(complete)] == events[:complete]
    with pytest.raises(FramingError, match="in the middle of an event"):
        await reader.read()


@settings(max_examples=300)
@given(junk=st.binary(min_size=1, max_size=300))
@virtual_clock
async def test_any_bytes_are_events_or_one_clear_error(junk: bytes) -> None:
    text = ""
    try:
        await read_all(stream_of(junk))
    except FramingError as error:
        text = str(error)
    assert "\n" not in text


@pytest.mark.parametrize("name", ["data_length", "payload_length"])
@pytest.mark.parametrize(
    "length",
    [-1, -(10**30), 10**30, True, False, 1.0, 0.0, 1e300, "5", "", [], {}, float("nan"), float("inf")],
    ids=str,
)
@virtual_clock
async def test_a_length_that_is_none_is_refused_before_anything_is_read(name: str, length: Any) -> None:
    assert await refusal(header(**{name: length})) in (
        f"{name} must be a whole number of bytes up to {MAX_DATA_BYTES}",
        f"{name} must be a whole number of bytes up to {MAX_PAYLOAD_BYTES}",
    )


@pytest.mark.parametrize(
    ("name", "most"), [("data_length", MAX_DATA_BYTES), ("payload_length", MAX_PAYLOAD_BYTES)]
)
@virtual_clock
async def test_one_byte_over_the_bound_is_refused_and_one_less_is_not(name: str, most: int) -> None:
    assert await refusal(header(**{name: most + 1})) == f"{name} must be a whole number of bytes up to {most}"
    body = b"{}" + b" " * (most - 2)
    (event,) = await read_all(stream_of(header(**{name: most}), body))
    assert event.type == "ping"
    assert event.payload == (body if name == "payload_length" else None)


def test_the_bounds_are_what_the_documents_say() -> None:
    assert MAX_HEADER_BYTES == MAX_DATA_BYTES == 64 * 1024
    assert MAX_PAYLOAD_BYTES == 1024 * 1024


@virtual_clock
async def test_a_header_line_may_be_64_kib_with_its_line_feed_and_no_longer() -> None:
    line = b'{"type": "ping"' + b" " * (MAX_HEADER_BYTES - 17) + b"}\n"
    assert len(line) == MAX_HEADER_BYTES
    assert await read_all(stream_of(line)) == [Event("ping")]
    longer = line[:-2] + b" }\n"
    assert await refusal(longer) == f"a header line is longer than {MAX_HEADER_BYTES} bytes"
    # Nor where more of it is at hand, because an event before it has been waited for.
    before = header(payload_length=MAX_HEADER_BYTES) + bytes(MAX_HEADER_BYTES)
    assert await refusal(before, longer) == f"a header line is longer than {MAX_HEADER_BYTES} bytes"


@virtual_clock
async def test_a_header_line_without_an_end_is_refused_when_it_reaches_the_bound() -> None:
    stream = asyncio.StreamReader()
    reading = asyncio.create_task(EventReader(stream).read())
    for _ in range(63):
        stream.feed_data(b" " * 1024)
        await asyncio.sleep(1)
    assert not reading.done()
    stream.feed_data(b" " * 1024)
    with pytest.raises(FramingError, match="longer than"):
        await reading


@virtual_clock
async def test_no_more_is_kept_than_was_announced() -> None:
    stream = asyncio.StreamReader()
    reader = EventReader(stream)
    reading = asyncio.create_task(reader.read())
    stream.feed_data(header(payload_length=MAX_PAYLOAD_BYTES))
    for _ in range(1023):
        stream.feed_data(bytes(1024))
        await asyncio.sleep(1)
    stream.feed_data(bytes(5 * MAX_PAYLOAD_BYTES))
    await reading
    assert len(reader._buffer) <= 64 * 1024


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b'{"type": "ping"',
        b"{'type': 'ping'}",
        b'{"type": "ping"} {"type": "ping"}',
        b"\xff\xfe\xfd",
        b'{"type": "\xe4\xf6\xfc"}',
        b'{"type": "\xed\xa0\x80"}',
        '{"type": "ping"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"type": "ping"}',
        b'{"type": "ping", "data": {"text": "\\ud800"}}',
        b'{"type": "\\udfff"}',
        b'{"type": "ping", "payload_length": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda line: repr(line[:40]),
)
@virtual_clock
async def test_a_line_that_is_no_json_in_utf8_is_refused(line: bytes) -> None:
    assert await refusal(line + b"\n") == "an event must be JSON on a line of its own"


@pytest.mark.parametrize("depth", [500, 1000, 30_000])
@virtual_clock
async def test_deep_nesting_is_refused_or_can_be_sent_back(depth: int) -> None:
    line = b'{"type": "ping", "data": {"text": ' + b"[" * depth + b"]" * depth + b"}}\n"
    try:
        events = await read_all(stream_of(line))
    except FramingError:
        return
    assert len(encoded(*events)) > 2 * depth


@pytest.mark.parametrize("line", [b"[]", b"5", b"null", b'"ping"', b"true"])
@virtual_clock
async def test_a_line_that_is_no_object_is_refused(line: bytes) -> None:
    assert await refusal(line + b"\n") == "an event must be a JSON object"


@pytest.mark.parametrize("line", [b"{}", b'{"type": null}', b'{"type": 5}', b'{"type": ["ping"]}'])
@virtual_clock
async def test_a_header_without_a_type_is_refused(line: bytes) -> None:
    assert await refusal(line + b"\n") == 'an event header needs a "type" that is a string'


@pytest.mark.parametrize("value", [[1], "text", 5, True])
@virtual_clock
async def test_data_that_is_no_object_is_refused(value: Any) -> None:
    assert await refusal(header(data=value)) == 'the "data" of an event must be a JSON object'
    behind = json.dumps(value).encode()
    assert await refusal(header(data_length=len(behind)), behind) == "an event must be a JSON object"


@pytest.mark.parametrize("behind", [b"\xff\xff", b"{]", b'{"a": "\\udc00"}', b"[" * 60_000])
@virtual_clock
async def test_data_behind_the_header_that_is_no_json_is_refused(behind: bytes) -> None:
    text = await refusal(header(data_length=len(behind)), behind)
    assert text == "an event must be JSON on a line of its own"


@virtual_clock
async def test_escaped_characters_beyond_the_first_plane_are_well() -> None:
    (event,) = await read_all(stream_of(b'{"type": "ping", "data": {"text": "\\ud83d\\ude00 \\u00e4"}}\n'))
    assert event.data == {"text": "😀 ä"}


@pytest.mark.parametrize(
    "part", [b'{"type": "pi', header(data_length=5), header(data_length=5) + b"{}", header(payload_length=1)]
)
@virtual_clock
async def test_half_an_event_at_the_end_of_the_stream_is_an_error(part: bytes) -> None:
    text = await refusal(header(), part, ends=True)
    assert text == "the connection ended in the middle of an event"


@virtual_clock
async def test_a_connection_that_breaks_is_the_reason_that_it_broke() -> None:
    stream = stream_of(b'{"type"', ends=False)
    stream.set_exception(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await EventReader(stream).read()


async def test_a_client_that_floods_lets_others_have_their_turn() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    assert len(await read_all(stream_of(header() * 1000))) == 1000
    others.cancel()
    assert turns >= 10
