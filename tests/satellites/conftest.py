"""A server's machine and a satellite's machine, with a cable between them."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.processes import SERVER
from tests.satellites.satellite import WYOMING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Process
    from tests.satellites.hosts import Cable, Host

# One Python is enough for what crosses a network, and os.unshare is there since 3.12.
collect_ignore_glob = [] if sys.version_info >= (3, 14) else ["test_*.py"]

TOKEN = "a-token-for-satellites-0123456789abcdef"
API = 10380
IDLE_SECONDS = 2


@dataclass(frozen=True)
class Lan:
    """A home network."""

    server: Host
    client: Host
    cable: Cable


@pytest.fixture(scope="session")
def lan() -> Iterator[Lan]:
    """Two machines; containers run on the server's."""
    from tests.satellites.hosts import Cable, Host

    for program in ("ip", "nsenter"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}; on Debian: apt-get install iproute2 util-linux")
    try:
        hosts = Host("10.77.0.1"), Host("10.77.0.2")
    except OSError as error:
        pytest.skip(f"this user may make no networks here ({error}); as root, or with `unshare -Urn`, it may")
    server, client = hosts
    for words in (
        "link add docker0 type bridge",
        "addr add 172.17.0.1/16 dev docker0",
        "link add port type veth peer name inside",
        "link set port master docker0 up",
        "link set inside up",
        "link set docker0 up",
    ):
        server.command("ip", *words.split())
    with Cable(*hosts) as cable:
        yield Lan(server, client, cable)
    for host in hosts:
        host.close()


@contextmanager
def running_server(lan: Lan, settings_file: Path, *arguments: str, **settings: str) -> Iterator[Process]:
    """The installed console script, with the local model, open to the network and announced in it."""
    process = lan.server.start(
        [SERVER, *arguments],
        {
            "URI": f"tcp://0.0.0.0:{WYOMING}",
            "API_HOST": "0.0.0.0",
            "API_PORT": str(API),
            "API_TOKEN": TOKEN,
            "BACKENDS": "local",
            "IDLE_TIMEOUT": str(IDLE_SECONDS),
            "SETTINGS_FILE": str(settings_file),
            **settings,
        },
        WYOMING,
    )
    try:
        process.wait_logged("listening on")
        yield process
    finally:
        process.stop()
        sys.stderr.write(process.log)  # pytest shows it where the test failed


@pytest.fixture(scope="session")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "settings.json"


@pytest.fixture(scope="module")
def server(lan: Lan, settings_file: Path) -> Iterator[Process]:
    """The server, found by whoever looks for it."""
    with running_server(lan, settings_file, "--zeroconf") as process:
        process.wait_logged("loaded the Whisper model")
        process.wait_logged("announced in the network")
        yield process
