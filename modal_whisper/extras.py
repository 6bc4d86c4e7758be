"""Packages of the `worker` extra: imported when first needed, because the server can do without them."""

from __future__ import annotations

import importlib
from typing import Any

from modal_whisper.errors import ModelUnavailableError


def require(module: str) -> Any:
    """Import a module of the extra, which may take most of a second; raises ModelUnavailableError."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelUnavailableError(
            f"Whisper cannot run here ({error}): {how_to_install('worker')}"
        ) from error


def how_to_install(extra: str) -> str:
    """What to type where an extra is missing."""
    return f'pip install "stt-failover[{extra}]", or ".[{extra}]" in a copy of the project'
