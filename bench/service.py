"""The AssemblyAI emulator as a process of its own, and the one sentence that is said to it."""

from __future__ import annotations

import asyncio
import wave
from typing import TYPE_CHECKING, Final

from modal_whisper.samples import MUTED
from tests.emulators.assemblyai import AssemblyAIEmulator, Latency, Rules, script_for, voiced_spans

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

KEY: Final = "any-key"
TEXT: Final = MUTED.text
BYTES_PER_MS: Final = 32
FRAME_MS: Final = 50


def recording() -> bytes:
    """A person's sentence, cut off where it ends: nobody can know before audio-stop that this was all."""
    with wave.open(str(MUTED.path), "rb") as file:
        pcm = file.readframes(file.getnframes())
    frames = -(-voiced_spans(pcm)[-1][1] // FRAME_MS)
    return pcm[: frames * FRAME_MS * BYTES_PER_MS]


def emulate(pipe: Connection) -> None:
    """Be the service, and tell where it is.

    It waits for nothing: each wait of its own could hide a part of what the server adds.
    """

    async def serve() -> None:
        emulator = AssemblyAIEmulator(
            {KEY},
            script=script_for(recording(), TEXT),
            latency=Latency.zero(),
            rules=Rules(throttle=None, keep_audio=False),
        )
        async with emulator:
            pipe.send(emulator.url)
            await asyncio.Event().wait()

    asyncio.run(serve())
