from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulators.assemblyai_script import script_for
from tests.emulators.assemblyai_sync import Body, Drop, Fault, Noise, Stall, Status, SyncEmulator
from tests.sounds import speech
from tests.wyoming_server.backends.listening import (
    PATIENCE,
    Heard,
    leaving_nothing,
    listen,
    recording_of,
    say,
)
from wyoming_server.backends.assemblyai_sync import AssemblyAISync, AssemblyAISyncOptions
from wyoming_server.backends.base import Hypothesis, Request
from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    OverdueError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
    UnreachableError,
)
from wyoming_server.recording import Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CERTIFICATE = Path(__file__).with_name("untrusted.pem")
KEY = "good-key"
VOICE = speech(1500)
WORDS = "Weasels have eaten our phone system."


def options(url: str, **changes: Any) -> AssemblyAISyncOptions:
    """Patient ones, so that a slow machine fails no test."""
    return AssemblyAISyncOptions(
        **{
            "api_key": KEY,
            "url": url,
            "model": "universal-3-5-pro",
            "languages": (),
            "connect_timeout": PATIENCE,
            "timeout": PATIENCE,
            **changes,
        }
    )


class Stage:
    """The backend before the emulator, and what it says that it spent."""

    def __init__(self, emulator: SyncEmulator, backend: AssemblyAISync, spent: list[float]) -> None:
        self.emulator = emulator
        self.backend = backend
        self.spent = spent


@asynccontextmanager
async def stage(fault: Fault | None = None, **changes: Any) -> AsyncIterator[Stage]:
    spent: list[float] = []
    async with (
        SyncEmulator(script=script_for(VOICE, WORDS), fault=fault) as emulator,
        leaving_nothing() as session,
    ):
        backend = AssemblyAISync(options(emulator.url, **changes), session, spent.append)
        yield Stage(emulator, backend, spent)
        await backend.close()


async def test_a_recording_of_the_past_is_uploaded_whole_and_answered() -> None:
    async with stage() as it:
        heard = await listen(it.backend, recording_of(VOICE))
        assert heard.connected.is_set()
        assert heard.hypotheses == [Hypothesis(WORDS, is_final=True)]
        (record,) = it.emulator.requests
        assert bytes(record.audio) == VOICE
        assert record.headers["authorization"] == KEY
        assert record.headers["x-aai-model"] == "universal-3-5-pro"
        assert record.config == {"sample_rate": 16_000, "channels": 1}
        assert it.spent == [pytest.approx(1.5)]


async def test_the_voice_is_uploaded_while_it_is_spoken() -> None:
    async with stage() as it:
        recording = recording_of(VOICE[:9600], ended=False)
        listening = asyncio.create_task(listen(it.backend, recording))
        await say(recording, VOICE[9600:])
        (record,) = it.emulator.requests
        assert len(record.audio) > len(VOICE) // 2
        recording.end()
        assert (await listening).texts == [WORDS]
        assert bytes(record.audio) == VOICE


async def test_language_and_names_are_passed_on() -> None:
    async with stage() as it:
        await listen(it.backend, recording_of(VOICE), Request("de", ("Hue",), ("Sonos", "Hue")))
        config = it.emulator.requests[0].config
        assert (config["language_codes"], config["keyterms_prompt"]) == (["de"], ["Hue", "Sonos"])


async def test_languages_of_the_settings_come_before_those_of_the_request() -> None:
    async with stage(languages=("fr", "en")) as it:
        await listen(it.backend, recording_of(VOICE), Request("de"))
        assert it.emulator.requests[0].config["language_codes"] == ["fr", "en"]


async def test_a_language_of_the_settings_that_only_the_streaming_model_knows_is_not_passed_on() -> None:
    async with stage(languages=("zu", "ca", "ur")) as it:
        await listen(it.backend, recording_of(VOICE), Request("de"))
        assert it.emulator.requests[0].config["language_codes"] == ["ur"]
    async with stage(languages=("zu",)) as it:
        await listen(it.backend, recording_of(VOICE), Request("de"))
        await listen(it.backend, recording_of(VOICE))
        assert [record.config.get("language_codes") for record in it.emulator.requests] == [["de"], None]


