"""What the server says of itself when a Wyoming client asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from modal_whisper.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection

    from wyoming.event import Event

PROGRAM: Final = "stt-failover"
MODEL: Final = "failover"
_CHINESE: Final = ("zh-Hans", "zh-Hant")
_ATTRIBUTION: Final = Attribution("stt-failover", "https://github.com/stt-failover/stt-failover")


def describe(languages: Collection[str], *, endpointing: bool = False) -> Event:
    """The info event: one program with one model, the same in whatever state the backends are.

    With `endpointing` the server knows by itself when a person has stopped.
    """
    model = AsrModel(
        name=MODEL,
        attribution=_ATTRIBUTION,
        installed=True,
        description="The first backend that can give the words",
        version=__version__,
        languages=sorted({*languages, *(_CHINESE if "zh" in languages else ())}),
    )
    program = AsrProgram(
        name=PROGRAM,
        attribution=_ATTRIBUTION,
        installed=True,
        description="Speech to text that always answers",
        version=__version__,
        models=[model],
        supports_transcript_streaming=True,
        requires_external_vad=not endpointing,
        # Speech models do best with what the microphone heard.
        prefers_auto_gain_enabled=False,
        prefers_noise_reduction_enabled=False,
    )
    return Info(asr=[program]).event()
