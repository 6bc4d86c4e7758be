"""The emulator of the synchronous endpoint, asked by the official SDK and by a plain client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import assemblyai
import pytest
from assemblyai.sync.v1 import AsyncSyncTranscriber, SyncTranscriptError, SyncTranscriptionConfig

from tests.emulators.assemblyai_script import script_for
from tests.emulators.assemblyai_sync import Body, Drop, Fault, Status, SyncEmulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.emulators_checks.conftest import Recording

CONFIG = {"sample_rate": 16_000, "channels": 1}


def emulator_for(recording: Recording, fault: Fault | None = None) -> SyncEmulator:
    return SyncEmulator(script=script_for(recording.pcm, recording.text), fault=fault)


def sdk(emulator: SyncEmulator, key: str = "good-key") -> AsyncSyncTranscriber:
    settings = assemblyai.Settings(api_key=key, sync_base_url=emulator.url)
    return AsyncSyncTranscriber(client=assemblyai.AsyncClient(settings=settings))


async def test_the_sdk_gets_the_words_of_a_whole_recording(recording: Recording) -> None:
    async with emulator_for(recording) as emulator, sdk(emulator) as transcriber:
        config = SyncTranscriptionConfig(
            sample_rate=16_000, channels=1, keyterms_prompt=["Hue"], language_codes=["en"]
        )
        transcript = await transcriber.transcribe(recording.pcm, config=config)
    assert transcript.text == recording.text
    assert [word.text for word in transcript.words] == recording.text.split()
    assert transcript.audio_duration_ms == len(recording.pcm) // 32
    record = emulator.requests[0]
    assert bytes(record.audio) == recording.pcm
    assert record.config == {**CONFIG, "keyterms_prompt": ["Hue"], "language_codes": ["en"]}
    assert record.headers["x-aai-model"] == "universal-3-5-pro"


async def test_the_sdk_uploads_live(recording: Recording) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(recording.pcm), 1600):
            yield recording.pcm[at : at + 1600]

    async with emulator_for(recording) as emulator, sdk(emulator) as transcriber:
        transcript = await transcriber.transcribe_live(
            pieces(), config=SyncTranscriptionConfig(sample_rate=16_000, channels=1)
        )
    assert transcript.text == recording.text
    assert emulator.requests[0].headers["transfer-encoding"] == "chunked"
    assert emulator.requests[0].pieces > 1


async def test_the_sdk_warms(recording: Recording) -> None:
    async with emulator_for(recording) as emulator, sdk(emulator) as transcriber:
        assert await transcriber.warm()
    assert emulator.warmed == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (None, "unauthorized"),  # for the wrong key
        (Status(429, 7), "too_many_requests"),
        (Status(503, 2), "capacity_exceeded"),
        (Status(504), "inference_timeout"),
        (Status(500), "internal_server_error"),
    ],
)
async def test_the_sdk_understands_the_errors(recording: Recording, fault: Status | None, code: str) -> None:
    key = "good-key" if fault else "wrong-key"
    async with emulator_for(recording, fault) as emulator, sdk(emulator, key) as transcriber:
        with pytest.raises(SyncTranscriptError) as caught:
            await transcriber.transcribe(
                recording.pcm, config=SyncTranscriptionConfig(sample_rate=16_000, channels=1)
            )
    error = caught.value
    expected = (fault.status, fault.retry_after) if fault else (401, None)
    assert (error.status_code, error.retry_after, error.error_code) == (*expected, code)


async def post(
    emulator: SyncEmulator,
    *parts: tuple[str, bytes, str],
    path: str = "/v1/transcribe/live",
    model: str = "universal-3-5-pro",
) -> tuple[int, dict[str, Any]]:
    with aiohttp.MultipartWriter("form-data") as body:
        for name, content, kind in parts:
            body.append(content, {"Content-Type": kind}).set_content_disposition("form-data", name=name)
    headers = {"Authorization": "good-key", "X-AAI-Model": model}
    async with (
        aiohttp.ClientSession() as session,
        session.post(emulator.url + path, data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


def config(**fields: Any) -> tuple[str, bytes, str]:
    return "config", json.dumps(fields).encode(), "application/json"


def pcm(content: bytes) -> tuple[str, bytes, str]:
    return "audio", content, "audio/pcm"


@pytest.mark.parametrize("path", ["/v1/transcribe/live", "/v1/transcribe/stream", "/v1/transcribe"])
async def test_all_three_paths_answer(recording: Recording, path: str) -> None:
    async with emulator_for(recording) as emulator:
        status, answer = await post(emulator, config(**CONFIG), pcm(recording.pcm), path=path)
    assert (status, answer["text"]) == (200, recording.text)


async def test_only_the_buffered_path_takes_the_config_last(recording: Recording) -> None:
    async with emulator_for(recording) as emulator:
        parts = (pcm(recording.pcm), config(**CONFIG))
        assert (await post(emulator, *parts))[0] == 400
        assert (await post(emulator, *parts, path="/v1/transcribe"))[0] == 200


async def test_a_live_upload_needs_a_config(recording: Recording) -> None:
    async with emulator_for(recording) as emulator:
        status, problem = await post(emulator, pcm(recording.pcm))
    assert (status, problem["detail"]) == (400, "the config must come before the audio")


async def test_more_context_than_is_taken_is_no_error(recording: Recording) -> None:
    async with emulator_for(recording) as emulator:
        too_much = config(**CONFIG, conversation_context=["x" * 100] * 501)
        assert (await post(emulator, too_much, pcm(recording.pcm)))[0] == 200


@pytest.mark.parametrize(
    ("parts", "status", "detail"),
    [
        ((config(), pcm(bytes(6400))), 400, "audio/pcm needs sample_rate and channels"),
        ((config(sample_rate=11_025, channels=1), pcm(bytes(6400))), 400, "audio/pcm needs"),
        ((config(**CONFIG), pcm(bytes(79 * 32))), 400, "shorter than 80 ms"),
        ((config(**CONFIG), pcm(bytes(120_001 * 32))), 413, "longer than 120 s"),
        ((config(**CONFIG), ("audio", bytes(6400), "audio/wav")), 400, "no WAV file"),
        ((config(**CONFIG), ("audio", bytes(6400), "audio/mpeg")), 415, "neither WAV nor PCM"),
        ((config(**CONFIG),), 400, "there is no audio"),
        ((("config", b"[]", "application/json"), pcm(bytes(6400))), 400, "no JSON object"),
        ((config(**CONFIG, keyterms_prompt=["x"] * 101), pcm(bytes(6400))), 400, "too many keyterms"),
        ((config(**CONFIG, keyterms_prompt=["x" * 8001]), pcm(bytes(6400))), 400, "too many keyterms"),
        ((config(**CONFIG, prompt="x" * 6001), pcm(bytes(6400))), 400, "the prompt is too long"),
    ],
)
async def test_what_the_service_does_not_take(
    recording: Recording, parts: tuple[tuple[str, bytes, str], ...], status: int, detail: str
) -> None:
    async with emulator_for(recording) as emulator:
        answered, problem = await post(emulator, *parts)
    assert (answered, problem["status"]) == (status, status)
    assert detail in problem["detail"]


async def test_an_unknown_model_is_refused(recording: Recording) -> None:
    async with emulator_for(recording) as emulator:
        status, _ = await post(emulator, config(**CONFIG), pcm(recording.pcm), model="whisper-9")
    assert status == 400


async def test_words_that_were_cut_off_are_not_known(recording: Recording) -> None:
    async with emulator_for(recording) as emulator:
        half = recording.pcm[: len(recording.pcm) // 4 * 2]
        _, answer = await post(emulator, config(**CONFIG), pcm(half))
    assert recording.text.startswith(answer["text"])
    assert answer["text"] != recording.text


async def test_a_drop_is_felt_and_a_body_is_passed_on(recording: Recording) -> None:
    async with emulator_for(recording, Drop(6400)) as emulator:
        with pytest.raises(aiohttp.ClientError):
            await post(emulator, config(**CONFIG), pcm(recording.pcm))
        assert emulator.requests[0].status is None
        emulator.fault = Body('{"text": ""}')
        assert await post(emulator, config(**CONFIG), pcm(recording.pcm)) == (200, {"text": ""})
