"""The command line: `stt-failover [options]` serves, `stt-failover transcribe FILE.wav` asks a server."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modal_whisper.errors import SttError
from modal_whisper.extras import how_to_install
from modal_whisper.leave import leave
from modal_whisper.version import __version__
from wyoming_server.errors import UnavailableError

try:
    from wyoming_server.settings import SECRETS, Settings, load
except ModuleNotFoundError as missing:  # where only the worker was installed
    raise SystemExit(
        f"stt-failover: the server is not installed here ({missing}): {how_to_install('server')}"
    ) from None

if TYPE_CHECKING:
    from collections.abc import Sequence

_WRONG_USE: Final = 2
_TRY_AGAIN: Final = 1
"""What stands in the way may be gone the next time; whoever supervises the server starts it again."""
_FLAG_WITHOUT_VALUE: Final = {"zeroconf": "auto", "debug": "true", "self_check": "true"}


def console() -> None:
    """The console script."""
    leave(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 well, 1 failed, 2 wrong use."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["transcribe"]:
        return _transcribe(arguments[1:])
    return _serve(arguments)


def _serve(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="stt-failover",
        usage="%(prog)s [options]",
        description="A Wyoming speech-to-text server that always answers. `stt-failover transcribe FILE.wav` "
        "streams a file to a running server.",
        epilog="Every option is also an environment variable: --max-utterance is MAX_UTTERANCE, or "
        "MAX_UTTERANCE_FILE with the path of a file that holds the value.",
    )
    parser.add_argument("--version", action="version", version=f"stt-failover {__version__}")
    for item in fields(Settings):
        default = "" if item.name.upper() in SECRETS else _shown(item.default)
        parser.add_argument(
            f"--{item.name.replace('_', '-')}",
            help=item.metadata["help"].replace("%", "%%") + (f" (default: {default})" if default else ""),
            metavar=item.name.upper(),
            nargs="?" if item.name in _FLAG_WITHOUT_VALUE else None,
            const=_FLAG_WITHOUT_VALUE.get(item.name),
        )
    given = {
        name.upper(): value for name, value in vars(parser.parse_args(arguments)).items() if value is not None
    }
    try:
        settings = load(given, os.environ)
        from wyoming_server.run import run  # noqa: PLC0415 - a wrong setting is reported before much is loaded

        return asyncio.run(run(settings))
    except SttError as error:
        sys.stderr.write(f"stt-failover: {error}\n")
        return _TRY_AGAIN if isinstance(error, UnavailableError) else _WRONG_USE


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return str(default)


def _transcribe(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="stt-failover transcribe",
        description="Stream a WAV file to a Wyoming server at the speed of speech.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.wav")
    parser.add_argument("--uri", default="tcp://127.0.0.1:10300", help="the server (default: %(default)s)")
    parser.add_argument("--language", help="the language that is spoken (default: the server finds out)")
    options = parser.parse_args(arguments)
    from wyoming_server.client import transcribe_file  # noqa: PLC0415 - serving does not need it

    try:
        answer = asyncio.run(
            transcribe_file(
                options.file,
                options.uri,
                language=options.language,
                on_partial=lambda text: print(f"… {text}", flush=True),
            )
        )
    except SttError as error:
        sys.stderr.write(f"stt-failover: {error}\n")
        return 1
    print(answer.text or "(no words)")
    who = answer.backend or "a server that does not say who"
    print(f"answered by {who}, {answer.ms:.0f} ms after the last sample")
    return 0


if __name__ == "__main__":
    console()
