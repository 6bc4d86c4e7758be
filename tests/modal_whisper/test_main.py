from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from modal_whisper import __version__
from modal_whisper.__main__ import _OPTIONS, main
from modal_whisper.messages import Final, Ready, Start, Stop, decode_worker, encode
from tests.end_to_end.clips import MUTED, error_rate, words
from tests.fakes import PATIENCE, ScriptedTranscriber
from tests.processes import Process, free_port, on_thread, worker

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

KEY = "a-key-of-a-worker"
VALUES: dict[str, tuple[str, Any]] = {
    "WHISPER_HOST": ("::1", "::1"),
    "WHISPER_PORT": ("4000", 4000),
    "WHISPER_API_KEY": (KEY, KEY),
    "WHISPER_MODEL": ("small", "small"),
    "MODEL_DIR": ("/models", Path("/models")),
    "WHISPER_DEVICE": ("cuda", "cuda"),
    "WHISPER_COMPUTE_TYPE": ("float32", "float32"),
    "WHISPER_BEAM_SIZE": ("5", 5),
    "WHISPER_THREADS": ("3", 3),
    "WHISPER_MAX_UTTERANCE": ("30.5", 30.5),
    "DEBUG": ("true", True),
}
"""A value of every option that is not its default, and what it is read as."""
FLAGS = {name: f"--{name.removeprefix('WHISPER_').lower().replace('_', '-')}" for name in VALUES}


def attribute(name: str) -> str:
    return FLAGS[name].removeprefix("--").replace("-", "_")


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Free of all that whoever runs the tests may have set."""
    for option in _OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
        monkeypatch.delenv(f"{option.variable}_FILE", raising=False)
    return monkeypatch


@pytest.fixture
def options(environ: pytest.MonkeyPatch) -> Callable[..., argparse.Namespace]:
    """The options that a command line comes to."""
    served: list[argparse.Namespace] = []
    environ.setattr("modal_whisper.__main__._serve", served.append)

    def start(*arguments: str) -> argparse.Namespace:
        assert main(arguments) == 0
        return served.pop()

    return start


@pytest.fixture
def complaint(environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a wrong command line is answered with."""
    environ.setattr("modal_whisper.__main__._serve", lambda _: pytest.fail("it serves"))

    def start(*arguments: str) -> str:
        assert main(arguments) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("stt-failover-worker: ")
        assert output.err.count("\n") == 1
        return output.err.removeprefix("stt-failover-worker: ").strip()

    return start


# Options


def test_every_option_is_tested() -> None:
    assert [option.variable for option in _OPTIONS] == list(VALUES)


def test_without_options_it_listens_on_this_machine_only(
    options: Callable[..., argparse.Namespace],
) -> None:
    assert vars(options()) == {
        "host": "127.0.0.1",
        "port": 10301,
        "api_key": "",
        "model": "base",
        "model_dir": Path.home() / ".cache/stt-failover/models",
        "device": "auto",
        "compute_type": "auto",
        "beam_size": 5,
        "threads": 0,
        "max_utterance": 120.0,
        "debug": False,
    }


@pytest.mark.parametrize("name", VALUES)
def test_every_option_is_a_flag_a_variable_and_a_file(
    options: Callable[..., argparse.Namespace],
    environ: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    text, value = VALUES[name]
    assert getattr(options(FLAGS[name], text), attribute(name)) == value
    environ.setenv(name, text)
    assert getattr(options(), attribute(name)) == value
    environ.delenv(name)
    (tmp_path / "value").write_text(f" {text}\n")
    environ.setenv(f"{name}_FILE", str(tmp_path / "value"))
    assert getattr(options(), attribute(name)) == value


def test_a_flag_beats_the_environment_and_what_is_empty_is_not_set(
    options: Callable[..., argparse.Namespace], environ: pytest.MonkeyPatch
) -> None:
    environ.setenv("WHISPER_PORT", "4000")
    environ.setenv("WHISPER_MODEL", "")
    environ.setenv("WHISPER_API_KEY_FILE", "")
    chosen = options("--port", "4001")
    assert (chosen.port, chosen.model, chosen.api_key) == (4001, "base", "")


@pytest.mark.parametrize(
    ("arguments", "value"), [(["--debug"], True), (["--debug", "no"], False), (["--debug", "ON"], True)]
)
def test_debug_needs_no_value(
    options: Callable[..., argparse.Namespace], arguments: list[str], *, value: bool
) -> None:
    assert options(*arguments).debug is value


def test_home_is_found(options: Callable[..., argparse.Namespace], environ: pytest.MonkeyPatch) -> None:
    environ.setenv("HOME", "/home/of/somebody")
    assert options("--model-dir", "~/models").model_dir == Path("/home/of/somebody/models")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_this_machine_needs_no_key(options: Callable[..., argparse.Namespace], host: str) -> None:
    assert options("--host", host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "worker.example", "localhost.example"])
