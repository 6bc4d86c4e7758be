"""Photographs the status page for the README: `script/screenshots`.

The server, its page and the last utterances are real, spoken at the speed of speech; AssemblyAI is its
emulator, with the delays that others measured. The hours and days before are made up, and told to the same
counters.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image
from playwright.async_api import async_playwright, expect

from modal_whisper.transcriber import WhisperTranscriber
from tests.browser.sound import microphone
from tests.browser.visit import LAUNCH, visiting
from tests.emulators.assemblyai import AssemblyAIEmulator, Drop, Fault, Latency, by_recording, script_for
from tests.emulators.assemblyai_sync import SyncEmulator
from tests.end_to_end.clips import LEADER, MUTED, PASSWORD, WEASELS
from tests.end_to_end.speaker import Speaker
from tests.end_to_end.stage import GOOD_KEY
from tests.end_to_end.worker import WORKER_KEY, Witness, running_worker
from tests.processes import MODEL_DIR, PROJECT
from tests.wyoming_server.api.running import running
from tests.wyoming_server.houses import TOKEN
from wyoming_server.events import Traced
from wyoming_server.trace import AttemptTrace, Outcome, Reason, Trace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.browser.visit import Visit
    from tests.end_to_end.clips import Clip
    from tests.wyoming_server.api.running import Running
    from wyoming_server.house import House

_IMAGES: Final = PROJECT / "docs" / "images"
_COLOURS: Final = 200
_WIDE: Final = {"width": 1180, "height": 900}
_PHONE: Final = {"width": 390, "height": 844}
_CLIPS: Final = (WEASELS, LEADER, PASSWORD, MUTED)
_SPOKEN: Final = MUTED.followed_by_silence(0.7)
"""What is said into the page's microphone."""
_BY_HOUR: Final = (0, 0, 1, 0, 0, 2, 5, 7, 3, 2, 2, 4, 3, 1, 2, 2, 4, 6, 9, 8, 6, 4, 2)
"""Utterances of a household, from midnight on."""
_WHISPER_ANSWERS_AT: Final = (7, 18, 19)
"""The hours in which AssemblyAI was out for a while."""


def made_up(chance: random.Random, backend: str) -> Trace:
    """An utterance of an earlier hour."""
    ended = chance.uniform(1.5, 4.0)
    failed = backend != "assemblyai"
    wait = chance.gauss(0.42, 0.06) if failed else chance.gauss(0.24, 0.03)
    common: dict[str, Any] = {"first_partial": None, "bytes_read": 0, "dollars": 0.0, "connected": 0.1}
    won = AttemptTrace(
        backend=backend,
        reason=Reason.FAILED if failed else Reason.FIRST,
        outcome=Outcome.WON,
        error=None,
        started=0.0,
        final=ended + wait,
        **common,
    )
    first = AttemptTrace(
        backend="assemblyai",
        reason=Reason.FIRST,
        outcome=Outcome.FAILED,
        error="disconnected",
        started=0.0,
        final=None,
        **common,
    )
    return Trace(
        audio_seconds=ended,
        last_speech=ended - 0.5,
        ended=ended,
        answered=ended + wait,
        backend=backend,
        error=None,
        attempts=(first, won) if failed else (won,),
    )


def live_through_a_day(house: House) -> None:
    """Let the counters have counted the last 23 hours."""
    chance = random.Random(7)
    now, clock = house.hours._now, house.statistics._clock
    for day in range(1, now().day):
        house.costs._usage.add(now().date().replace(day=day), "assemblyai", chance.uniform(180, 420))
    house.costs.add("assemblyai", 290)
    for ago in range(23, 0, -1):
        then = now() - timedelta(hours=ago)
        house.hours._now = lambda then=then: then
        house.statistics._clock = lambda ago=ago: clock() - ago * 3600
        for number in range(_BY_HOUR[then.hour % len(_BY_HOUR)]):
            is_out = then.hour in _WHISPER_ANSWERS_AT and number % 3 == 1
            event = Traced(made_up(chance, "whisper" if is_out else "assemblyai"))
            house.hours(event)
            house.statistics(event)
    house.hours._now, house.statistics._clock = now, clock


async def say(running: Running, clip: Clip) -> None:
    async with Speaker(running.wyoming.listening_uri) as speaker:
        await speaker.say(clip)


