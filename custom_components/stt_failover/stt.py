"""The speech-to-text entity: Home Assistant's audio goes to the server, the words come back."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final, override

from homeassistant.components.stt import (
    AudioBitRates,
    AudioChannels,
    AudioCodecs,
    AudioFormats,
    AudioSampleRates,
    SpeechAudioProcessing,
    SpeechResult,
    SpeechResultState,
    SpeechToTextEntity,
)

from .const import CONF_SEND_NAMES, LOGGER
from .entity import SttFailoverEntity
from .names import Names
from .wyoming_client import Limits, NoAnswerError, Server, Wishes, listen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

    from homeassistant.components.stt import PartialSpeechResult, SpeechMetadata
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import SttFailoverConfigEntry, SttFailoverCoordinator
    from .wyoming_client import Heard

PARALLEL_UPDATES = 0

CHINESE: Final = ("zh-Hans", "zh-Hant")
"""Which script is wanted can be said for Chinese only; the server lists its bare code."""


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant passes it
    entry: SttFailoverConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the entity of a server."""
    async_add_entities([SttFailoverSttEntity(entry.runtime_data)])


class SttFailoverSttEntity(SttFailoverEntity, SpeechToTextEntity):
    """Gives an answer or an error within the limits, and no exception for an outage."""

    _attr_name = None

    def __init__(self, coordinator: SttFailoverCoordinator) -> None:
        super().__init__(coordinator, "stt")
        self._names: Names | None = None

    @override
    async def async_added_to_hass(self) -> None:
        """Begin to gather the names of the house."""
        await super().async_added_to_hass()
        self._names = Names(self.hass)
        self._names.listen()
        self.async_on_remove(self._names.close)

    @property
    @override
    def supported_languages(self) -> list[str]:
        """What at least one backend understands."""
        languages = self.coordinator.data.languages
        return sorted({*languages, *(CHINESE if "zh" in languages else ())})

    @property
    @override
    def supported_formats(self) -> list[AudioFormats]:
        """WAV, with a header or without."""
        return [AudioFormats.WAV]

    @property
    @override
    def supported_codecs(self) -> list[AudioCodecs]:
        """PCM."""
        return [AudioCodecs.PCM]

    @property
    @override
    def supported_bit_rates(self) -> list[AudioBitRates]:
        """16 bits a sample."""
        return [AudioBitRates.BITRATE_16]

    @property
    @override
    def supported_sample_rates(self) -> list[AudioSampleRates]:
        """16 kHz."""
        return [AudioSampleRates.SAMPLERATE_16000]

    @property
    @override
    def supported_channels(self) -> list[AudioChannels]:
        """Mono."""
        return [AudioChannels.CHANNEL_MONO]

    @property
    @override
    def audio_processing(self) -> SpeechAudioProcessing:
        """What the microphone heard, and its end told by Home Assistant unless the server finds it."""
        return SpeechAudioProcessing(
            requires_external_vad=not self.coordinator.data.endpointing,
            prefers_auto_gain_enabled=False,
            prefers_noise_reduction_enabled=False,
        )

    @override
    async def async_process_audio_stream(
        self, metadata: SpeechMetadata, stream: AsyncIterable[bytes]
    ) -> SpeechResult:
        """Give the final alone: all that Home Assistant before 2026.11 knows."""
        async with aclosing(self._listen(metadata, stream)) as listening:
            async for heard in listening:
                if heard.is_final:
                    return SpeechResult(heard.text, SpeechResultState.SUCCESS)
        return SpeechResult(None, SpeechResultState.ERROR)

    @override
    async def async_process_audio_stream_with_progress(
        self, metadata: SpeechMetadata, stream: AsyncIterable[bytes]
    ) -> AsyncGenerator[PartialSpeechResult | SpeechResult]:
        """Give every partial result, then the final; Home Assistant calls it from 2026.11 on."""
        from homeassistant.components.stt import PartialSpeechResult  # noqa: PLC0415 - 2026.10 has none

        async with aclosing(self._listen(metadata, stream)) as listening:
            async for heard in listening:
                if heard.is_final:
                    yield SpeechResult(heard.text, SpeechResultState.SUCCESS)
                    return
                yield PartialSpeechResult(heard.text)
        yield SpeechResult(None, SpeechResultState.ERROR)

    async def _listen(self, metadata: SpeechMetadata, stream: AsyncIterable[bytes]) -> AsyncGenerator[Heard]:
        """What the server hears; ends without a final in an outage."""
        status = self.coordinator.data
        sends_names = self.coordinator.config_entry.options.get(CONF_SEND_NAMES, True)
        names = self._names.get() if self._names and sends_names else ()
        wishes = Wishes(language=metadata.language, names=names)
        server = Server(status.wyoming, self.coordinator.host)
        limits = Limits.for_deadline(status.deadline)
        try:
            async with aclosing(listen(server, wishes, stream, limits)) as listening:
                async for heard in listening:
                    yield heard
        except NoAnswerError as error:
            LOGGER.warning(
                "%s has no answer to an utterance: %s (%s)", self.coordinator.name, error, error.code
            )
