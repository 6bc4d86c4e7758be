from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest
from homeassistant.components import stt
from homeassistant.components.stt import (
    AudioBitRates,
    AudioChannels,
    AudioCodecs,
    AudioFormats,
    AudioSampleRates,
    SpeechMetadata,
    SpeechResult,
    SpeechResultState,
    async_get_speech_to_text_entity,
)
from homeassistant.helpers import area_registry as ar
from homeassistant.util import dt as dt_util
from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart
from wyoming.error import Error

from tests.integration.conftest import until
from tests.integration.wyoming_peer import peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry
    from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

    from custom_components.stt_failover.stt import SttFailoverSttEntity
    from tests.integration.fake_server import FakeServer
    from tests.integration.wyoming_peer import Client, Peer

ENTITY = "stt.speech_to_text"
PCM = bytes(range(256)) * 10
ENGLISH = SpeechMetadata(
    "en",
    AudioFormats.WAV,
    AudioCodecs.PCM,
    AudioBitRates.BITRATE_16,
    AudioSampleRates.SAMPLERATE_16000,
    AudioChannels.CHANNEL_MONO,
)
SUCCESS = SpeechResult("Turn on the light.", SpeechResultState.SUCCESS)
FAILURE = SpeechResult(None, SpeechResultState.ERROR)


async def _stream(*chunks: bytes) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk


async def _answers(client: Client) -> None:
    await client.read_to("audio-stop")
    await client.write(
        TranscriptStart(),
        TranscriptChunk("Turn on"),
        TranscriptChunk(" the light."),
        Transcript(str(SUCCESS.text), context={"backend": "local"}),
    )


async def _answers_at_once(client: Client) -> None:
    await client.read_to("audio-chunk")
    await client.write(Transcript(str(SUCCESS.text)))


async def _refuses(client: Client) -> None:
    await client.read_to("audio-stop")
    await client.write(Error("no backend has words", "all-failed"))


def _entity(hass: HomeAssistant) -> SttFailoverSttEntity:
    entity = async_get_speech_to_text_entity(hass, ENTITY)
    assert entity is not None
    return cast("SttFailoverSttEntity", entity)


@pytest.fixture
async def wyoming(hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer) -> AsyncIterator[Peer]:
    """A Wyoming server that answers, where the status says that it listens."""
    async with peer(_answers) as made:
        await _move(hass, loaded, server, f"tcp://0.0.0.0:{made.port}")
        yield made


@dataclass
class _PartialSpeechResult:
    text: str


