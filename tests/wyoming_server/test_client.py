"""The client that streams a file, against our server and against what is none."""

from __future__ import annotations

import asyncio
import wave
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.fake_backends import CONNECTED, ScriptedBackend, Wait, final, partial
from tests.processes import free_port
from tests.sounds import speech
from tests.wyoming_server.serving import serving
from wyoming_server import client as client_module
from wyoming_server.client import TranscribeError, transcribe_file
from wyoming_server.errors import RateLimitedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from wyoming_server.backends.base import Progress, Request
    from wyoming_server.recording import Recording

VOICE = speech(600)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """0.6 s of a person."""
    return write(tmp_path / "voice.wav", VOICE)


def write(path: Path, pcm: bytes) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(pcm)
    return path


@asynccontextmanager
async def replying(raw: bytes) -> AsyncIterator[str]:
    """The URI of a server that says this at once, whatever it is told, and closes."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(raw)
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"tcp://{host}:{port}"


async def test_answer_has_the_words_and_who_gave_them(wav: Path) -> None:
    backend = ScriptedBackend("listener", CONNECTED, Wait.AUDIO, final("open the door"))
    async with serving(backend) as server:
        answer = await transcribe_file(wav, server.uri, language="de")
    assert (answer.text, answer.backend) == ("open the door", "listener")
    assert answer.ms >= 0
    assert backend.asked[0].received == VOICE
    assert backend.asked[0].request.language == "de"


async def test_partials_are_the_whole_text_so_far(wav: Path) -> None:
    script = partial("open"), partial("open the"), partial("shut"), Wait.END, final("shut the door")
    texts: list[str] = []
    async with serving(ScriptedBackend("listener", *script)) as server:
        await transcribe_file(wav, server.uri, on_partial=texts.append)
    assert texts == ["open", "open the", "shut", "shut the door"]


class Timekeeper(ScriptedBackend):
    """Remembers how long the audio took to come."""

    seconds = 0.0

    async def transcribe(self, recording: Recording, request: Request) -> AsyncGenerator[Progress, None]:
        began_at = asyncio.get_running_loop().time()
        await recording.wait_ended()
        self.seconds = asyncio.get_running_loop().time() - began_at
        yield final("open the door")


async def test_audio_is_sent_at_the_speed_of_speech(wav: Path) -> None:
    backend = Timekeeper("timekeeper")
    async with serving(backend) as server:
        await transcribe_file(wav, server.uri)
    assert backend.seconds > 0.5


async def test_answer_that_comes_before_the_end_is_taken(wav: Path) -> None:
    async with replying(b'{"type": "transcript", "data": {"text": "open"}}\n') as uri:
        answer = await transcribe_file(wav, uri)
    assert (answer.text, answer.ms) == ("open", 0)


async def test_error_of_the_server_is_handed_on(wav: Path) -> None:
    async with serving(ScriptedBackend("busy", RateLimitedError("too many sessions"))) as server:
        with pytest.raises(TranscribeError, match=r"^the server says: .*busy: too many sessions"):
            await transcribe_file(wav, server.uri)


async def test_server_that_does_not_say_who_answers_is_understood(wav: Path) -> None:
    async with replying(b'{"type": "transcript", "data": {"text": "open"}}\n') as uri:
        assert (await transcribe_file(wav, uri)).backend == ""


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "the server closed the connection without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server closed the connection without an answer"),
        (b'{"type": "transcript", "data_length": 20}\n{"text', "sent an incomplete event"),
        (b'{"type": "transcript"}\n', "sent an incomplete event"),
    ],
    ids=["nothing", "HTTP", "half an event", "no text"],
)
async def test_server_that_makes_no_sense_is_a_clear_error(wav: Path, raw: bytes, complaint: str) -> None:
    async with replying(raw) as uri:
        with pytest.raises(TranscribeError, match=complaint):
            await transcribe_file(wav, uri)


async def test_server_that_never_answers_is_a_clear_error(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_ANSWER_TIMEOUT", 0.05)
    async with serving(ScriptedBackend("silent", Wait.FOREVER)) as server:
        with pytest.raises(TranscribeError, match=rf"^{server.uri} does not answer$"):
            await transcribe_file(wav, server.uri)


async def test_time_for_the_answer_begins_after_the_recording(
    wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, float] = {}

    def refuse(uri: str, **timeouts: float) -> NoReturn:
        given.update(timeouts)
        raise ConnectionRefusedError

    monkeypatch.setattr(client_module.AsyncClient, "from_uri", refuse)
    with pytest.raises(TranscribeError):
        await transcribe_file(wav, "tcp://127.0.0.1:1")
    assert given["read_timeout"] == pytest.approx(client_module._ANSWER_TIMEOUT + 0.6)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("tcp://127.0.0.1:{free}", "refused|Connect call failed"),
        ("tcp://127.0.0.1", "port"),
        ("x", "supported"),
    ],
)
async def test_server_that_is_not_there_is_a_clear_error(wav: Path, uri: str, reason: str) -> None:
    uri = uri.format(free=free_port())
    with pytest.raises(TranscribeError, match=rf"^cannot reach {uri} \(.*({reason}).*\)$"):
        await transcribe_file(wav, uri)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, r"cannot read .*voice\.wav as a WAV file \(No such file or directory\)"),
        (b"", r"cannot read .*voice\.wav as a WAV file \(it ends too early\)"),
        (b"ID3 and so on", r"cannot read .*voice\.wav as a WAV file \(.*RIFF.*\)"),
    ],
    ids=["missing", "empty", "no WAV"],
)
async def test_file_that_cannot_be_read_is_a_clear_error(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "voice.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TranscribeError, match=f"^{complaint}$"):
        await transcribe_file(path, "tcp://127.0.0.1:1")


async def test_file_without_audio_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TranscribeError, match=r"voice\.wav holds no audio$"):
        await transcribe_file(write(tmp_path / "voice.wav", b""), "tcp://127.0.0.1:1")
