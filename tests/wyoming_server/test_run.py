"""One run of the server from its start to its end, mostly as the command line does it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from wyoming.event import Event

from modal_whisper.runner import ModelRunner
from modal_whisper.service import create_app
from tests import processes
from tests.engines import ignore, new_engine
from tests.fake_backends import ScriptedBackend, Wait
from tests.fakes import PATIENCE, ScriptedTranscriber
from tests.sounds import speech
from tests.virtual_clock import run_virtual
from tests.wyoming_server.serving import connected, encoded
from wyoming_server import house as house_module, run as run_module
from wyoming_server.build import Built, LocalOptions
from wyoming_server.settings import validate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

VOICE = speech(600)
_INTO_A_BROKEN_PIPE = """
import os, sys
read, written = os.pipe()
for number in (1, 2):
    os.dup2(written, number)
os.close(read)
os.close(written)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Quitter(ScriptedBackend):
    """Ends the process that starts it, as its user would, and holds on to what it has open."""

    def start(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def close(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture
async def worker() -> AsyncIterator[tuple[str, ScriptedTranscriber, threading.Event]]:
    """The address of a worker, its model, and what lets the model give its words."""
    let_go = threading.Event()
    transcriber = ScriptedTranscriber(let_go, "open the door")
    runner = web.AppRunner(create_app(ModelRunner(transcriber)), shutdown_timeout=1.0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}", transcriber, let_go
    finally:
        let_go.set()
        await runner.cleanup()


async def test_sigusr1_writes_what_happened_in_the_latest_utterances_to_the_log(
    worker: tuple[str, ScriptedTranscriber, threading.Event],
) -> None:
    url, _, let_go = worker
    let_go.set()
    settings = {"BACKENDS": "whisper", "WHISPER_SERVICE_URL": url}
    async with processes.on_thread(processes.server(**settings)) as server, connected(server) as client:
        for _ in range(2):  # by the second answer all is known of the first utterance
            await client.say(VOICE)
            assert await client.text() == "open the door"
        server.send(signal.SIGUSR1)
        await asyncio.to_thread(server.wait_logged, '"reason": "first", "outcome": "won"')
        assert server.is_running
    assert "open the door" not in server.log


def test_backends_are_kept_warm_for_those_who_ask_for_it() -> None:
    backend = ScriptedBackend("sleepy")

    async def main() -> None:
        house = SimpleNamespace(engine=new_engine([backend]), settings=validate({"KEEP_WARM": 30}))
        keeping = asyncio.create_task(run_module._keep_warm(house))  # type: ignore[arg-type]  # it is enough
        await asyncio.sleep(100)
        house.settings = validate({})
        await asyncio.sleep(100)
        house.settings = validate({"KEEP_WARM": 60})
        await asyncio.sleep(100)
        keeping.cancel()
        await asyncio.wait([keeping])

    run_virtual(main())
    assert backend.warmed_at == [0.0, 30.0, 60.0, 90.0, 200.0, 260.0]


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_ends_at_once_though_the_model_is_being_loaded(number: signal.Signals) -> None:
    with processes.server(BACKENDS="local") as server:
        assert server.stop(number) == 0
    assert "INFO stopping" in server.log
    assert "loaded the Whisper model" not in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_utterance_in_flight_is_answered_before_the_end(
    worker: tuple[str, ScriptedTranscriber, threading.Event], number: signal.Signals
) -> None:
    url, transcriber, let_go = worker
    settings = {"BACKENDS": "whisper", "WHISPER_SERVICE_URL": url, "WHISPER_TIMEOUT": "30", "DEADLINE": "30"}
    async with processes.on_thread(processes.server(**settings)) as server, connected(server) as client:
        await client.say(VOICE)
        await transcriber.wait_asked()
        server.send(number)
        await asyncio.to_thread(server.wait_logged, "stopping")
        server.send(signal.SIGHUP)  # a terminal that closes may send several
        let_go.set()
        assert await client.text() == "open the door"
        assert await client.rest() == []
        assert await asyncio.to_thread(server.wait) == 0
    assert transcriber.asked[0].pcm == VOICE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_the_process_without_the_answers(
    worker: tuple[str, ScriptedTranscriber, threading.Event], number: signal.Signals
) -> None:
    url, transcriber, _ = worker
    settings = {"BACKENDS": "whisper", "WHISPER_SERVICE_URL": url, "WHISPER_TIMEOUT": "30", "DEADLINE": "30"}
    async with processes.on_thread(processes.server(**settings)) as server, connected(server) as client:
        await client.say(VOICE)
        await transcriber.wait_asked()
        server.send(signal.SIGTERM)
        await asyncio.to_thread(server.wait_logged, "stopping")
        server.send(number)
        assert await client.rest() == []
        assert await asyncio.to_thread(server.wait) == 0
    assert "stopping at once" in server.log
    assert "Traceback" not in server.log


async def test_server_that_outlives_its_terminal_goes_on() -> None:
    command = ["nohup", processes.SERVER]
    port = processes.free_port()
    settings = {"BACKENDS": "local", "URI": f"tcp://127.0.0.1:{port}"}
    process = processes.Process(command, settings, port=port)
    await asyncio.to_thread(process.wait_listening)
    for number in (signal.SIGHUP, signal.SIGPIPE):
        process.send(number)
    async with connected(process) as client:
        assert await client.settle() == []
    assert "stopping" not in process.log
    assert await asyncio.to_thread(process.stop) == 0


@pytest.mark.parametrize("streams", ["0<&- 1>&- 2>&-", "</dev/null 1>/dev/full 2>/dev/full"])
async def test_server_serves_though_nobody_can_read_what_it_prints_and_logs(
    worker: tuple[str, ScriptedTranscriber, threading.Event], streams: str
) -> None:
    url, _, let_go = worker
    let_go.set()
    port, api_port = processes.free_port(), processes.free_port()
    settings = {"URI": f"tcp://127.0.0.1:{port}", "BACKENDS": "whisper", "WHISPER_SERVICE_URL": url}
    settings |= {"API_PORT": str(api_port), "SELF_CHECK": "true"}  # both print
    process = processes.Process(["sh", "-c", f"exec {processes.SERVER} {streams}"], settings, port=port)
    await asyncio.to_thread(process.wait_listening)
    async with connected(process) as client:
        await client.say(VOICE)
        assert await client.text() == "open the door"
    assert await asyncio.to_thread(process.stop) == 0


async def test_server_serves_though_the_reader_of_its_log_has_left(
    worker: tuple[str, ScriptedTranscriber, threading.Event],
) -> None:
    url, _, let_go = worker
    let_go.set()
    port = processes.free_port()
    settings = {"URI": f"tcp://127.0.0.1:{port}", "BACKENDS": "whisper", "WHISPER_SERVICE_URL": url}
    settings |= {"API_PORT": str(processes.free_port()), "SELF_CHECK": "true"}
    process = processes.Process(
        [sys.executable, "-c", _INTO_A_BROKEN_PIPE, processes.SERVER], settings, port=port
    )
    await asyncio.to_thread(process.wait_listening)
    async with connected(process) as client:
        await client.say(VOICE)
        assert await client.text() == "open the door"
    assert await asyncio.to_thread(process.stop) == 0


def test_end_waits_neither_for_services_nor_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_TIDYING_SECONDS", 0.05)
    quitter = Quitter("quitter", Wait.FOREVER)
    built = {"quitter": Built(quitter, LocalOptions(None, ()))}  # type: ignore[arg-type]  # not looked at
    monkeypatch.setattr(house_module, "build_backends", lambda *_, **__: built)
    look_up_ends = threading.Event()

    async def main() -> int:
        looking_up = asyncio.get_running_loop().run_in_executor(None, look_up_ends.wait, 3 * PATIENCE)
        code = await run_module.run(validate({"URI": "tcp://127.0.0.1:0"}))
        assert not looking_up.done()
        looking_up.cancel()
        return code

    alarm = threading.Timer(PATIENCE, look_up_ends.set)
    alarm.start()
    assert asyncio.run(main()) == 0
    assert not look_up_ends.is_set()
    alarm.cancel()
    look_up_ends.set()


# The start


def test_port_that_is_taken_is_one_line_and_may_be_free_the_next_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        uri = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        process = processes.Process([processes.SERVER], {"URI": uri, "BACKENDS": "local"})
        assert process.wait() == 1
    assert re.search(rf"^stt-failover: URI {uri}: cannot listen there \(.+\)\n\Z", process.log, re.MULTILINE)
    assert "Traceback" not in process.log
    assert process.output == ""


def test_api_port_that_is_taken_is_one_line_and_may_be_free_the_next_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        settings = {"URI": "tcp://127.0.0.1:0", "BACKENDS": "local", "API_PORT": port, "API_TOKEN": "a-token"}
        process = processes.Process([processes.SERVER], settings)
        assert process.wait() == 1
    assert re.search(
        rf"^stt-failover: API_HOST 127\.0\.0\.1, API_PORT {port}: cannot listen there \(.+\); .+\n\Z",
        process.log,
        re.MULTILINE,
    )
    assert "Traceback" not in process.log
    assert process.output == ""


def test_token_is_printed_at_the_first_start_only(tmp_path: Path) -> None:
    file = tmp_path / "conf" / "settings.json"
    outputs, logs = [], []
    for _ in range(2):
        settings = {"BACKENDS": "local", "API_PORT": str(processes.free_port()), "SETTINGS_FILE": str(file)}
        with processes.server(**settings) as server:
            server.wait_logged("API on http://127.0.0.1:")
            assert server.stop() == 0
        outputs.append(server.output)
        logs.append(server.log)
    token = json.loads(file.read_text())["API_TOKEN"]
    line = f"token of the API, for Home Assistant, the status page and programs of yours: {token}\n"
    assert outputs == [line, ""]
    assert token not in "".join(logs)
    assert [f"the token of the API is in {file}" in log for log in logs] == [False, True]


def test_server_without_an_api_keeps_nothing(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    with processes.server(BACKENDS="local", API_PORT="0", SETTINGS_FILE=str(file)) as server:
        assert server.stop() == 0
    assert "API on" not in server.log
    assert server.output == ""
    assert not file.exists()


def test_server_that_nobody_asks_over_http_does_not_load_what_serves_it() -> None:
    code = "import sys, wyoming_server.run; print([name for name in sys.modules if name == 'aiohttp.web'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout == "[]\n"


# Standard input and output


async def test_server_on_standard_input_answers_there_and_ends_with_its_client(
    worker: tuple[str, ScriptedTranscriber, threading.Event],
) -> None:
    url, _, let_go = worker
    let_go.set()
    settings = {"URI": "stdio://", "BACKENDS": "whisper", "WHISPER_SERVICE_URL": url, "SELF_CHECK": "true"}
    settings["API_PORT"] = str(processes.free_port())
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        processes.SERVER, env=processes.environment(settings), stdin=pipe, stdout=pipe, stderr=pipe
    )
    audio = {"rate": 16_000, "width": 2, "channels": 1}
    events = Event("audio-start", audio), Event("audio-chunk", audio, VOICE), Event("audio-stop")
    async with asyncio.timeout(PATIENCE):
        output, log = await process.communicate(b"".join(map(encoded, events)))
    assert process.returncode == 0
    assert output.count(b"\n") == 1
    assert b'"text": "open the door"' in output
    assert b"no self-check" in log
    assert b"API on" not in log
    assert b"Traceback" not in log


def test_standard_input_that_is_a_file_is_one_line_and_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(b'{"type": "describe"}\n')
    with (tmp_path / "events").open() as file:
        done = subprocess.run(
            [processes.SERVER, "--uri", "stdio://"],
            env=processes.environment({"BACKENDS": "local"}),
            stdin=file,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 2
    assert "stt-failover: URI stdio://: cannot listen there (" in done.stderr
    assert "Traceback" not in done.stderr


# The self-check


async def test_self_check_of_a_server_that_cannot_answer_is_a_warning(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = new_engine([], deadline=8, listener=ignore)
    with caplog.at_level(logging.WARNING):
        await run_module._check(f"tcp://127.0.0.1:{processes.free_port()}", engine)
    assert "the self-check failed: cannot reach tcp://127.0.0.1:" in caplog.text
    assert capsys.readouterr().out == ""
