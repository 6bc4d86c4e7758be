from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING

import pytest

from modal_whisper.transcriber import WhisperTranscriber
from tests.emulators.assemblyai import (
    AssemblyAIEmulator,
    Drop,
    ErrorFrame,
    Fault,
    Stall,
    script_for,
)
from tests.emulators.assemblyai_sync import SyncEmulator
from tests.end_to_end.clips import LEADER, MUTED, PASSWORD, WEASELS, Clip
from tests.end_to_end.stage import GOOD_KEY, WRONG_KEY
from tests.end_to_end.worker import Witness

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.stage import Stage
    from tests.end_to_end.worker import Worker


def service(clip: Clip, *faults: Fault) -> AssemblyAIEmulator:
    """AssemblyAI, told what is said in a recording."""
    return AssemblyAIEmulator({GOOD_KEY}, script=script_for(clip.pcm, clip.text), faults=faults)


async def test_assemblyai_answers_while_all_is_well(stage: Stage, worker: Worker) -> None:
    async with service(PASSWORD) as assemblyai:
        scene = await stage.play(PASSWORD, assemblyai=assemblyai, worker=worker, chunk_ms=10)

    scene.assert_answered_by("assemblyai")
    assert scene.answer.text == PASSWORD.text
    (session,) = assemblyai.sessions
    assert bytes(session.audio).rstrip(b"\0") == PASSWORD.pcm.rstrip(b"\0")
    assert len(PASSWORD.pcm) <= session.audio_bytes < len(PASSWORD.pcm) + 1600
    assert worker.heard == []


async def test_assemblyai_answers_a_person_who_falls_silent_before_the_microphone_closes(
    stage: Stage, worker: Worker
) -> None:
    said = MUTED.followed_by_silence(0.7)  # about what Home Assistant waits for
    async with service(said) as assemblyai:
        scene = await stage.play(said, assemblyai=assemblyai, worker=worker)

    scene.assert_answered_by("assemblyai")
    assert scene.answer.text == MUTED.text
    assert worker.heard == []


async def test_without_a_key_the_worker_is_asked_straight_away(stage: Stage, worker: Worker) -> None:
    async with service(LEADER) as assemblyai:
        scene = await stage.play(LEADER, assemblyai=assemblyai, worker=worker, ASSEMBLYAI_API_KEY="")

    scene.assert_answered_by("whisper")
    scene.assert_whisper_lost_nothing(worker.heard)
    assert scene.answer.language == LEADER.language
    assert assemblyai.sessions == []
    assert scene.has_logged("assemblyai is left out: ASSEMBLYAI_API_KEY is not set")


async def test_with_a_wrong_key_the_worker_takes_over_within_three_seconds(
    stage: Stage, worker: Worker
) -> None:
    async with service(MUTED) as assemblyai:
        scene = await stage.play(MUTED, assemblyai=assemblyai, worker=worker, ASSEMBLYAI_API_KEY=WRONG_KEY)

    scene.assert_answered_by("whisper")
    scene.assert_whisper_lost_nothing(worker.heard)
    assert scene.seconds_at_takeover("assemblyai", r"sign-in refused \(1008\)", "whisper") < MUTED.seconds
    assert scene.connected_at("whisper") < 3
    assert [session.close_code for session in assemblyai.sessions] == [1008]


async def test_a_refused_connection_hands_over(stage: Stage, worker: Worker, refusing_port: int) -> None:
    scene = await stage.play(MUTED, worker=worker, ASSEMBLYAI_STREAMING_URL=f"ws://127.0.0.1:{refusing_port}")

    scene.assert_answered_by("whisper")
    scene.assert_whisper_lost_nothing(worker.heard)
    assert scene.seconds_at_takeover("assemblyai", r"cannot connect \(.*\)", "whisper") < MUTED.seconds


async def test_a_service_that_accepts_and_never_speaks_hands_over(
    stage: Stage, worker: Worker, black_hole: int
) -> None:
    scene = await stage.play(
        MUTED,
        worker=worker,
        ASSEMBLYAI_STREAMING_URL=f"ws://127.0.0.1:{black_hole}",
        ASSEMBLYAI_CONNECT_TIMEOUT=0.5,
    )

    scene.assert_answered_by("whisper")
    scene.assert_whisper_lost_nothing(worker.heard)
    reason = "no connection within 0.5 s"
    assert 0.3 < scene.seconds_at_takeover("assemblyai", reason, "whisper") <= MUTED.seconds


@pytest.mark.usefixtures("soon_gives_up_on_endings")
async def test_a_service_that_opens_but_never_begins_hands_over(stage: Stage, worker: Worker) -> None:
    async with service(MUTED, Fault("connect", Stall())) as assemblyai:
        scene = await stage.play(MUTED, assemblyai=assemblyai, worker=worker, ASSEMBLYAI_CONNECT_TIMEOUT=0.5)

    scene.assert_answered_by("whisper")
    scene.assert_whisper_lost_nothing(worker.heard)
    reason = "no session within 0.5 s"
    assert 0.3 < scene.seconds_at_takeover("assemblyai", reason, "whisper") <= MUTED.seconds


async def test_a_connection_dropped_in_mid_speech_hands_over(stage: Stage, worker: Worker) -> None:
    async with service(WEASELS, Fault("audio", Drop(), audio_ms=1500)) as assemblyai:
        scene = await stage.play(WEASELS, assemblyai=assemblyai, worker=worker)

    scene.assert_answered_by("whisper")
    scene.assert_whisper_lost_nothing(worker.heard)
    reason = r"the connection was dropped \(1006\)"
    assert 1.5 <= scene.seconds_at_takeover("assemblyai", reason, "whisper") < WEASELS.seconds
    assert scene.has_logged(r"connected to assemblyai \(\d+ ms\)")