async def test_no_more_names_than_the_service_takes() -> None:
    async with stage() as it:
        await listen(it.backend, recording_of(VOICE), Request(names=tuple(f"name{n:03}" for n in range(300))))
        await listen(it.backend, recording_of(VOICE), Request(names=tuple(f"{n}" * 900 for n in range(9))))
        first, second = (record.config["keyterms_prompt"] for record in it.emulator.requests)
        assert (len(first), first[0]) == (100, "name000")
        assert len(second) == 8


async def test_audio_that_is_too_short_is_filled_up() -> None:
    async with stage() as it:
        assert (await listen(it.backend, recording_of(bytes(320)))).texts == [""]
        assert bytes(it.emulator.requests[0].audio) == bytes(80 * 32)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(400), RejectedError),
        (Status(401), SignInRefusedError),
        (Status(413), RejectedError),
        (Status(415), RejectedError),
        (Status(429, 7), RateLimitedError),
        (Status(500), OverloadedError),
        (Status(503, 2), OverloadedError),
        (Status(504), OverloadedError),
        (Drop(), DisconnectedError),
        (Drop(9600), DisconnectedError),
        (Noise(), DisconnectedError),
        (Body("{"), RejectedError),
        (Body("[]"), RejectedError),
        (Body('{"words": []}'), RejectedError),
        (Body('{"text": null}'), RejectedError),
        (Body("[" * 100_000), RejectedError),
        (Status(302, location="/v1/warm"), RejectedError),
        (Status(307, location="/v1/transcribe"), RejectedError),
    ],
)
async def test_everything_that_goes_wrong_has_its_error(fault: Fault, error: type[BackendError]) -> None:
    async with stage(fault) as it:
        with pytest.raises(error) as caught:
            await listen(it.backend, recording_of(VOICE))
        assert KEY not in str(caught.value)
        assert WORDS not in str(caught.value)
        if isinstance(caught.value, RateLimitedError):
            assert caught.value.retry_after == 7


async def test_a_refusal_is_seen_while_the_person_still_speaks_and_costs_nothing() -> None:
    async with stage(Status(401)) as it:
        recording = recording_of(VOICE, ended=False)
        with pytest.raises(SignInRefusedError):
            await listen(it.backend, recording)
        assert recording.ended_at is None
        assert it.spent == []


async def test_a_wrong_key_is_refused() -> None:
    async with stage(api_key="wrong-key") as it:
        with pytest.raises(SignInRefusedError, match=r"^sign-in refused \(HTTP 401\)$"):
            await listen(it.backend, recording_of(VOICE))


async def test_no_answer_is_overdue_and_billed() -> None:
    async with stage(Stall(), timeout=0.2) as it:
        with pytest.raises(OverdueError, match=r"no answer within 0\.2 s after the last sample"):
            await listen(it.backend, recording_of(VOICE))
        assert it.spent == [pytest.approx(1.5)]


async def test_an_upload_that_nobody_takes_is_overdue() -> None:
    async with stage(Stall(after_bytes=9600), timeout=0.2) as it:
        with pytest.raises(OverdueError):
            await listen(it.backend, recording_of(VOICE * 40))
        assert len(it.emulator.requests[0].audio) < len(VOICE * 40)


async def test_a_drop_is_noticed_while_the_person_still_speaks() -> None:
    async with stage(Drop(9600)) as it:
        recording = recording_of(VOICE, ended=False)
        with pytest.raises(DisconnectedError):
            await listen(it.backend, recording)
        assert recording.ended_at is None


async def test_an_empty_text_is_an_answer() -> None:
    async with stage(Body('{"text": " "}')) as it:
        assert (await listen(it.backend, recording_of(VOICE))).hypotheses == [Hypothesis("", is_final=True)]


async def test_an_answer_that_takes_its_time_is_waited_for() -> None:
    async with stage() as it:
        it.emulator.latency = 0.2
        assert (await listen(it.backend, recording_of(VOICE))).texts == [WORDS]


async def test_the_clock_of_the_answer_starts_when_the_person_has_stopped() -> None:
    async with stage(timeout=0.3) as it:
        recording = recording_of(VOICE, ended=False)
        listening = asyncio.create_task(listen(it.backend, recording))
        await asyncio.sleep(0.6)
        assert not listening.done()
        recording.end()
        assert (await listening).texts == [WORDS]


