from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any

import probatio
import pytest
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import area_registry as ar
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from wyoming.asr import Transcript
from wyoming.error import Error

from custom_components.stt_failover import services
from tests.integration.conftest import until
from tests.integration.wyoming_peer import peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from homeassistant.core import HomeAssistant

    from tests.integration.fake_server import FakeServer
    from tests.integration.wyoming_peer import Client, Peer

PCM = bytes(range(250)) * 64


def _wav(pcm: bytes = PCM, *, rate: int = 16_000, width: int = 2, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(pcm)
    return file.getvalue()


async def _answers(client: Client) -> None:
    await client.read_to("audio-stop")
    await client.write(Transcript("Turn on the light.", context={"backend": "local"}))


@pytest.fixture
async def wyoming(loaded: MockConfigEntry, server: FakeServer) -> AsyncIterator[Peer]:
    """A Wyoming server that answers, where the status says that it listens."""
    async with peer(_answers) as made:
        await server.push(wyoming=made.uri)
        await until(lambda: loaded.runtime_data.data.wyoming == made.uri)
        yield made


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between the pieces of a file, which take no time."""
    taken: list[float] = []

    async def pause(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(services, "PAUSE", pause)
    return taken


@pytest.fixture
def folder(hass: HomeAssistant, tmp_path: Path) -> Path:
    """A folder that Home Assistant may read."""
    hass.config.allowlist_external_dirs = {str(tmp_path)}
    return tmp_path


@pytest.fixture
def recording(folder: Path) -> str:
    """A file in it."""
    path = folder / "recording.wav"
    path.write_bytes(_wav())
    return str(path)


async def _call(hass: HomeAssistant, action: str, **data: Any) -> dict[str, Any]:
    answer = await hass.services.async_call("stt_failover", action, data, blocking=True, return_response=True)
    assert answer is not None
    return dict(answer)


async def _refused(hass: HomeAssistant, **data: Any) -> HomeAssistantError:
    with pytest.raises(HomeAssistantError) as caught:
        await _call(hass, "transcribe", **data)
    return caught.value


async def test_file_becomes_text_and_tells_which_backend_gave_it(
    hass: HomeAssistant, wyoming: Peer, recording: str
) -> None:
    answer = await _call(hass, "transcribe", filename=recording)
    assert answer == {"text": "Turn on the light.", "backend": "local"}
    assert wyoming.client.audio == PCM


async def test_file_is_sent_no_faster_than_people_speak(
    hass: HomeAssistant, wyoming: Peer, recording: str, pauses: list[float]
) -> None:
    await _call(hass, "transcribe", filename=recording)
    assert pauses == [0.1] * 5
    assert {len(event.payload or b"") for event in wyoming.client.sent if event.payload} == {len(PCM) // 5}


async def test_language_backend_and_the_names_of_the_house_go_with_the_file(
    hass: HomeAssistant, wyoming: Peer, recording: str
) -> None:
    ar.async_get(hass).async_create("Ecobee corner")
    await _call(hass, "transcribe", filename=recording, language="zh-Hans", backend="whisper")
    transcribe = wyoming.client.sent[0].data
    assert transcribe["language"] == "zh-Hans"
    assert transcribe["name"] == "whisper"
    assert transcribe["transcript_names"] == ["Ecobee corner"]


async def test_names_stay_at_home_where_a_person_wants_that(
    hass: HomeAssistant, loaded: MockConfigEntry, wyoming: Peer, recording: str
) -> None:
    ar.async_get(hass).async_create("Ecobee corner")
    hass.config_entries.async_update_entry(loaded, options={"send_names": False})
    await _call(hass, "transcribe", filename=recording)
    assert "transcript_names" not in wyoming.client.sent[0].data


@pytest.mark.parametrize(
    ("rate", "width", "channels"),
    [(8000, 2, 1), (44_100, 2, 2), (16_000, 1, 1), (48_000, 3, 2), (16_000, 4, 1)],
)
async def test_file_of_another_rate_width_or_number_of_channels_is_converted(
    hass: HomeAssistant, wyoming: Peer, folder: Path, rate: int, width: int, channels: int
) -> None:
    pcm = b"\x80" * rate if width == 1 else bytes(rate * width * channels)
    (folder / "a.wav").write_bytes(_wav(pcm, rate=rate, width=width, channels=channels))
    await _call(hass, "transcribe", filename=str(folder / "a.wav"))
    assert len(wyoming.client.audio) == pytest.approx(32_000, abs=64)
    assert not any(wyoming.client.audio)


async def test_file_of_the_media_browser_is_taken(hass: HomeAssistant, wyoming: Peer, folder: Path) -> None:
    hass.config.media_dirs = {"local": str(folder)}
    hass.config.allowlist_external_dirs = set()
    assert await async_setup_component(hass, "media_source", {})
    (folder / "a.wav").write_bytes(_wav())
    media = {"media_content_id": "media-source://media_source/local/a.wav", "media_content_type": "audio/wav"}
    assert (await _call(hass, "transcribe", media=media))["backend"] == "local"


@pytest.mark.parametrize(
    ("media", "key"),
    [
        ("https://example.com/a.wav", "no_media_source"),
        ("media-source://nobody/a.wav", "no_media_file"),
        ("media-source://remote/a.wav", "no_media_file"),
    ],
)
async def test_media_that_is_no_file_is_refused(
    hass: HomeAssistant, wyoming: Peer, monkeypatch: pytest.MonkeyPatch, media: str, key: str
) -> None:
    from homeassistant.components.media_source import PlayMedia

    resolve = services.async_resolve_media

    async def resolved(hass: HomeAssistant, media_id: str, player: None) -> PlayMedia:
        if "remote" in media_id:
            return PlayMedia("/a.wav", "audio/wav")
        return await resolve(hass, media_id, player)

    monkeypatch.setattr(services, "async_resolve_media", resolved)
    assert await async_setup_component(hass, "media_source", {})
    error = await _refused(hass, media={"media_content_id": media})
    assert isinstance(error, ServiceValidationError)
    assert error.translation_key == key
    assert error.translation_placeholders == {"media": media}


@pytest.mark.parametrize(
    "data",
    [{}, {"filename": "/a.wav", "media": {"media_content_id": "media-source://x/y"}}],
    ids=["none", "both"],
)
async def test_either_a_media_file_or_a_file_name_is_wanted(
    hass: HomeAssistant, wyoming: Peer, data: dict[str, Any]
) -> None:
    assert (await _refused(hass, **data)).translation_key == "media_or_filename"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"ID3 no WAV at all", "not_wav"),
        (b"", "not_wav"),
        (_wav(b""), "no_audio"),
        (_wav(bytes(60), channels=3), "not_wav"),
        (_wav(rate=100), "too_long"),
        (None, "cannot_read"),
    ],
    ids=["another format", "empty", "no samples", "three channels", "too long", "no such file"],
)
async def test_file_that_cannot_be_sent_is_refused_with_the_reason(
    hass: HomeAssistant, wyoming: Peer, folder: Path, content: bytes | None, key: str
) -> None:
    path = folder / "a.wav"
    if content is not None:
        path.write_bytes(content)
    error = await _refused(hass, filename=str(path))
    assert isinstance(error, ServiceValidationError)
    assert error.translation_key == key
    assert error.translation_placeholders == {"path": str(path), "maximum": "60"}


async def test_folder_that_is_not_allowed_is_not_read(
    hass: HomeAssistant, wyoming: Peer, recording: str
) -> None:
    hass.config.allowlist_external_dirs = set()
    assert (await _refused(hass, filename=recording)).translation_key == "path_not_allowed"


@pytest.mark.parametrize("lack", [{"enabled": False}, {"missing": "ASSEMBLYAI_API_KEY is not set"}])
async def test_backend_that_cannot_be_asked_is_refused_rather_than_another_one_asked(
    hass: HomeAssistant,
    wyoming: Peer,
    server: FakeServer,
    loaded: MockConfigEntry,
    recording: str,
    lack: dict[str, Any],
) -> None:
    await server.push_backend("assemblyai", retry_in=1.5, **lack)
    await until(lambda: loaded.runtime_data.data.backends["assemblyai"].retry_in == 1.5)
    error = await _refused(hass, filename=recording, backend="assemblyai")
    assert error.translation_key == "backend_not_asked"


async def test_language_that_no_backend_understands_is_refused(
    hass: HomeAssistant, wyoming: Peer, recording: str
) -> None:
    error = await _refused(hass, filename=recording, language="xx")
    assert error.translation_key == "unknown_language"


async def test_recording_that_nobody_could_answer_is_an_error(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, recording: str
) -> None:
    async def refuses(client: Client) -> None:
        await client.read_to("audio-stop")
        await client.write(Error("no backend has words", "all-failed"))

    async with peer(refuses) as refusing:
        await server.push(wyoming=refusing.uri)
        await until(lambda: loaded.runtime_data.data.wyoming == refusing.uri)
        error = await _refused(hass, filename=recording)
    assert not isinstance(error, ServiceValidationError)
    assert error.translation_key == "no_answer"
    assert error.translation_placeholders == {"reason": "no backend has words"}


@pytest.mark.parametrize("action", ["transcribe", "test"])
async def test_server_that_refuses_is_an_error(
    hass: HomeAssistant, wyoming: Peer, server: FakeServer, recording: str, action: str
) -> None:
    failure = (500, {"error": "its log says why", "code": "internal"})
    server.refusals = {"/api/config": failure, "/api/test": failure}
    with pytest.raises(HomeAssistantError) as caught:
        await _call(hass, action, **({"filename": recording} if action == "transcribe" else {}))
    assert caught.value.translation_key == "rejected"


@pytest.mark.parametrize("data", [{"backend": "newcomer"}, {"media": "a"}, {"other": 1}], ids=str)
async def test_unknown_fields_and_backends_are_refused(
    hass: HomeAssistant, loaded: MockConfigEntry, data: dict[str, Any]
) -> None:
    with pytest.raises(probatio.Invalid):
        await _call(hass, "transcribe", **data)


async def test_test_tells_how_each_backend_did(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    server.results["whisper"] = {
        "ok": False,
        "text": None,
        "ms": None,
        "code": "unreachable",
        "message": "cannot connect",
    }
    assert await _call(hass, "test", backends=["whisper", "local"]) == {
        "results": [
            {
                "backend": "whisper",
                "ok": False,
                "text": None,
                "milliseconds": None,
                "code": "unreachable",
                "message": "cannot connect",
            },
            {
                "backend": "local",
                "ok": True,
                "text": "turn off the light",
                "milliseconds": 50.0,
                "code": None,
                "message": None,
            },
        ]
    }
    assert server.bodies("POST", "/api/test") == [{"backends": ["whisper", "local"]}]


async def test_test_without_backends_leaves_the_choice_to_the_server(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await _call(hass, "test")
    assert server.bodies("POST", "/api/test") == [{}]


async def test_server_can_be_named_and_must_be_where_there_are_several(
    hass: HomeAssistant, loaded: MockConfigEntry
) -> None:
    MockConfigEntry(domain="stt_failover", title="Another").add_to_hass(hass)
    with pytest.raises(ServiceValidationError):
        await _call(hass, "test")
    assert (await _call(hass, "test", config_entry_id=loaded.entry_id))["results"]


async def test_actions_stay_while_no_server_is_loaded_and_say_so(
    hass: HomeAssistant, loaded: MockConfigEntry
) -> None:
    assert await hass.config_entries.async_unload(loaded.entry_id)
    with pytest.raises(ServiceValidationError):
        await _call(hass, "test", config_entry_id=loaded.entry_id)
