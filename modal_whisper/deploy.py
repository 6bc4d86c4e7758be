"""`stt-failover-worker deploy`: puts the worker on Modal, tries it out, and prints the settings to paste."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp

from modal_whisper.deployment import KEY, Deployment, SettingError
from modal_whisper.endpoint import Endpoint, Limits
from modal_whisper.errors import SttError
from modal_whisper.modal_cli import DeployError, ModalCli, ProxyToken, run_program
from modal_whisper.samples import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from modal_whisper.modal_cli import Run

PROGRAM: Final = "stt-failover-worker deploy"
_FAILED: Final = 1
_WRONG_USE: Final = 2
_INTERRUPTED: Final = 130
_PROXY_KEY: Final = "WHISPER_PROXY_KEY"
_PROXY_SECRET: Final = "WHISPER_PROXY_SECRET"  # noqa: S105 - the name of a setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the command touches."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    run: Run = run_program
    session: Callable[[], aiohttp.ClientSession] = aiohttp.ClientSession
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    limits: Limits = field(default_factory=Limits)


def main(argv: Sequence[str], surroundings: Surroundings | None = None) -> int:
    """Deploy; returns the exit code: 0 it works, 1 something failed, 2 wrong use, 130 interrupted.

    Progress goes to standard error. The settings go to standard output, once, at the end; what was made
    before a failure as well, because nobody could read it again.
    """
    options = _parser().parse_args(argv)
    command = _Command(surroundings or Surroundings(), new_key=options.new_key)
    try:
        asyncio.run(command.run())
    except (SttError, KeyboardInterrupt) as error:
        return command.give_up(error)
    command.print_settings("the settings for the server (.env, or its environment); keep them secret:")
    return 0


class _Command:
    def __init__(self, surroundings: Surroundings, *, new_key: bool) -> None:
        self._surroundings = surroundings
        self._new_key = new_key
        self._settings: dict[str, str] = {}
        """To paste into the server."""
        self._has_made_some = False
        """Whether a key or a token was made that nobody has seen yet."""

    async def run(self) -> None:
        """Deploy and try out; raises SttError."""
        environ = self._surroundings.environ
        deployment = Deployment.from_environment(environ)
        key = _credential(environ, KEY)
        token = _given_token(environ)
        if self._new_key and key:
            raise SettingError(f"--new-key makes a key: unset {KEY}, or leave --new-key out to use that one")
        modal = ModalCli(environ, self._surroundings.run)
        _tell("looking for Modal")
        modal.require_modal()
        modal.require_sign_in()
        self._settle_key(modal, deployment.secret, key)
        _tell(f"deploying {deployment.app} with the model {deployment.model}; the first time takes minutes")
        modal.deploy(deployment.environment)
        if deployment.proxy_auth:
            self._settle_token(modal, deployment.app, token)
        url = modal.url(deployment.app).rstrip("/")
        self._settings["WHISPER_SERVICE_URL"] = url.replace("http", "ws", 1)
        await self._try_out(deployment, url)

    def _settle_key(self, modal: ModalCli, secret: str, key: str) -> None:
        if modal.has_secret(secret) and not self._new_key:
            if not key:
                raise DeployError(
                    f"the secret {secret} is there, and Modal shows nobody what is in it: set {KEY} to the "
                    "key that it holds, or take a new one with --new-key (the server needs it then, too)"
                )
            self._settings[KEY] = key
            return
        _tell(f"writing the key into the secret {secret}")
        self._settings[KEY] = key or secrets.token_urlsafe(32)
        modal.keep_key(secret, self._settings[KEY])
        self._has_made_some = True

    def _settle_token(self, modal: ModalCli, name: str, token: ProxyToken | None) -> None:
        if token is None:
            _tell(f"making a proxy token; set {_PROXY_KEY} and {_PROXY_SECRET} next time to keep it")
            token = modal.new_proxy_token(name)
            self._has_made_some = True
        self._settings |= {_PROXY_KEY: token.key, _PROXY_SECRET: token.secret}

    async def _try_out(self, deployment: Deployment, url: str) -> None:
        headers = {}
        if deployment.proxy_auth:
            headers = {
                "Modal-Key": self._settings[_PROXY_KEY],
                "Modal-Secret": self._settings[_PROXY_SECRET],
            }
        async with self._surroundings.session() as session:
            endpoint = Endpoint(
                session=session,
                url=url,
                app=deployment.app,
                api_key=self._settings[KEY],
                proxy_headers=headers,
                limits=self._surroundings.limits,
                sleep=self._surroundings.sleep,
                clock=self._surroundings.clock,
            )
            _tell(f"waiting for {url}/health")
            await endpoint.wait_healthy(deployment.model)
            _tell("waking the GPU")
            gpu = await endpoint.warm()
            if gpu != "ready":
                _tell(f"the GPU is not there yet ({gpu}); until it is, {deployment.front_model} answers")
            heard = await endpoint.hear(PASSWORD)
        by = f" by {heard.model}" if heard.model else ""
        _tell(f'understood{by}, {heard.seconds * 1000:.0f} ms after the last sample: "{heard.text}"')

    def print_settings(self, heading: str) -> None:
        """To standard output, as lines of an environment file."""
        _tell(heading)
        for name in ("WHISPER_SERVICE_URL", KEY, _PROXY_KEY, _PROXY_SECRET):
            if name in self._settings:
                sys.stdout.write(f"{name}={self._settings[name]}\n")

    def give_up(self, error: BaseException) -> int:
        """Say why; returns the exit code."""
        interrupted = isinstance(error, KeyboardInterrupt)
        sys.stderr.write(f"{PROGRAM}: {'interrupted' if interrupted else error}\n")
        if self._has_made_some:
            self.print_settings("made before that; set them for the next try, nobody shows them again:")
        if interrupted:
            return _INTERRUPTED
        return _WRONG_USE if isinstance(error, SettingError) else _FAILED


def _credential(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise SettingError(f"{name} takes a key without blanks and other characters that no key has")
    return value


def _given_token(environ: Mapping[str, str]) -> ProxyToken | None:
    key, secret = _credential(environ, _PROXY_KEY), _credential(environ, _PROXY_SECRET)
    if bool(key) != bool(secret):
        raise SettingError(
            f"{_PROXY_KEY} and {_PROXY_SECRET} belong together: set both, or neither for a new one"
        )
    return ProxyToken(key, secret) if key else None


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    lines = [
        f"  {variable:23}{text}{f' (default {default})' if default else ''}"
        for variable, default, text in Deployment.explained()
    ]
    own = [
        f"  {KEY:23}the key, where the secret is there already; else one is made",
        f"  {_PROXY_KEY:23}with {_PROXY_SECRET}: a proxy token that is there already; else one is made",
    ]
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Deploy the worker to Modal, try it out, and print the settings for the server.",
        epilog="environment variables:\n" + "\n".join(lines + own),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--new-key", action="store_true", help="replace the worker's key by a new one")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