async def test_after_a_drop_the_same_vendors_other_endpoint_gets_the_whole_utterance(
    stage: Stage, worker: Worker
) -> None:
    other = SyncEmulator({GOOD_KEY}, script=script_for(WEASELS.pcm, WEASELS.text))
    async with service(WEASELS, Fault("audio", Drop(), audio_ms=1500)) as assemblyai, other:
        scene = await stage.play(
            WEASELS,
            assemblyai=assemblyai,
            worker=worker,
            BACKENDS="assemblyai,assemblyai_sync,whisper",
            ASSEMBLYAI_SYNC_URL=other.url,
        )

    scene.assert_answered_by("assemblyai_sync")
    assert scene.answer.text == WEASELS.text
    (request,) = other.requests
    assert bytes(request.audio) == WEASELS.pcm
    assert worker.heard == []
    reason = r"the connection was dropped \(1006\)"
    assert 1.5 <= scene.seconds_at_takeover("assemblyai", reason, "assemblyai_sync") < WEASELS.seconds


async def test_an_error_frame_in_mid_speech_hands_over(stage: Stage, worker: Worker) -> None:
    error = ErrorFrame(3005, "Session Cancelled: An error occurred")
    async with service(MUTED, Fault("audio", error, audio_ms=800)) as assemblyai:
        scene = await stage.play(MUTED, assemblyai=assemblyai, worker=worker)

    scene.assert_answered_by("whisper")
    scene.assert_whisper_lost_nothing(worker.heard)
    reason = r"the service has a fault \(3005\)"
    assert 0.8 <= scene.seconds_at_takeover("assemblyai", reason, "whisper") < MUTED.seconds


@pytest.mark.usefixtures("soon_gives_up_on_endings")
async def test_silence_after_the_end_hands_over(stage: Stage, worker: Worker) -> None:
    async with service(MUTED, Fault("end", Stall())) as assemblyai:
        scene = await stage.play(MUTED, assemblyai=assemblyai, worker=worker, ASSEMBLYAI_TIMEOUT=0.3)

    scene.assert_answered_by("whisper")
    scene.assert_whisper_lost_nothing(worker.heard)
    reason = "no final within 0.3 s after the last sample"
    assert scene.seconds_at_takeover("assemblyai", reason, "whisper") == pytest.approx(
        MUTED.seconds, abs=0.01
    )
    (session,) = assemblyai.sessions
    assert session.terminated


async def test_with_the_worker_gone_too_the_local_model_answers(
    stage: Stage, refusing_port: int, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Witness(WhisperTranscriber(directory=model_dir))
    monkeypatch.setattr("wyoming_server.build.WhisperTranscriber", lambda *_, **__: heard)
    async with service(MUTED) as assemblyai:
        scene = await stage.play(
            MUTED,
            assemblyai=assemblyai,
            ASSEMBLYAI_API_KEY=WRONG_KEY,
            WHISPER_SERVICE_URL=f"ws://127.0.0.1:{refusing_port}",
            LOCAL_ENABLED=True,
        )

    scene.assert_answered_by("local")
    scene.assert_whisper_lost_nothing(heard.heard)
    scene.seconds_at_takeover("assemblyai", r"sign-in refused \(1008\)", "whisper")
    scene.seconds_at_takeover("whisper", r"cannot connect \(.*\)", "local")


async def test_with_all_gone_one_error_event_tells_of_every_backend(
    stage: Stage, refusing_port: int, tmp_path: Path
) -> None:
    async with service(MUTED) as assemblyai:
        scene = await stage.play(
            MUTED,
            assemblyai=assemblyai,
            ASSEMBLYAI_API_KEY=WRONG_KEY,
            WHISPER_SERVICE_URL=f"ws://127.0.0.1:{refusing_port}",
            LOCAL_ENABLED=True,
            LOCAL_MODEL=str(tmp_path / "missing"),
        )

    assert scene.answer.error == "all-backends-failed"
    for reason in (
        "assemblyai: sign-in refused (1008)",
        "whisper: cannot connect",
        "local: the model folder",
    ):
        assert reason in scene.answer.text
    assert scene.answer.seconds_after_stop < 8
    assert scene.has_logged(r"local failed: .*; nobody is left to take over")
    assert scene.has_logged(r"no answer for \d+\.\d\d s of audio: .*")


async def test_with_all_of_them_mute_the_error_event_comes_at_the_deadline(
    stage: Stage, black_hole: int
) -> None:
    async with service(MUTED) as assemblyai:
        scene = await stage.play(
            MUTED,
            assemblyai=assemblyai,
            ASSEMBLYAI_API_KEY=WRONG_KEY,
            WHISPER_SERVICE_URL=f"ws://127.0.0.1:{black_hole}",
            DEADLINE=0.7,
        )

    assert scene.answer.error == "deadline"
    assert 0.6 < scene.answer.seconds_after_stop < 3
    assert scene.has_logged(r"no answer for 1\.86 s of audio: no answer within 0\.7 s after the last sample")


async def test_where_nobody_spoke_the_transcript_is_empty(stage: Stage, worker: Worker) -> None:
    room = random.Random(1)
    quiet = Clip(array("h", (room.randint(-6, 6) for _ in range(24_000))).tobytes(), "", "en")
    async with service(quiet) as assemblyai:
        scene = await stage.play(quiet, assemblyai=assemblyai, worker=worker)

    assert (scene.answer.text, scene.answer.error, scene.answer.backend) == ("", None, "")
    assert scene.has_logged(r"nobody spoke in 1\.50 s of audio")
    assert worker.heard == []
    (session,) = assemblyai.sessions
    assert session.terminated
