from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings, strategies as st

from tests.sounds import BYTES_PER_MS, silence, speech
from tests.virtual_clock import virtual_clock
from wyoming_server.recording import Pool, Reader, Recording


def new_recording(max_seconds: float = 60.0) -> Recording:
    return Recording(max_seconds=max_seconds, clock=asyncio.get_running_loop().time)


def numbered(ms: int) -> bytes:
    """Audio of which no two samples are the same (up to 4 s)."""
    return b"".join((at % 65536).to_bytes(2, "little") for at in range(ms * 16))


async def read(recording: Recording, ms: int = 50, most_ms: int | None = None) -> list[bytes]:
    return [frame async for frame in recording.frames(ms, most_ms)]


async def write_slowly(recording: Recording, pcm: bytes, *, piece_ms: int, every: float) -> None:
    for at in range(0, len(pcm), piece_ms * BYTES_PER_MS):
        recording.write(pcm[at : at + piece_ms * BYTES_PER_MS])
        await asyncio.sleep(every)
    recording.end()


@virtual_clock
async def test_a_finished_recording_is_read_from_its_first_sample() -> None:
    recording = new_recording()
    recording.write(numbered(120))
    recording.end()
    frames = await read(recording)
    assert [len(frame) for frame in frames] == [1600, 1600, 640]
    assert b"".join(frames) == numbered(120)


@virtual_clock
async def test_a_reader_who_waits_gets_a_frame_the_moment_that_it_is_whole() -> None:
    recording = new_recording()

    async def listen() -> list[tuple[float, int]]:
        now = asyncio.get_running_loop().time
        return [(now(), len(frame)) async for frame in recording.frames(ms=50)]

    listening = asyncio.create_task(listen())
    await write_slowly(recording, numbered(100), piece_ms=20, every=1.0)
    # 50 ms are there with the third piece of 20 ms, 100 ms with the fifth.
    assert await listening == [(2.0, 1600), (4.0, 1600)]


@virtual_clock
async def test_the_rest_that_fills_no_frame_comes_with_the_end() -> None:
    recording = new_recording()
    recording.write(numbered(30))
    frames = recording.frames(ms=50)
    async with aclosing(frames):
        first = asyncio.ensure_future(anext(frames))
        await asyncio.sleep(5)
        assert not first.done()
        recording.end()
        assert await first == numbered(30)
        assert [frame async for frame in frames] == []


@virtual_clock
async def test_readers_go_at_their_own_pace_and_disturb_nobody() -> None:
    recording = new_recording()

    async def listen(ms: int, pause: float, start: float) -> bytes:
        await asyncio.sleep(start)
        heard = b""
        async for frame in recording.frames(ms):
            heard += frame
            await asyncio.sleep(pause)
        return heard

    readers = [
        asyncio.create_task(listen(ms, pause, start))
        for ms, pause, start in [(50, 0, 0), (10, 3.0, 0), (700, 0, 2.5), (30, 0.1, 400.0)]
    ]
    await write_slowly(recording, numbered(1000), piece_ms=10, every=0.01)
    assert [await reader for reader in readers] == [numbered(1000)] * 4


@virtual_clock
async def test_a_reader_who_leaves_early_leaves_nothing_behind() -> None:
    recording = new_recording()
    recording.write(numbered(50))
    async with aclosing(recording.frames()) as frames:
        await anext(frames)
    waiting = asyncio.create_task(read(recording))
    await asyncio.sleep(1)
    assert len(recording._waiting) == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert recording._waiting == []
    recording.write(numbered(50))
    recording.end()
    assert b"".join(await read(recording)) == numbered(50) * 2


@virtual_clock
async def test_writes_that_follow_each_other_at_once_wake_a_reader_well() -> None:
    recording = new_recording()
    listening = asyncio.create_task(read(recording, ms=10))
    leaving = asyncio.create_task(read(recording, ms=10))
    await asyncio.sleep(1)
    leaving.cancel()
    for at in range(0, 100, 20):
        recording.write(numbered(100)[at * 32 : (at + 20) * 32])
    recording.end()
    assert b"".join(await listening) == numbered(100)
    await asyncio.wait([leaving])


@virtual_clock
async def test_nobody_is_woken_before_there_is_what_they_wait_for() -> None:
    recording = new_recording()
    listening = asyncio.create_task(read(recording, ms=100))
    waiting = asyncio.create_task(recording.wait_ended())
    await asyncio.sleep(1)
    for _ in range(2):
        sleepers = [waiter for _, waiter in recording._waiting]
        assert len(sleepers) == 2
        for _ in range(9):
            recording.write(numbered(10))
            await asyncio.sleep(1)
        assert [waiter for _, waiter in recording._waiting] == sleepers
        recording.write(numbered(10))
        await asyncio.sleep(1)
    recording.end()
    assert b"".join(await listening) == numbered(10) * 20
    await waiting


