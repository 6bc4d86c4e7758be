"""Which languages AssemblyAI's models understand, by bare code."""

from __future__ import annotations

from typing import Final

from modal_whisper.languages import codes

ASSEMBLYAI: Final = {
    "universal-3-6-pro": codes(
        "af ar ca da de en es et fa fi fr gl he hi it ja ko mr nl nn no pt ro ru sv tr ur vi xh yue zh zu"
    ),
    "universal-3-5-pro": codes("ar ca da de en es fi fr he hi it ja nl no pt sv tr vi zh"),
    "universal-streaming-multilingual": codes("de en es fr it pt"),
    "universal-streaming-english": codes("en"),
    "u3-rt-pro": codes("de en es fr it pt"),
}
"""By streaming model. Source: AssemblyAI's documentation of autumn 2026."""

ASSEMBLYAI_SYNC: Final = ASSEMBLYAI | {
    "universal-3-5-pro": codes("ar da de en es fi fr he hi it ja nl no pt sv tr ur vi zh")
}
"""By model of the endpoint for whole utterances. Source: AssemblyAI's own client, autumn 2026."""
