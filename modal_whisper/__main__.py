"""The command line of the worker: `stt-failover-worker [options]`."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from modal_whisper.conversation import Limits
from modal_whisper.deploy import main as deploy
from modal_whisper.errors import SttError
from modal_whisper.leave import leave
from modal_whisper.runner import ModelRunner
from modal_whisper.service import create_app
from modal_whisper.transcriber import DEFAULT_BEAM_SIZE, WhisperTranscriber
from modal_whisper.version import __version__
from modal_whisper.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_WRONG_USE: Final = 2
_KEEPALIVE_SECONDS: Final = 60.0
"""For a connection that asks for nothing."""
_log = logging.getLogger(__name__)


class _WrongUseError(SttError):
    """The command line or the environment asks for what cannot be."""


def console() -> None:
    """The console script."""
    leave(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker until SIGINT or SIGTERM, or deploy it; returns the exit code: 0 well, 2 wrong use."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["deploy"]:
        return deploy(arguments[1:])
    try:
        options = _options(arguments, os.environ)
        _serve(options)
    except SttError as error:
        sys.stderr.write(f"stt-failover-worker: {error}\n")
        return _WRONG_USE
    return 0


@dataclass(frozen=True, slots=True)
class _Option:
    variable: str
    default: str
    text: str
    read: Callable[[str], Any]
    """Raises ValueError that says what the option takes."""

    @property
    def flag(self) -> str:
        return f"--{self.variable.removeprefix('WHISPER_').lower().replace('_', '-')}"


def _name(text: str) -> str:
    if not text:
        raise ValueError("takes a name")
    return text


def _key(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("takes a key without blanks and other characters that no key has")
    return text


def _folder(text: str) -> Path:
    try:
        return Path(_name(text)).expanduser()
    except (RuntimeError, ValueError):  # RuntimeError: nobody of that name has a home folder
        raise ValueError("takes the path of a folder") from None


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"takes a whole number from {low} to {high}")
        return value

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"takes seconds from {low:g} to {high:g}")
        return value

    return read


def _one_of(choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices.split():
            raise ValueError(f"takes one of {', '.join(choices.split())}")
        return text

    return read


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        raise ValueError("takes true or false")
    return text.lower() in ("true", "yes", "on", "1")


_KEY: Final = "WHISPER_API_KEY"
_COMPUTE_TYPES: Final = (
    "auto default int8 int8_float32 int8_float16 int8_bfloat16 int16 float16 bfloat16 float32"
)
_OPTIONS: Final = (
    _Option("WHISPER_HOST", "127.0.0.1", "where to listen; anything but this machine needs a key", _name),
    _Option("WHISPER_PORT", "10301", "the port to listen on", _whole(1, 65_535)),
    _Option(_KEY, "", "what clients must send as a bearer token", _key),
    _Option("WHISPER_MODEL", DEFAULT_MODEL, "a faster-whisper model: a name or a folder", _name),
    _Option("MODEL_DIR", "~/.cache/stt-failover/models", "where models are kept", _folder),
    _Option("WHISPER_DEVICE", "auto", "auto, cpu or cuda", _one_of("auto cpu cuda")),
    _Option("WHISPER_COMPUTE_TYPE", "auto", "a CTranslate2 compute type, or auto", _one_of(_COMPUTE_TYPES)),
    _Option("WHISPER_BEAM_SIZE", str(DEFAULT_BEAM_SIZE), "beam size of the model", _whole(1, 20)),
    _Option("WHISPER_THREADS", "0", "threads on a CPU; 0 for as many as there are cores", _whole(0, 256)),
    _Option("WHISPER_MAX_UTTERANCE", "120", "seconds that an utterance may last", _seconds(1, 600)),
    _Option("DEBUG", "false", "log more", _truth),
)


def _options(argv: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="stt-failover-worker",
        description="A Whisper service for spoken commands: /ws/stt and /health.",
        epilog="`stt-failover-worker deploy` puts it on Modal (docs/deployment.md). Every option is also an "
        "environment variable, given in brackets, or that name with _FILE and "
        "the path of a file that holds the value.",
    )
    parser.add_argument("--version", action="version", version=f"stt-failover-worker {__version__}")
    for option in _OPTIONS:
        shown = f", default {option.default}" if option.default else ""
        parser.add_argument(
            option.flag,
            metavar=option.variable,
            dest=option.variable,
            help=f"{option.text} [{option.variable}{shown}]",
            nargs="?" if option.read is _truth else None,
            const="true" if option.read is _truth else None,
        )
    given = vars(parser.parse_args(argv))
    options = argparse.Namespace()
    for option in _OPTIONS:
        text = given[option.variable]
        if text is None:
            text = _from_environment(option.variable, environ) or option.default
        try:
            value = option.read(text.strip())
        except ValueError as error:
            shown = "this value" if option.variable == _KEY else repr(text)
            raise _WrongUseError(f"{option.variable} {error}, not {shown}") from None
        setattr(options, option.flag.removeprefix("--").replace("-", "_"), value)
    if not options.api_key and not _is_loopback(options.host):
        raise _WrongUseError(f"listening on {options.host} needs a key: set {_KEY}")
    return options


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    path, value = environ.get(f"{name}_FILE"), environ.get(name, "")
    if not path:
        return value
    if value:
        raise _WrongUseError(f"{name} and {name}_FILE are both set; keep one of them")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise _WrongUseError(f"{name}_FILE: cannot read {path} ({reason})") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_no_bad_request(record: logging.LogRecord) -> bool:
    """Whether it is not about what a stranger sent: aiohttp would log all of that, a key included."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _serve(options: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("modal_whisper").setLevel(logging.DEBUG if options.debug else logging.INFO)
    logging.getLogger("aiohttp.server").addFilter(_is_no_bad_request)
    transcriber = WhisperTranscriber(
        options.model,
        directory=options.model_dir,
        device=options.device,
        compute_type=options.compute_type,
        beam_size=options.beam_size,
        threads=options.threads,
    )
    app = create_app(
        ModelRunner(transcriber), api_key=options.api_key, limits=Limits(max_utterance=options.max_utterance)
    )
    try:
        web.run_app(
            app,
            host=options.host,
            port=options.port,
            print=lambda _: _log.info("listening on ws://%s:%d/ws/stt", options.host, options.port),
            access_log=None,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            shutdown_timeout=1.0,
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: what cannot be the name of a host
        reason = getattr(error, "strerror", None) or error
        raise _WrongUseError(f"cannot listen on {options.host}:{options.port} ({reason})") from None


if __name__ == "__main__":
    console()