@virtual_clock
async def test_a_reader_who_is_behind_catches_up_in_large_pieces() -> None:
    recording = new_recording()
    recording.write(numbered(2500))
    recording.end()
    assert [len(frame) // 32 for frame in await read(recording, ms=100, most_ms=1000)] == [1000, 1000, 500]


@virtual_clock
async def test_large_pieces_are_not_waited_for() -> None:
    recording = new_recording()
    listening = asyncio.create_task(read(recording, ms=100, most_ms=1000))
    await write_slowly(recording, numbered(250), piece_ms=50, every=0.05)
    assert [len(frame) // 32 for frame in await listening] == [100, 100, 50]


@virtual_clock
async def test_a_frame_is_a_copy_that_later_audio_does_not_change() -> None:
    recording = new_recording()
    recording.write(numbered(50))
    async with aclosing(recording.frames()) as frames:
        frame = await anext(frames)
        recording.write(silence(2000))
        recording.end()
        assert frame == numbered(50)
        assert isinstance(frame, bytes)


@virtual_clock
async def test_nobody_speaks_and_it_ends() -> None:
    recording = new_recording()
    recording.end()
    assert await read(recording) == []
    assert recording.seconds == 0.0


@virtual_clock
async def test_the_end_has_the_time_of_the_clock_even_if_that_is_zero() -> None:
    recording = new_recording()
    assert recording.ended_at is None
    recording.end()
    assert recording.ended_at == 0.0
    await recording.wait_ended()
    assert await read(recording) == []


@virtual_clock
async def test_a_second_end_changes_nothing() -> None:
    recording = new_recording()
    await asyncio.sleep(2)
    recording.end()
    await asyncio.sleep(2)
    recording.end()
    assert recording.ended_at == 2.0


@virtual_clock
async def test_what_comes_after_the_end_is_dropped() -> None:
    recording = new_recording()
    recording.write(numbered(20))
    recording.end()
    recording.write(speech(600))
    assert recording.seconds == 0.02
    assert b"".join(await read(recording)) == numbered(20)
    assert not recording.speech.heard
    assert not recording.is_capped


@virtual_clock
async def test_the_end_wakes_those_who_wait_for_it_and_not_the_audio() -> None:
    recording = new_recording()
    waiting = [asyncio.create_task(recording.wait_ended()) for _ in range(3)]
    await asyncio.sleep(1)
    recording.write(numbered(500))
    await asyncio.sleep(1)
    assert not any(task.done() for task in waiting)
    recording.end()
    await asyncio.gather(*waiting)
    await recording.wait_ended()


@pytest.mark.parametrize("piece_ms", [10, 70, 500, 1000, 1500])
@virtual_clock
async def test_it_ends_by_itself_when_it_is_full(piece_ms: int) -> None:
    recording = new_recording(max_seconds=1.0)
    waiting = asyncio.create_task(recording.wait_ended())
    listening = asyncio.create_task(read(recording, ms=300))
    pcm = numbered(3000)
    for at in range(0, len(pcm), piece_ms * 32):
        recording.write(pcm[at : at + piece_ms * 32])
        await asyncio.sleep(0.5)
    await waiting
    assert b"".join(await listening) == numbered(1000)
    assert recording.is_capped
    assert recording.seconds == 1.0
    assert recording.ended_at == (-(-1000 // piece_ms) - 1) * 0.5


@virtual_clock
async def test_just_under_the_cap_it_goes_on() -> None:
    recording = new_recording(max_seconds=1.0)
    recording.write(numbered(1000)[:-2])
    assert recording.ended_at is None
    assert not recording.is_capped
    recording.write(b"\1\2")
    assert recording.is_capped


@virtual_clock
async def test_what_is_over_the_cap_is_not_listened_to() -> None:
    recording = new_recording(max_seconds=0.5)
    recording.write(silence(500) + speech(600))
    assert not recording.speech.heard
    assert recording.speech.audio_ms <= 500


@virtual_clock
async def test_speech_is_heard_as_it_is_written() -> None:
    recording = new_recording()
    recording.write(silence(300))
    assert not recording.speech.heard
    recording.write(speech(600))
    assert recording.speech.heard
    assert recording.seconds == 0.9


@settings(max_examples=200)
@given(
    writes=st.lists(st.integers(0, 3000), max_size=30),
    gaps=st.lists(st.sampled_from([0.0, 0.0, 0.01, 1.0]), min_size=1, max_size=5),
    readers=st.lists(
        st.tuples(
            st.integers(1, 300), st.integers(1, 1000), st.floats(0, 10), st.sampled_from([0.0, 0.07, 2.0])
        ),
        max_size=4,
    ),
    cap_ms=st.integers(1, 1500),
)
@virtual_clock
async def test_any_sizes_of_writes_and_reads_give_back_the_same_bytes(
    writes: list[int], gaps: list[float], readers: list[tuple[int, int, float, float]], cap_ms: int
) -> None:
    recording = new_recording(max_seconds=cap_ms / 1000)
    pcm = numbered(1 + sum(writes) // 16)
    sizes: list[list[int]] = []

    async def listen(ms: int, more_ms: int, start: float, pause: float) -> bytes:
        own: list[int] = []
        sizes.append(own)
        await asyncio.sleep(start)
        heard = b""
        async for frame in recording.frames(ms, ms + more_ms):
            own.append(len(frame))
            assert 0 < len(frame) <= (ms + more_ms) * 32
            heard += frame
            await asyncio.sleep(pause)
        assert all(size >= ms * 32 for size in own[:-1])
        return heard

    listening = [asyncio.create_task(listen(*reader)) for reader in readers]
    position = 0
    for number, samples in enumerate(writes):
        recording.write(pcm[position : position + samples * 2])
        position += samples * 2
        await asyncio.sleep(gaps[number % len(gaps)])
    recording.end()
    expected = pcm[: min(position, cap_ms * 32)]
    assert [await task for task in listening] == [expected] * len(readers)
    assert recording.seconds == len(expected) / 32_000
    assert recording.is_capped == (position >= cap_ms * 32)
    assert recording._waiting == []


# A reader


@virtual_clock
async def test_a_reader_passes_the_recording_on_and_counts_what_was_taken() -> None:
    recording = new_recording()
    reader, other = Reader(recording), Reader(recording)
    recording.write(speech(600))
    async with aclosing(reader.frames(50, 200)) as frames:
        assert await anext(frames) == speech(600)[: 200 * BYTES_PER_MS]
        assert (reader.bytes_read, other.bytes_read) == (200 * BYTES_PER_MS, 0)
    assert reader.seconds == recording.seconds
    assert reader.speech is recording.speech
    assert reader.ended_at is None
    waiting = asyncio.create_task(reader.wait_ended())
    await asyncio.sleep(1)
    assert not waiting.done()
    recording.end()
    await waiting
    assert reader.ended_at == recording.ended_at == 1.0
    assert b"".join([frame async for frame in other.frames()]) == speech(600)
    assert other.bytes_read == len(speech(600))


@virtual_clock
async def test_a_reader_that_is_closed_waits_for_nothing_any_more() -> None:
    recording = new_recording()
    frames = Reader(recording).frames()
    waiting = asyncio.ensure_future(anext(frames))
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    await frames.aclose()
    assert recording._waiting == []


# What many recordings may hold together


def sharing(pool: Pool, max_seconds: float = 60.0) -> Recording:
    return Recording(max_seconds=max_seconds, clock=lambda: 0.0, pool=pool)


def test_the_only_recording_of_a_pool_may_fill_it() -> None:
    recording = sharing(Pool(9601))
    recording.write(bytes(9000))
    assert recording.ended_at is None
    recording.write(bytes(9000))
    assert recording.is_capped
    assert recording.seconds == 0.3


def test_where_a_pool_is_full_those_with_less_than_their_share_go_on() -> None:
    pool = Pool(30_000)
    long, short, other = (sharing(pool) for _ in range(3))
    long.write(bytes(30_000))
    short.write(bytes(9000))
    assert long.is_capped
    assert not short.is_capped
    other.write(bytes(11_000))
    assert other.is_capped
    assert other.seconds * 32_000 == 10_000


def test_a_recording_that_was_released_holds_nothing_and_still_knows_its_length() -> None:
    pool = Pool(30_000)
    first, second = sharing(pool), sharing(pool)
    first.write(bytes(29_000))
    first.release()
    first.release()
    first.write(bytes(1000))
    assert (first.seconds, first.ended_at) == (29_000 / 32_000, 0.0)
    second.write(bytes(29_000))
    assert not second.is_capped


@virtual_clock
async def test_a_reader_that_is_left_behind_by_the_release_comes_to_the_end() -> None:
    recording = new_recording()
    recording.write(numbered(120))
    async with aclosing(recording.frames()) as frames:
        assert await anext(frames)
        recording.release()
        assert [frame async for frame in frames] == []


@given(
    writes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=60),
    most=st.integers(1, 20_000),
)
def test_recordings_never_hold_more_than_twice_what_their_pool_may(
    writes: list[tuple[int, int]], most: int
) -> None:
    pool = Pool(most)
    recordings = [sharing(pool) for _ in range(10)]
    for number, count in writes:
        recordings[number].write(bytes(2 * count))
        if number == 9:
            recordings[9].release()
    assert sum(len(recording._pcm) for recording in recordings) <= 2 * most
    for recording in recordings:
        recording.release()
    assert pool._held == 0