def test_anybody_elses_machine_needs_a_key(
    complaint: Callable[..., str], host: str, environ: pytest.MonkeyPatch
) -> None:
    assert complaint("--host", host) == f"listening on {host} needs a key: set WHISPER_API_KEY"
    environ.setattr("modal_whisper.__main__._serve", lambda _: None)
    assert main(["--host", host, "--api-key", KEY]) == 0


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("WHISPER_HOST", " ", "takes a name"),
        ("WHISPER_PORT", "http", "takes a whole number from 1 to 65535"),
        ("WHISPER_PORT", "0", "takes a whole number from 1 to 65535"),
        ("WHISPER_PORT", "65536", "takes a whole number from 1 to 65535"),
        ("WHISPER_PORT", "9" * 5000, "takes a whole number from 1 to 65535"),
        ("WHISPER_MODEL", " ", "takes a name"),
        ("MODEL_DIR", "~nobody-of-that-name/models", "takes the path of a folder"),
        ("MODEL_DIR", " ", "takes the path of a folder"),
        ("WHISPER_DEVICE", "tpu", "takes one of auto, cpu, cuda"),
        ("WHISPER_COMPUTE_TYPE", "int7", "takes one of auto, default, int8, int8_float32, int8_float16, "),
        ("WHISPER_BEAM_SIZE", "0", "takes a whole number from 1 to 20"),
        ("WHISPER_BEAM_SIZE", "21", "takes a whole number from 1 to 20"),
        ("WHISPER_THREADS", "-1", "takes a whole number from 0 to 256"),
        ("WHISPER_THREADS", "257", "takes a whole number from 0 to 256"),
        ("WHISPER_MAX_UTTERANCE", "long", "takes seconds from 1 to 600"),
        ("WHISPER_MAX_UTTERANCE", "nan", "takes seconds from 1 to 600"),
        ("WHISPER_MAX_UTTERANCE", "inf", "takes seconds from 1 to 600"),
        ("WHISPER_MAX_UTTERANCE", "0.9", "takes seconds from 1 to 600"),
        ("WHISPER_MAX_UTTERANCE", "601", "takes seconds from 1 to 600"),
        ("DEBUG", "maybe", "takes true or false"),
    ],
)
def test_a_wrong_value_is_one_line_that_says_what_the_option_takes(
    complaint: Callable[..., str], environ: pytest.MonkeyPatch, name: str, value: str, takes: str
) -> None:
    for line in (
        complaint(f"{FLAGS[name]}={value}"),
        complaint_of_environment(complaint, environ, name, value),
    ):
        assert line.startswith(f"{name} {takes}")
        assert line.endswith(f", not {value!r}")


def complaint_of_environment(
    complaint: Callable[..., str], environ: pytest.MonkeyPatch, name: str, value: str
) -> str:
    environ.setenv(name, value)
    return complaint()


@pytest.mark.parametrize("key", ["two words", "schlüssel", "tab\tkey"])
def test_a_wrong_key_is_not_shown(complaint: Callable[..., str], key: str) -> None:
    assert complaint("--api-key", key) == (
        "WHISPER_API_KEY takes a key without blanks and other characters that no key has, not this value"
    )


def test_a_variable_and_its_file_are_one_too_many(
    complaint: Callable[..., str], environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ.setenv("WHISPER_API_KEY", KEY)
    environ.setenv("WHISPER_API_KEY_FILE", str(tmp_path))
    assert complaint() == "WHISPER_API_KEY and WHISPER_API_KEY_FILE are both set; keep one of them"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing", "No such file or directory"), (".", "Is a directory"), ("binary", "it is no text")],
)
def test_a_file_that_cannot_be_read_is_one_line(
    complaint: Callable[..., str], environ: pytest.MonkeyPatch, tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    environ.setenv("WHISPER_PORT_FILE", str(tmp_path / name))
    assert complaint() == f"WHISPER_PORT_FILE: cannot read {tmp_path / name} ({reason})"


@pytest.mark.usefixtures("environ")
def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    for name, flag in FLAGS.items():
        assert flag in text
        assert name in text
    assert "_FILE" in text


@pytest.mark.usefixtures("environ")
def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"stt-failover-worker {__version__}\n")


@pytest.mark.usefixtures("environ")
def test_an_unknown_option_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--colour"])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("unrecognized arguments: --colour\n")


# What the options do


