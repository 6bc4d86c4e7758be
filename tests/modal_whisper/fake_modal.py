"""Modal as the deployment sees it: an account with a command line, and the endpoint of a deployed worker."""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from modal_whisper.front import GpuFirst
from modal_whisper.modal_cli import Ended
from modal_whisper.samples import PASSWORD
from modal_whisper.service import create_app
from tests.modal_whisper.scripted_models import GPU, ScriptedModel, ScriptedRemote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

KEY = "WHISPER_API_KEY"
_BOX = "╭─ Error ───╮\n│ {} │\n╰───────────╯\n"


@dataclass
class Account:
    """An account, and what its owner's programs have asked for; stands in for modal_cli.Run."""

    url: str = ""
    version: str = "1.6.4"
    """Of the command line; empty where that is not installed."""
    signed_in: bool = True
    can_deploy: bool = True
    can_make_tokens: bool = True
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    """The names of those that were made."""
    deployed: list[dict[str, str]] = field(default_factory=list)
    """The WHISPER_ variables of each deployment."""
    programs: list[list[str]] = field(default_factory=list)

    def __call__(self, command: Sequence[str], environ: Mapping[str, str], *, seconds: float | None) -> Ended:
        assert command[0] == sys.executable
        if command[1] == "-c":
            self.programs.append(list(command))
            return Ended(0, f"{self.url}\n")
        assert command[1:3] == ["-m", "modal"]
        code, output, errors = self.play(command[3:], environ)
        return Ended(code, output, errors)

    def play(self, arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of `modal ARGUMENTS`."""
        self.programs.append(list(arguments))
        if not self.version:
            return 1, "", f"{sys.executable}: No module named modal\n"
        code, output, errors = 0, "", ""
        match list(arguments):
            case ["--version"]:
                output = f"modal client version: {self.version}\n"
            case _ if not self.signed_in:
                code, errors = 1, "Error: Token missing. Could not authenticate client.\n"
            case ["token", "info"]:
                output = "Token: ak-1\nWorkspace: home\n"
            case ["secret", "list", "--json"]:
                output = json.dumps([{"name": name, "created_by": "me"} for name in self.secrets])
            case ["secret", "create", name, "--from-json", path, "--force"]:
                assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
                self.secrets[name] = json.loads(Path(path).read_text())
            case ["workspace", "proxy-tokens", "create", "--name", name, "--json"] if self.can_make_tokens:
                self.tokens.append(name)
                output = json.dumps({"Modal-Key": "wk-made", "Modal-Secret": "ws-made"})
            case ["workspace", "proxy-tokens", *_]:
                code, errors = 1, _BOX.format("Only owners may do this.")
            case ["deploy", "-m", "modal_whisper.app"]:
                self.deployed.append({name: environ[name] for name in environ if name.startswith("WHISPER_")})
                code, output = (0 if self.can_deploy else 1), "App deployed!\n"
            case _:
                code, errors = 2, "Usage: modal [OPTIONS] COMMAND\n"
        return code, output, errors


def install(folder: Path, account: Account) -> None:
    """Make `python -m modal` and `import modal` use the account, where `folder` is first on Python's path."""
    package = folder / "modal"
    package.mkdir()
    (package / "__main__.py").write_text(f"from {__name__} import main\nmain({str(folder)!r})\n")
    (package / "__init__.py").write_text(
        f"from {__name__} import load\n"
        "class Function:\n"
        "    @staticmethod\n"
        "    def from_name(app, name):\n"
        "        assert (app, name) == ('stt-failover', 'front')\n"
        "        return Function()\n"
        "    def get_web_url(self):\n"
        f"        return load({str(folder)!r}).url\n"
    )
    store(folder, account)


def load(folder: str | Path) -> Account:
    return Account(**json.loads((Path(folder) / "account.json").read_text()))


def store(folder: str | Path, account: Account) -> None:
    (Path(folder) / "account.json").write_text(json.dumps(asdict(account)))


def main(folder: str) -> None:
    account = load(folder)
    code, output, errors = account.play(sys.argv[1:], os.environ)
    store(folder, account)
    sys.stdout.write(output)
    sys.stderr.write(errors)
    sys.exit(code)


class Endpoint:
    """A worker behind Modal's proxy, on a port of its own.

    `before` are answers to the first requests of any kind, in place of the worker's: status and body.
    """

    def __init__(
        self,
        *,
        api_key: Callable[[], str],
        remote: ScriptedRemote | None = None,
        spare: ScriptedModel | None = None,
        token: tuple[str, str] | None = ("wk-made", "ws-made"),
        before: Sequence[tuple[int, dict[str, Any]]] = (),
    ) -> None:
        self.url = ""
        self.paths: list[str] = []
        """What was asked for, after the proxy."""
        self._api_key = api_key
        self._remote = remote or ScriptedRemote(work=0.0, text=PASSWORD.text)
        self._spare = spare or ScriptedModel(work=0.0)
        self._token = token
        self._before = list(before)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Endpoint]:
        model = GpuFirst(self._remote, self._spare, name=GPU, idle_s=180.0)
        self._app = create_app(model)
        # Where the worker itself asks for a key, that is only known once the deployment has made it.
        self._app.middlewares.append(self._proxy)
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()
            await self._remote.wait_booted()

    @web.middleware
    async def _proxy(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = (request.headers.get("Modal-Key"), request.headers.get("Modal-Secret"))
        if self._token and given != self._token:
            return web.Response(status=401, text="modal-http: missing credentials")
        self.paths.append(request.path)
        if self._before:
            status, body = self._before.pop(0)
            return web.json_response(body, status=status)
        if request.path != "/health" and request.headers.get("Authorization") != f"Bearer {self._api_key()}":
            return web.json_response({"error": "the key is missing or wrong"}, status=401)
        return await handler(request)
