"""Modal's own command line, as far as the deployment needs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from modal_whisper.deployment import KEY
from modal_whisper.errors import SttError
from modal_whisper.extras import how_to_install

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECONDS: Final = 60.0
_LONGEST_REASON: Final = 300
# By the library, whose interface is documented; what `modal deploy` writes is for people, and changes.
_PRINT_URL: Final = "import modal, sys; print(modal.Function.from_name(sys.argv[1], 'front').get_web_url())"


class DeployError(SttError):
    """The deployment stopped; the text says where and what to do next."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    code: int
    output: str = ""
    errors: str = ""

    @property
    def reason(self) -> str:
        """What it complained of, in one line."""
        text = self.errors or self.output
        if "Traceback" in text:
            text = text.strip().splitlines()[-1]
        text = re.sub(r"[\u2500-\u257f]+", " ", text)  # Modal draws boxes around it
        return " ".join(text.split())[-_LONGEST_REASON:] or f"exit code {self.code}"


class Run(Protocol):
    """Runs a program to its end."""

    def __call__(self, command: Sequence[str], environ: Mapping[str, str], *, seconds: float | None) -> Ended:
        """Run it for at most so many seconds; None lets it take its time and show the user what it does.

        Raises DeployError where it takes longer or cannot be started.
        """


class ProxyToken(NamedTuple):
    """What Modal's proxy asks for."""

    key: str
    secret: str


def run_program(command: Sequence[str], environ: Mapping[str, str], *, seconds: float | None) -> Ended:
    """See Run."""
    kept = subprocess.PIPE if seconds else sys.stderr
    try:
        ended = subprocess.run(  # noqa: S603 - always this Python, with arguments of our own
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=kept,
            stderr=kept,
            timeout=seconds,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeployError(f"Modal did not answer within {seconds:g} s: try again later") from None
    except OSError as error:
        raise DeployError(f"{command[0]} cannot be run ({error.strerror}): is Python still there?") from None
    return Ended(ended.returncode, ended.stdout or "", ended.stderr or "")


class ModalCli:
    """Modal, used as whoever is signed in here.

    Args:
        environ: for the programs; Modal reads its profile, tokens and environment from it.
        run: runs a program.
    """

    def __init__(self, environ: Mapping[str, str], run: Run) -> None:
        # Without colours in what is read here.
        self._environ = {name: value for name, value in environ.items() if name != "FORCE_COLOR"}
        self._environ["NO_COLOR"] = "1"
        self._run = run

    def require_modal(self) -> None:
        """Raise DeployError where Modal is not installed, or older than what the app asks for."""
        ended = self._ask("--version")
        version = re.search(r"(\d+)\.(\d+)\.\d+", ended.output)
        if ended.code or version is None:
            raise DeployError(f"Modal is not installed here: {how_to_install('modal')}")
        if (int(version[1]), int(version[2])) < (1, 6):
            raise DeployError(f"Modal {version[0]} is too old: {how_to_install('modal')}")

    def require_sign_in(self) -> None:
        """Raise DeployError where nobody is signed in."""
        ended = self._ask("token", "info")
        if ended.code:
            raise DeployError(
                f"not signed in to Modal ({ended.reason}): run `{Path(sys.executable).name} -m modal setup`, "
                "or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"
            )

    def has_secret(self, name: str) -> bool:
        """Whether there is a secret of that name; raises DeployError."""
        rows = self._json("secret", "list", "--json", what="Modal's secrets could not be listed")
        return any(
            str(value) == name for row in rows for column, value in row.items() if column.lower() == "name"
        )

    def keep_key(self, secret: str, key: str) -> None:
        """Make or replace the secret that holds the worker's key; raises DeployError."""
        # By a file that only this user can read: everybody can read the arguments of a program.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "secret.json"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({KEY: key}, file)
            ended = self._ask("secret", "create", secret, "--from-json", str(path), "--force")
        if ended.code:
            raise DeployError(
                f"the secret {secret} could not be made ({ended.reason}): make it at "
                f"https://modal.com/secrets with the one entry {KEY}, then deploy again"
            )

    def new_proxy_token(self, name: str) -> ProxyToken:
        """A proxy token of this workspace; raises DeployError."""
        what = (
            "no proxy token could be made: make one at https://modal.com/settings/proxy-auth-tokens, set "
            "WHISPER_PROXY_KEY and WHISPER_PROXY_SECRET to it, then deploy again"
        )
        made = self._json("workspace", "proxy-tokens", "create", "--name", name, "--json", what=what)
        try:
            token = ProxyToken(str(made["Modal-Key"]), str(made["Modal-Secret"]))
        except (KeyError, TypeError):
            raise DeployError(what) from None
        if not all(token):
            raise DeployError(what)
        return token

    def deploy(self, choices: Mapping[str, str]) -> None:
        """Build the images and start the app, with Modal's own output; raises DeployError."""
        command = [sys.executable, "-m", "modal", "deploy", "-m", "modal_whisper.app"]
        if self._run(command, {**self._environ, **choices}, seconds=None).code:
            raise DeployError("Modal could not deploy the worker; what it wrote above says why")

    def url(self, app: str) -> str:
        """The address of the app's endpoint, https://…; raises DeployError."""
        ended = self._run([sys.executable, "-c", _PRINT_URL, app], self._environ, seconds=_SECONDS)
        url = ended.output.strip()
        if ended.code or not url.startswith(("https://", "http://")):
            raise DeployError(
                f"Modal did not tell the address of the worker ({ended.reason}): it is in what it wrote "
                f"above, and at https://modal.com/apps under {app}"
            )
        return url

    def _ask(self, *arguments: str) -> Ended:
        return self._run([sys.executable, "-m", "modal", *arguments], self._environ, seconds=_SECONDS)

    def _json(self, *arguments: str, what: str) -> Any:
        ended = self._ask(*arguments)
        try:
            if ended.code == 0:
                return json.loads(ended.output)
        except ValueError:
            pass
        raise DeployError(f"{what} ({ended.reason if ended.code else 'it answered something else'})")