@asynccontextmanager
async def lived_in(folder: Path) -> AsyncIterator[Running]:
    """A server with all four backends that has heard people, and lost one of its backends once."""
    script = by_recording([(clip.pcm, script_for(clip.pcm, clip.text)) for clip in _CLIPS])
    whisper = WhisperTranscriber(directory=Path(MODEL_DIR))
    async with AsyncExitStack() as stack:
        assemblyai = await stack.enter_async_context(
            AssemblyAIEmulator({GOOD_KEY}, script=script, latency=Latency.measured())
        )
        sync = await stack.enter_async_context(SyncEmulator({GOOD_KEY}))
        worker = await stack.enter_async_context(running_worker(Witness(whisper)))
        flags = {
            "ASSEMBLYAI_API_KEY": GOOD_KEY,
            "ASSEMBLYAI_STREAMING_URL": assemblyai.url,
            "ASSEMBLYAI_SYNC_URL": sync.url,
            "BACKENDS": "assemblyai,whisper,local,assemblyai_sync",
            "LOCAL_THREADS": "1",
            "MODEL_DIR": MODEL_DIR,
            "STRATEGY": "failover",
            "WHISPER_API_KEY": WORKER_KEY,
            "WHISPER_PRICE": "0.59",
            "WHISPER_SERVICE_URL": worker.url,
        }
        running_house = await stack.enter_async_context(running(folder / "settings.json", flags))
        house = running_house.house
        house.engine.start()
        for backend in house.engine.backends:
            await backend.wait_ready()
        live_through_a_day(house)
        for _ in range(3):
            await asyncio.gather(*(say(running_house, clip) for clip in _CLIPS))
        await say(running_house, _CLIPS[0])
        assemblyai.faults = [Fault("audio", Drop(), audio_ms=1200)]
        await say(running_house, _CLIPS[1])
        assemblyai.faults = ()
        house.engine.close_breakers()
        await say(running_house, _CLIPS[2])
        assemblyai.script = script_for(_SPOKEN.pcm, _SPOKEN.text)
        yield running_house


async def photograph(visit: Visit, name: str, *, whole: bool = True) -> None:
    """Keep what is seen; whole pages down to the third utterance."""
    if whole:
        box = await visit.one("#utterances > li").nth(2).bounding_box()
        assert box is not None
        await visit.page.set_viewport_size({**_WIDE, "height": int(box["y"] + box["height"] + 6)})
    await visit.page.evaluate("Promise.all(document.getAnimations().map((item) => item.finished))")
    shot = Image.open(BytesIO(await visit.page.screenshot())).convert("RGB")
    path = _IMAGES / f"status-{name}.png"
    shot.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(PROJECT)}: {path.stat().st_size // 1024} KB")  # noqa: T201 - what whoever runs it asked for


async def speak(visit: Visit) -> None:
    """Say something into the page's own microphone."""
    await visit.one("#microphone").click()
    await expect(visit.one("#heard")).to_have_text(_SPOKEN.text)
    await visit.one("#microphone").click()
    await expect(visit.one("#heard")).to_have_attribute("data-kind", "final")


async def photograph_all(browser: Browser, url: str) -> None:
    common: dict[str, Any] = {"token": TOKEN, "timezone_id": os.environ.get("TZ") or "Europe/Berlin"}
    async with visiting(browser, url, viewport=_WIDE, color_scheme="light", **common) as seen:
        await seen.go_in()
        await speak(seen)
        await photograph(seen, "light")
        await seen.page.emulate_media(color_scheme="dark")
        await photograph(seen, "dark")
        await seen.page.emulate_media(color_scheme="light")
        await seen.one("#language").select_option("zh")
        await photograph(seen, "zh")
    phone: dict[str, Any] = {"viewport": _PHONE, "device_scale_factor": 2, "has_touch": True}
    async with visiting(browser, url, color_scheme="light", **phone, **common) as seen:
        await seen.go_in()
        await photograph(seen, "phone", whole=False)


async def main() -> None:
    """Write the pictures."""
    _IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        microphone(folder / "said.wav", _SPOKEN)
        heard = f"--use-file-for-fake-audio-capture={folder / 'said.wav'}%noloop"
        flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", heard]
        async with (
            lived_in(folder) as running_house,
            async_playwright() as driver,
            await driver.chromium.launch(
                executable_path=os.environ["CHROMIUM"], args=[*LAUNCH["args"], *flags]
            ) as browser,
        ):
            await photograph_all(browser, running_house.url + "/")


if __name__ == "__main__":
    asyncio.run(main())