@pytest.fixture
def transcriber(environ: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the model was made with; none is loaded."""
    made: dict[str, Any] = {}

    def make(model: str, **options: Any) -> ScriptedTranscriber:
        made.update(options, model=model)
        return ScriptedTranscriber(model=model)

    environ.setattr("modal_whisper.__main__.WhisperTranscriber", make)
    return made


def test_the_options_reach_the_model_and_the_service(
    transcriber: dict[str, Any], environ: pytest.MonkeyPatch
) -> None:
    built: dict[str, Any] = {}
    run: dict[str, Any] = {}
    environ.setattr("modal_whisper.__main__.create_app", lambda runner, **options: built.update(options))
    environ.setattr("modal_whisper.__main__.web.run_app", lambda _, **options: run.update(options))
    assert main([word for name, (text, _) in VALUES.items() for word in (FLAGS[name], text)]) == 0
    assert transcriber == {
        "model": "small",
        "directory": Path("/models"),
        "device": "cuda",
        "compute_type": "float32",
        "beam_size": 5,
        "threads": 3,
    }
    assert built["api_key"] == KEY
    assert built["limits"].max_utterance == 30.5
    assert (run["host"], run["port"], run["access_log"]) == ("::1", 4000, None)


@pytest.mark.usefixtures("transcriber")
def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    *log, line = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(log)
    assert line.startswith(f"stt-failover-worker: cannot listen on 127.0.0.1:{port} (")
    assert "address already in use" in line


@pytest.mark.usefixtures("transcriber")
def test_a_host_that_cannot_be_one_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "a..b", "--api-key", KEY]) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("stt-failover-worker: cannot listen on a..b:10301 (")
    )


# The real process


async def health(process: Process) -> tuple[int, dict[str, Any]]:
    async with aiohttp.request("GET", f"http://127.0.0.1:{process.port}/health") as response:
        return response.status, await response.json()


async def test_it_runs_understands_people_and_ends_with_sigterm(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    async with on_thread(worker("--debug", WHISPER_API_KEY_FILE=str(tmp_path / "key"))) as process:
        url = f"ws://127.0.0.1:{process.port}/ws/stt"
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(url, headers={"Authorization": f"Bearer {KEY}"}) as socket,
        ):
            await socket.send_str(encode(Start("en")))
            await socket.send_bytes(MUTED.pcm)
            await socket.send_str(encode(Stop()))
            answers = [decode_worker(await socket.receive_str(timeout=60))]
            while not isinstance(answers[-1], Final):
                answers.append(decode_worker(await socket.receive_str(timeout=60)))
            assert await health(process) == (
                200,
                {"status": "ready", "model": "base", "version": __version__},
            )
            process.send(signal.SIGTERM)
            message = await socket.receive(timeout=PATIENCE)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        assert await asyncio.to_thread(process.wait) == 0
        log = process.log
    assert answers[0] == Ready("base", __version__)
    assert error_rate(MUTED.text, answers[-1].text) < 0.2
    assert f"INFO listening on {url}" in log
    assert "INFO loaded the Whisper model base (" in log
    assert KEY not in log
    assert "Traceback" not in log
    assert not {"conference", "muted"} & set(words(log))


STRANGE_REQUESTS = [
    b"\x16\x03\x01 is not HTTP\r\n\r\n",
    f"GET /ws/stt HTTP/1.1\r\nAuthorization: Bearer {KEY}\0\r\n\r\n".encode(),
    f"GET /ws/stt?{KEY} HTTP/9.9\r\n\r\n".encode(),
]


async def test_a_model_that_cannot_be_had_is_one_line_in_the_log_and_strangers_add_none() -> None:
    async with on_thread(worker(WHISPER_MODEL="/no/such/model")) as process:
        await asyncio.to_thread(process.wait_logged, "does not exist")
        status, body = await health(process)
        for request in STRANGE_REQUESTS:
            reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
            writer.write(request)
            assert b" 400 " in await reader.readline()
            writer.close()
        log = process.log
    assert (status, body["error"]) == (503, "the model folder /no/such/model does not exist")
    (line,) = [line for line in log.splitlines() if "no/such/model" in line]
    assert line.endswith(" ERROR the model folder /no/such/model does not exist")
    assert "Traceback" not in log
    assert KEY not in log


STUCK = """
import sys, threading
import modal_whisper.__main__ as worker

class Stuck:
    model = "stuck"

    def __init__(self, model, **options):
        self.where = model

    def wait_at(self, place):
        if self.where == place:
            print("stuck", file=sys.stderr, flush=True)
            threading.Event().wait()

    def load(self):
        self.wait_at("load")

    def transcribe(self, passage, cancelled):
        self.wait_at("work")

worker.WhisperTranscriber = Stuck
worker.console()
"""


@contextmanager
def stuck_worker(where: str) -> Iterator[Process]:
    """The command line with a model that never comes back."""
    port = free_port()
    process = Process([sys.executable, "-c", STUCK, "--model", where], {"WHISPER_PORT": str(port)}, port=port)
    try:
        process.wait_listening()
        yield process
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("where", "number"), [("load", signal.SIGTERM), ("work", signal.SIGTERM), ("work", signal.SIGINT)]
)
async def test_it_ends_at_once_although_the_model_is_at_work(where: str, number: signal.Signals) -> None:
    async with (
        on_thread(stuck_worker(where)) as process,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"ws://127.0.0.1:{process.port}/ws/stt") as socket,
    ):
        await socket.send_str(encode(Start()))
        await socket.send_bytes(MUTED.pcm)
        await socket.send_str(encode(Stop()))
        assert isinstance(decode_worker(await socket.receive_str(timeout=PATIENCE)), Ready)
        await asyncio.to_thread(process.wait_logged, "stuck")
        process.send(number)
        message = await socket.receive(timeout=PATIENCE)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        assert await asyncio.to_thread(process.wait) == 0
        assert "Traceback" not in process.log
