"""The command line of the worker: `stt-failover-worker [options]`."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from modal_whisper.errors import SttError
from modal_whisper.leave import leave
from modal_whisper.runner import ModelRunner
from modal_whisper.service import Limits, create_app
from modal_whisper.transcriber import WhisperTranscriber
from modal_whisper.version import __version__
from modal_whisper.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WRONG_USE: Final = 2
_MAX_PORT: Final = 65_535
_log = logging.getLogger(__name__)


class _WrongUseError(SttError):
    """The command line or the environment asks for what cannot be."""


def console() -> None:
    """The console script."""
    leave(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker until SIGINT or SIGTERM; returns the exit code: 0 well, 2 wrong use."""
    try:
        options = _options(sys.argv[1:] if argv is None else argv, os.environ)
        _serve(options)
    except SttError as error:
        sys.stderr.write(f"stt-failover-worker: {error}\n")
        return _WRONG_USE
    return 0


def _options(argv: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="stt-failover-worker",
        description="A Whisper service for spoken commands: /ws/stt and /health.",
        epilog="Every option is also an environment variable, given in brackets, or that name with _FILE and "
        "the path of a file that holds the value.",
    )
    parser.add_argument("--version", action="version", version=f"stt-failover-worker {__version__}")

    def add(flag: str, variable: str, default: str, text: str, kind: type = str) -> None:
        shown = f", default {default}" if default else ""
        parser.add_argument(
            flag,
            metavar=variable,
            default=_from_environment(variable, environ) or default,
            help=f"{text} [{variable}{shown}]",
            type=kind,
        )

    add("--host", "WHISPER_HOST", "127.0.0.1", "where to listen; anything but this machine needs a key")
    add("--port", "WHISPER_PORT", "10301", "the port to listen on", kind=int)
    add("--api-key", "WHISPER_API_KEY", "", "what clients must send as a bearer token")
    add("--model", "WHISPER_MODEL", DEFAULT_MODEL, "a faster-whisper model: a name or a folder")
    add("--model-dir", "MODEL_DIR", "~/.cache/stt-failover/models", "where models are kept")
    add("--device", "WHISPER_DEVICE", "auto", "auto, cpu or cuda")
    add("--compute-type", "WHISPER_COMPUTE_TYPE", "auto", "a CTranslate2 compute type, or auto")
    add("--beam-size", "WHISPER_BEAM_SIZE", "1", "beam size of the model", kind=int)
    add("--threads", "WHISPER_THREADS", "0", "threads on a CPU; 0 for as many as there are cores", kind=int)
    add("--max-utterance", "WHISPER_MAX_UTTERANCE", "120", "seconds that an utterance may last", kind=float)
    parser.add_argument("--debug", action="store_true", help="log more")
    options = parser.parse_args(argv)
    if not 0 <= options.port <= _MAX_PORT:
        raise _WrongUseError(f"WHISPER_PORT takes a port number up to {_MAX_PORT}, not {options.port}")
    if options.device not in ("auto", "cpu", "cuda"):
        raise _WrongUseError(f"WHISPER_DEVICE takes auto, cpu or cuda, not {options.device!r}")
    if options.beam_size < 1 or options.threads < 0 or not options.max_utterance > 0:
        raise _WrongUseError(
            "WHISPER_BEAM_SIZE, WHISPER_THREADS and WHISPER_MAX_UTTERANCE take no negative numbers"
        )
    if not options.api_key and not _is_loopback(options.host):
        raise _WrongUseError(f"listening on {options.host} needs a key: set WHISPER_API_KEY")
    return options


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    path = environ.get(f"{name}_FILE")
    if not path:
        return environ.get(name, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _WrongUseError(f"{name}_FILE: cannot read {path} ({error})") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _serve(options: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("modal_whisper").setLevel(logging.DEBUG if options.debug else logging.INFO)
    transcriber = WhisperTranscriber(
        options.model,
        directory=Path(options.model_dir).expanduser(),
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
            shutdown_timeout=1.0,
        )
    except OSError as error:
        raise _WrongUseError(
            f"cannot listen on {options.host}:{options.port} ({error.strerror or error})"
        ) from None


if __name__ == "__main__":
    console()
