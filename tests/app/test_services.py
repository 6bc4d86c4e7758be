"""The services of the app: the real scripts on a stand-in of the Supervisor, once with the real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.supervisor import SERVICES, TOKEN, Container, supervisor
from tests.processes import SERVER, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = "s6-rc.d/stt-failover/run"
FINISH = "s6-rc.d/stt-failover/finish"
DISCOVERY = "s6-rc.d/discovery/run"

# s6's own, for a service that has ended in one way that often within the time.
_PERMAFAILON = """#!{}
import os, signal, sys
seconds, often, events, *program = sys.argv[1:]
code, number, happened = {}, {}, {}
def matches(event):
    if event.startswith("SIG"):
        return code == 256 and signal.Signals[event] == number
    first, _, last = event.partition("-")
    return int(first) <= code <= int(last or first)
if happened >= int(often) and any(map(matches, events.split(","))):
    sys.exit(125)
os.execvp(program[0], program)
"""

pytestmark = pytest.mark.skipif(
    not (shutil.which("bash") and shutil.which("curl")),
    reason="this machine has no bash or no curl, as the app's image has",
)


def started_with(container: Container, *, warns: str = "") -> dict[str, str]:
    """The environment that the script gives to the server, with one warning or none."""
    shows = container.add_program("server", "#!/usr/bin/env bash\nexec env -0\n")
    container.replaced = {"/opt/stt-failover/bin/stt-failover": str(shows)}
    done = container.run(RUN)
    assert done.returncode == 0, done.stderr
    warning = "".join(done.stderr.splitlines(keepends=True)[:1]) if warns else ""
    assert warns in warning
    assert done.stderr == warning
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def asked(address: str, token: str = "") -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
        return json.load(answer)


@contextmanager
def running(container: Container) -> Iterator[None]:
    log = (container.root / "log").open("w")
    # For the rest as in the image, but nobody fetches a model.
    environment = {**container.environment(), "LOCAL_ENABLED": "false"}
    process = subprocess.Popen(container.command(RUN), env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        code = process.wait(30)
        log.close()
    assert code == 0, (container.root / "log").read_text()


def test_home_assistant_is_told_an_address_and_a_token_that_let_it_in(tmp_path: Path) -> None:
    wyoming, api = free_port(), free_port()
    with supervisor("stt_failover", "wyoming") as home:
        container = Container(
            tmp_path,
            {"wyoming_discovery": True, "debug": False, "assemblyai_api_key": "a-key"},
            {
                "10300": str(wyoming),
                "10380": str(api),
                "0.0.0.0": "127.0.0.1",
                "/opt/stt-failover/bin/stt-failover": str(SERVER),
            },
            home.address,
        )
        with running(container):
            told = container.run(DISCOVERY)
            assert told.returncode == 0, told.stderr
            assert home.refused == 0
            message, other = home.messages
            assert message["service"] == "stt_failover"
            assert message["config"].keys() == {"host", "port", "token"}
            assert message["config"]["host"] == socket.gethostname()
            assert message["config"]["port"] == api
            assert other == {
                "service": "wyoming",
                "config": {"uri": f"tcp://{socket.gethostname()}:{wyoming}"},
            }
            token = message["config"]["token"]
            status = asked(f"http://127.0.0.1:{api}/api/status", token)
            assert status["wyoming"] == f"tcp://127.0.0.1:{wyoming}"
            settings = asked(f"http://127.0.0.1:{api}/api/config", token)["settings"]
            assert settings["ASSEMBLYAI_API_KEY"]["source"] == "environment"
            assert settings["DEBUG"]["source"] == "default"  # so that Home Assistant may still change it
            with pytest.raises(urllib.error.HTTPError, match="401"):
                asked(f"http://127.0.0.1:{api}/api/status")
    log = (tmp_path / "log").read_text()
    assert token not in log + told.stdout + told.stderr
    assert "a-key" not in log


def test_home_assistant_alone_is_told_unless_wyoming_is_wanted(tmp_path: Path) -> None:
    api = free_port()
    with supervisor("stt_failover", "wyoming") as home, socket.create_server(("127.0.0.1", api)) as listening:
        (tmp_path / "token-in-use").write_text("t" * 43)
        container = Container(tmp_path, {"wyoming_discovery": False}, {"10380": str(api)}, home.address)
        asking = subprocess.Popen(container.command(DISCOVERY), env=container.environment())
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert asking.wait(30) == 0
    assert [message["service"] for message in home.messages] == ["stt_failover"]
    assert home.messages[0]["config"]["token"] == "t" * 43


def test_a_supervisor_that_is_starting_is_told_later(tmp_path: Path) -> None:
    (tmp_path / "token-in-use").write_text("t" * 43)
    with supervisor("stt_failover", "wyoming") as home:
        container = Container(tmp_path, {"wyoming_discovery": True}, supervisor=home.address)
        container.add_program("curl-of-health", "#!/usr/bin/env bash\n")
        container.replaced = {"! curl --silent --fail --output": "! curl-of-health"}
        home.failures = 2
        told = container.run(DISCOVERY)
    assert told.returncode == 0, told.stderr
    assert [message["service"] for message in home.messages] == ["stt_failover", "wyoming"]
    assert container.slept == ["0", "5", "15", "0"]
    assert "ERROR" not in told.stderr


def test_a_token_is_made_once_and_readable_for_its_owner_only(tmp_path: Path) -> None:
    container = Container(tmp_path)
    token = started_with(container)["API_TOKEN"]
    kept, in_use = tmp_path / "data" / "api_token", tmp_path / "token-in-use"
    assert len(token) >= 32
    for path in (kept, in_use):
        assert path.read_text() == f"{token}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    in_use.unlink()  # another start of the app
    assert started_with(container)["API_TOKEN"] == token
    assert not (tmp_path / "data" / "api_token.new").exists()


@pytest.mark.parametrize(
    "left",
    [b"", b"\n", b" " * 44, b"\0" * 44, b"only-a-part", b"x" * 30 + b"\xff\xfe" + b"y" * 30],
    ids=["nothing", "a line", "blanks", "zeros", "a part", "rubbish"],
)
def test_a_token_that_a_power_failure_damaged_is_made_anew(tmp_path: Path, left: bytes) -> None:
    container = Container(tmp_path)
    kept = tmp_path / "data" / "api_token"
    kept.write_bytes(left)
    token = started_with(container)["API_TOKEN"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{32,}", token)
    assert kept.read_text() == f"{token}\n"


def test_a_new_token_is_on_the_disk_before_it_takes_its_place(tmp_path: Path) -> None:
    container = Container(tmp_path)
    container.add_program(
        "sync", f'#!/usr/bin/env bash\n(cd "$1" 2>/dev/null && ls || cat "$1") >>{tmp_path}/synced\n'
    )
    token = started_with(container)["API_TOKEN"]
    assert (tmp_path / "synced").read_text().split() == [token, "api_token", "options.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_does_not_keep_the_server_from_answering(tmp_path: Path) -> None:
    container = Container(tmp_path)
    new = tmp_path / "data" / "api_token.new"
    new.symlink_to("/dev/full")
    token = started_with(container, warns="is the disk full?")["API_TOKEN"]
    assert len(token) >= 32
    assert (tmp_path / "token-in-use").read_text() == f"{token}\n"  # what Home Assistant is told
    # Started again after a crash, it goes on with that one; and keeps it once there is room.
    assert started_with(container)["API_TOKEN"] == token
    assert (tmp_path / "data" / "api_token").read_text() == f"{token}\n"


def test_a_token_of_ones_own_comes_first(tmp_path: Path) -> None:
    environment = started_with(Container(tmp_path, {"api_token": "o" * 32}))
    assert environment["API_TOKEN"] == "o" * 32
    assert (tmp_path / "token-in-use").read_text() == "o" * 32 + "\n"
    assert not (tmp_path / "data" / "api_token").exists()


def test_the_start_asks_nobody(tmp_path: Path) -> None:
    container = Container(tmp_path, {"assemblyai_api_key": "a-key"})
    container.add_program("curl", f"#!/usr/bin/env bash\ntouch {tmp_path}/asked\nexit 22\n")
    assert started_with(container)["ASSEMBLYAI_API_KEY"] == "a-key"
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("left", ["", "{", "[]"])
def test_damaged_options_do_not_keep_the_server_from_answering(tmp_path: Path, left: str) -> None:
    container = Container(tmp_path)
    (tmp_path / "data" / "options.json").write_text(left)
    assert len(started_with(container, warns="options of the app cannot be read")["API_TOKEN"]) >= 32


def test_only_what_is_set_in_the_app_is_fixed_for_home_assistant(tmp_path: Path) -> None:
    options = {"debug": True, "local_model": "small", "whisper_api_key": "", "assemblyai_api_key": None}
    environment = started_with(Container(tmp_path, options))
    assert environment["DEBUG"] == "true"
    assert environment["LOCAL_MODEL"] == "small"
    absent = {"WHISPER_API_KEY", "ASSEMBLYAI_API_KEY", "WHISPER_SERVICE_URL"}
    assert not absent & environment.keys()
    assert "DEBUG" not in started_with(Container(tmp_path, {"debug": False}))


def test_an_option_reaches_the_server_as_it_was_typed(tmp_path: Path) -> None:
    typed = "a $HOME `date` \"quoted\" 'twice' \\ * é\nend"
    assert started_with(Container(tmp_path, {"local_model": typed}))["LOCAL_MODEL"] == typed


def test_the_server_trusts_ingress_alone_and_cannot_speak_to_the_supervisor(tmp_path: Path) -> None:
    environment = started_with(Container(tmp_path))
    assert environment["API_TRUSTED"] == "172.30.32.2"
    assert TOKEN not in environment.values()


def test_the_server_keeps_everything_in_the_data_of_the_app(tmp_path: Path) -> None:
    environment = started_with(Container(tmp_path))
    data = str(tmp_path / "data")
    assert environment["HOME"] == data
    assert environment["SETTINGS_FILE"] == f"{data}/settings.json"
    assert environment["MODEL_DIR"] == f"{data}/models"  # the folder that backups leave out


@pytest.mark.parametrize(
    ("code", "by_signal", "happened", "halts_with", "pauses"),
    [
        ("1", "0", 1, None, 1),  # an address that is not there yet, a lock that is still held
        ("1", "0", 9, None, 1),
        ("256", "9", 1, None, 1),  # killed, by a lack of memory for instance
        ("0", "0", 9, None, 0),  # stopped: nobody waits
        ("2", "0", 1, 2, 0),  # a wrong setting
        ("70", "0", 5, 70, 0),
        ("256", "11", 5, 139, 0),
    ],
)
def test_after_the_end_of_the_server(
    tmp_path: Path, code: str, by_signal: str, happened: int, halts_with: int | None, pauses: int
) -> None:
    (tmp_path / "exitcode").write_text("0\n")
    container = Container(
        tmp_path,
        replaced={
            "/run/s6-linux-init-container-results/exitcode": str(tmp_path / "exitcode"),
            "/run/s6/basedir/bin/halt": str(tmp_path / "bin" / "halt"),
        },
    )
    container.add_program("halt", f"#!/usr/bin/env bash\ntouch {tmp_path}/halted\n")
    container.add_program("s6-permafailon", _PERMAFAILON.format(sys.executable, code, by_signal, happened))
    assert container.run(FINISH, code, by_signal).returncode == (0 if halts_with is None else 125)
    assert (tmp_path / "halted").exists() == (halts_with is not None)
    assert int((tmp_path / "exitcode").read_text()) == (halts_with or 0)
    assert len(container.slept) == pauses
    assert sum(map(float, container.slept)) < 4.5  # s6 kills the script after five seconds


def test_every_service_has_what_s6_wants_of_it() -> None:
    services = {path.name for path in SERVICES.iterdir()} - {"user"}
    assert {path.name for path in (SERVICES / "user" / "contents.d").iterdir()} == services
    for name in services:
        # A oneshot that waits keeps the container from being stopped.
        assert (SERVICES / name / "type").read_text() == "longrun\n"
        for dependency in (SERVICES / name / "dependencies.d").iterdir():
            assert dependency.name in services | {"base"}
    for program in (RUN, FINISH, DISCOVERY):
        assert os.access(SERVICES.parent / program, os.X_OK), program