@pytest.fixture
def partial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partial results, which Home Assistant has from 2026.11 on."""
    if not hasattr(stt, "PartialSpeechResult"):
        monkeypatch.setattr(stt, "PartialSpeechResult", _PartialSpeechResult, raising=False)


async def _move(hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, uri: str) -> None:
    await server.push(wyoming=uri)
    await until(lambda: loaded.runtime_data.data.wyoming == uri)
    await hass.async_block_till_done()


async def test_words_come_back_from_where_the_server_listens(hass: HomeAssistant, wyoming: Peer) -> None:
    result = await _entity(hass).internal_async_process_audio_stream(ENGLISH, _stream(PCM))
    assert result == SUCCESS
    assert wyoming.client.audio == PCM


async def test_state_is_when_it_was_last_used(hass: HomeAssistant, wyoming: Peer) -> None:
    assert hass.states.get(ENTITY).state == "unknown"
    await _entity(hass).internal_async_process_audio_stream(ENGLISH, _stream(PCM))
    assert dt_util.parse_datetime(hass.states.get(ENTITY).state) is not None


async def test_language_and_names_of_the_house_go_with_the_utterance(
    hass: HomeAssistant, wyoming: Peer
) -> None:
    ar.async_get(hass).async_create("Ecobee corner", aliases={"Nook"})
    await _entity(hass).async_process_audio_stream(ENGLISH, _stream(PCM))
    transcribe = wyoming.client.sent[0].data
    assert transcribe["language"] == "en"
    assert transcribe["transcript_names"] == ["Ecobee corner", "Nook"]
    assert transcribe["context"] == {"streaming": True}


async def test_names_stay_at_home_where_a_person_wants_that(
    hass: HomeAssistant, loaded: MockConfigEntry, wyoming: Peer
) -> None:
    ar.async_get(hass).async_create("Ecobee corner")
    hass.config_entries.async_update_entry(loaded, options={"send_names": False})
    await _entity(hass).async_process_audio_stream(ENGLISH, _stream(PCM))
    assert "transcript_names" not in wyoming.client.sent[0].data


async def test_outage_is_an_error_result_where_home_assistant_knows_no_partial_results(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    async with peer(_refuses) as refusing:
        await _move(hass, loaded, server, refusing.uri)
        assert await _entity(hass).async_process_audio_stream(ENGLISH, _stream(PCM)) == FAILURE


async def test_final_alone_is_given_where_home_assistant_knows_no_partial_results(
    hass: HomeAssistant, wyoming: Peer
) -> None:
    assert await _entity(hass).async_process_audio_stream(ENGLISH, _stream(PCM)) == SUCCESS


@pytest.mark.usefixtures("partial")
async def test_partial_results_come_before_the_final(hass: HomeAssistant, wyoming: Peer) -> None:
    stream = _entity(hass).async_process_audio_stream_with_progress(ENGLISH, _stream(PCM))
    assert [item async for item in stream] == [
        stt.PartialSpeechResult("Turn on"),
        stt.PartialSpeechResult("Turn on the light."),
        SUCCESS,
    ]


@pytest.mark.usefixtures("partial")
async def test_partial_results_end_with_an_error_result_in_an_outage(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    async with peer(_refuses) as refusing:
        await _move(hass, loaded, server, refusing.uri)
        stream = _entity(hass).async_process_audio_stream_with_progress(ENGLISH, _stream(PCM))
        assert [item async for item in stream] == [FAILURE]


@pytest.mark.usefixtures("partial")
async def test_consumer_that_stops_at_a_partial_result_ends_the_connection(
    hass: HomeAssistant, wyoming: Peer
) -> None:
    stream = _entity(hass).async_process_audio_stream_with_progress(ENGLISH, _stream(PCM))
    async with aclosing(stream):
        await anext(stream)
    assert await wyoming.client.read() is None


async def test_answer_before_the_audio_ends_is_taken(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        yield PCM
        await asyncio.Event().wait()

    async with peer(_answers_at_once) as hasty:
        await _move(hass, loaded, server, hasty.uri)
        assert await _entity(hass).internal_async_process_audio_stream(ENGLISH, endless()) == SUCCESS


async def test_error_of_the_server_is_an_error_result_and_one_line_in_the_log(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with peer(_refuses) as refusing:
        await _move(hass, loaded, server, refusing.uri)
        assert await _entity(hass).internal_async_process_audio_stream(ENGLISH, _stream(PCM)) == FAILURE
    (record,) = [item for item in caplog.records if "no answer to an utterance" in item.message]
    assert record.message == "Speech to text has no answer to an utterance: no backend has words (all-failed)"
    assert record.levelno == logging.WARNING


async def test_server_that_is_gone_is_an_error_result(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    async with peer(_answers) as gone:
        pass
    await _move(hass, loaded, server, gone.uri)
    assert await _entity(hass).internal_async_process_audio_stream(ENGLISH, _stream(PCM)) == FAILURE


async def test_server_that_is_silent_is_an_error_result(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def says_nothing(client: Client) -> None:
        while await client.read():
            pass

    monkeypatch.setattr("custom_components.stt_failover.wyoming_client._SLACK", 0)
    async with peer(says_nothing) as silent:
        await server.push(deadline=0.01)
        await _move(hass, loaded, server, silent.uri)
        async with asyncio.timeout(5):  # the server's own deadline counts, not one of twelve seconds
            assert await _entity(hass).internal_async_process_audio_stream(ENGLISH, _stream(PCM)) == FAILURE


async def test_server_without_a_port_in_the_network_is_an_error_result(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer
) -> None:
    await _move(hass, loaded, server, "stdio://")
    assert await _entity(hass).internal_async_process_audio_stream(ENGLISH, _stream(PCM)) == FAILURE


async def test_utterance_is_tried_though_the_api_is_gone(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, wyoming: Peer, pauses: list[float]
) -> None:
    await server.stop()
    await until(lambda: not loaded.runtime_data.last_update_success)
    assert await _entity(hass).internal_async_process_audio_stream(ENGLISH, _stream(PCM)) == SUCCESS


async def test_wav_file_posted_by_rest_arrives_without_its_header(
    hass: HomeAssistant, wyoming: Peer, hass_client: ClientSessionGenerator
) -> None:
    header = b"RIFF" + bytes(4) + b"WAVEfmt \x10\0\0\0" + bytes(16) + b"data" + len(PCM).to_bytes(4, "little")
    metadata = "format=wav; codec=pcm; sample_rate=16000; bit_rate=16; channel=1; language=en"
    client = await hass_client()
    reply = await client.post(
        f"/api/stt/{ENTITY}",
        headers={"X-Speech-Content": metadata},
        data=header + PCM,
    )
    assert await reply.json() == {"text": SUCCESS.text, "result": "success"}
    assert wyoming.client.audio == PCM


@pytest.mark.parametrize("endpointing", [True, False])
async def test_home_assistant_need_not_find_the_end_where_the_server_does(
    hass: HomeAssistant, loaded: MockConfigEntry, server: FakeServer, *, endpointing: bool
) -> None:
    await server.push(endpointing=endpointing, uptime=1.0)
    await until(lambda: loaded.runtime_data.data.uptime == 1.0)
    processing = _entity(hass).audio_processing
    assert processing.requires_external_vad is not endpointing
    assert not processing.prefers_auto_gain_enabled
    assert not processing.prefers_noise_reduction_enabled


@pytest.mark.parametrize(
    ("languages", "expected"),
    [(["en", "de"], ["de", "en"]), (["zh", "en"], ["en", "zh", "zh-Hans", "zh-Hant"]), ([], [])],
)
async def test_languages_are_those_of_the_server_and_both_scripts_of_chinese(
    hass: HomeAssistant,
    loaded: MockConfigEntry,
    server: FakeServer,
    languages: list[str],
    expected: list[str],
) -> None:
    await server.push(languages=languages)
    await until(lambda: list(loaded.runtime_data.data.languages) == languages)
    assert _entity(hass).supported_languages == expected


@pytest.mark.parametrize(
    ("changes", "is_taken"),
    [
        ({}, True),
        ({"language": "zh-Hans"}, True),
        ({"language": "xx"}, False),
        ({"format": AudioFormats.OGG}, False),
        ({"codec": AudioCodecs.OPUS}, False),
        ({"bit_rate": AudioBitRates.BITRATE_24}, False),
        ({"sample_rate": AudioSampleRates.SAMPLERATE_44100}, False),
        ({"channel": AudioChannels.CHANNEL_STEREO}, False),
    ],
    ids=str,
)
async def test_only_wav_of_16_khz_mono_and_16_bit_is_taken(
    hass: HomeAssistant, loaded: MockConfigEntry, changes: dict[str, Any], *, is_taken: bool
) -> None:
    metadata = SpeechMetadata(**{**vars(ENGLISH), **changes})
    assert _entity(hass).check_metadata(metadata) is is_taken


async def test_entity_is_called_as_its_device(hass: HomeAssistant, loaded: MockConfigEntry) -> None:
    assert hass.states.get(ENTITY).attributes["friendly_name"] == "Speech to text"
