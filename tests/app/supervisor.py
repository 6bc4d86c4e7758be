"""Stand-ins for what Home Assistant's base image and its Supervisor bring; the app's scripts run on them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOTFS = Path(__file__).parents[2] / "home_assistant_app" / "rootfs"
SERVICES = ROOTFS / "etc" / "s6-overlay" / "s6-rc.d"
TOKEN = "the-supervisor's-token"

# The functions of bashio that the scripts use, as its documentation has them; none that asks for options.
_BASHIO = r"""#!/usr/bin/env bash
set -o errexit -o errtrace -o nounset -o pipefail
bashio::var.json() { "$PYTHON" -c 'import json, sys
pairs = zip(sys.argv[1::2], sys.argv[2::2], strict=True)
print(json.dumps({name: json.loads(x[1:]) if x.startswith("^") else x for name, x in pairs}))' "$@"; }
bashio::discovery() { curl --silent --fail --header "Authorization: Bearer ${SUPERVISOR_TOKEN:-}" \
    --header "Content-Type: application/json" --data "{\"service\": \"$1\", \"config\": $2}" \
    "$SUPERVISOR/discovery"; }
bashio::log.info() { echo "INFO $*" >&2; }
bashio::log.warning() { echo "WARNING $*" >&2; }
bashio::log.error() { echo "ERROR $*" >&2; }
script=$1; shift
source "$script" "$@"
"""


@dataclass
class Supervisor:
    """Takes discovery messages by the Supervisor's rules."""

    address: str = ""
    failures: int = 0
    """How many messages it answers with 500 first, as it does while it starts."""
    allowed: tuple[str, ...] = ()
    messages: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0

    def take(self, authorization: str, body: Any) -> tuple[int, dict[str, Any]]:
        is_message = (
            isinstance(body, dict)
            and body.keys() == {"service", "config"}
            and isinstance(body["service"], str)
            and isinstance(body["config"], dict)
        )
        if self.failures:
            self.failures -= 1
            return 500, {}
        if authorization != f"Bearer {TOKEN}":
            status = 401
        elif not is_message:
            status = 400
        elif body["service"] not in self.allowed:
            status = 403
        else:
            self.messages.append(body)
            return 200, {"result": "ok", "data": {"uuid": uuid.uuid4().hex}}
        self.refused += 1
        return status, {"result": "error", "message": "refused"}


@contextmanager
def supervisor(*allowed: str) -> Iterator[Supervisor]:
    """A Supervisor that lets an app announce itself to these integrations."""
    fake = Supervisor(allowed=allowed)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            status, answer = fake.take(
                self.headers.get("Authorization", ""), json.loads(self.rfile.read(length))
            )
            data = json.dumps(answer if self.path == "/discovery" else {}).encode()
            self.send_response(status if self.path == "/discovery" else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Container:
    """A folder that stands for the app's container; its scripts are the real ones with other paths."""

    root: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)
    """What else is called differently here, such as ports."""
    supervisor: str = ""

    def __post_init__(self) -> None:
        (self.root / "data").mkdir(exist_ok=True)
        (self.root / "bin").mkdir(exist_ok=True)
        (self.root / "data" / "options.json").write_text(json.dumps(dict(self.options)))
        self.add_program("bashio", _BASHIO)
        self.add_program("s6-svc", "#!/usr/bin/env bash\n")
        self.add_program("sleep", f'#!/usr/bin/env bash\necho "$1" >>{self.root}/slept\n')

    @property
    def slept(self) -> list[str]:
        """The pauses that the scripts made, in seconds; none takes time here."""
        path = self.root / "slept"
        return path.read_text().split() if path.exists() else []

    def add_program(self, name: str, text: str) -> Path:
        path = self.root / "bin" / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def command(self, script: str, *arguments: str) -> list[str]:
        """The command that runs a script, named relative to the app's `/etc/s6-overlay`."""
        text = (ROOTFS / "etc" / "s6-overlay" / script).read_text()
        assert text.startswith("#!/command/with-contenv bashio\n")
        places = {
            "/data": str(self.root / "data"),
            "/run/stt-failover.token": str(self.root / "token-in-use"),
            "/opt/stt-failover/bin/python": sys.executable,
            **self.replaced,
        }
        # The longest first, so that none is torn by a shorter one within it.
        for place in sorted(places, key=len, reverse=True):
            text = text.replace(place, places[place])
        copy = self.root / script.replace("/", "-")
        copy.write_text(text)
        return ["bash", str(self.root / "bin" / "bashio"), str(copy), *arguments]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
            "PYTHON": sys.executable,
            "SUPERVISOR": self.supervisor,
            "SUPERVISOR_TOKEN": TOKEN,
            "HASSIO_TOKEN": TOKEN,
        }

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(script, *arguments),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