async def test_an_answer_without_end_is_not_taken() -> None:
    async with stage(Body(" " * 8 * 1024 * 1024)) as it:
        with pytest.raises(RejectedError, match="without end"):
            await listen(it.backend, recording_of(VOICE))


async def test_an_answer_that_comes_before_everything_was_said_is_none() -> None:
    async with stage(Body('{"text": "Weasels"}', after_bytes=9600)) as it:
        with pytest.raises(DisconnectedError, match="before it had heard everything"):
            await listen(it.backend, recording_of(VOICE, ended=False))


async def test_the_recording_is_read_no_more_once_the_upload_is_given_up() -> None:
    doings: list[str] = []

    class Watched(Reader):
        async def frames(self, ms: int = 50, most_ms: int | None = None) -> AsyncIterator[bytes]:
            doings.append("opened")
            try:
                async for frame in super().frames(ms, most_ms):
                    yield frame
            finally:
                doings.append("closed")

    async with stage(Stall(after_bytes=9600), timeout=0.2) as it:
        with pytest.raises(OverdueError):
            await listen(it.backend, Watched(recording_of(VOICE * 40)))
        assert doings == ["opened", "closed"]


async def test_a_service_that_never_says_farewell_in_tls_is_let_go() -> None:
    served, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=CERTIFICATE)
    served.load_cert_chain(CERTIFICATE)

    async def read_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined] # every socket's has it
        await gone.wait()
        writer.transport.abort()

    gone = asyncio.Event()
    async with await asyncio.start_server(read_nothing, "127.0.0.1", 0, ssl=served) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        async with leaving_nothing(tls=trusting) as session:
            with pytest.raises(OverdueError):
                await listen(AssemblyAISync(options(url, timeout=0.2), session), recording_of(VOICE))
        gone.set()


async def test_nobody_there_is_unreachable() -> None:
    async with stage() as it:
        url = it.emulator.url
    spent: list[float] = []
    async with leaving_nothing() as session:
        with pytest.raises(UnreachableError):
            await listen(AssemblyAISync(options(url), session, spent.append), recording_of(VOICE))
    assert spent == []


async def test_a_host_that_never_accepts_is_unreachable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # TLS to somebody who says nothing: the handshake never ends.
        async with leaving_nothing() as session:
            backend = AssemblyAISync(options(f"https://127.0.0.1:{port}", connect_timeout=0.2), session)
            with pytest.raises(UnreachableError, match=r"no connection within 0\.2 s"):
                await listen(backend, recording_of(VOICE))


async def test_giving_up_leaves_nothing_behind() -> None:
    async with stage() as it:
        heard = Heard()
        listening = asyncio.create_task(listen(it.backend, recording_of(VOICE, ended=False), heard=heard))
        async with asyncio.timeout(PATIENCE):
            await heard.connected.wait()
        listening.cancel()
        await asyncio.wait([listening])
        async with asyncio.timeout(PATIENCE):
            await it.emulator.requests[0].over.wait() if it.emulator.requests else None
        assert it.spent == [pytest.approx(1.5)]


async def test_a_probe_opens_a_connection_only() -> None:
    async with stage() as it:
        await it.backend.probe()
        assert (it.emulator.warmed, it.emulator.requests) == (1, [])
    async with leaving_nothing() as session:
        with pytest.raises(UnreachableError):
            await AssemblyAISync(options(it.emulator.url), session).probe()


async def test_a_probe_sees_a_fault_of_the_service() -> None:
    async with stage(Status(503)) as it:
        with pytest.raises(OverloadedError):
            await it.backend.probe()
        it.emulator.fault = Status(302, location="/v1/warm")
        with pytest.raises(RejectedError):
            await it.backend.probe()


def test_the_key_is_not_shown() -> None:
    assert "secret-key" not in repr(options("https://x", api_key="secret-key"))


def test_a_model_that_we_do_not_know_is_trusted_with_the_languages_of_the_oldest() -> None:
    known = AssemblyAISync(options("https://x"), None)  # type: ignore[arg-type]  # asks nobody
    other = AssemblyAISync(options("https://x", model="universal-9"), None)  # type: ignore[arg-type]
    assert known.languages == other.languages
    assert {"en", "ur"} <= known.languages
    assert "ca" not in known.languages
    assert not known.hears_while_spoken
