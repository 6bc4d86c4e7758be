"""How the worker is set up on Modal: what can be chosen at deploy time, read from the environment.

Modal imports the app once where it is deployed and again in every container; `environment` brings each of
them to the same choices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from modal_whisper.errors import SttError
from modal_whisper.weights import DEFAULT_MODEL, REVISION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY: Final = "WHISPER_API_KEY"
"""The one entry of the secret: what clients send as a bearer token."""
MODELS: Final = "/models"
"""Where the weights lie in the image."""
PYTHON: Final = "3.12"
"""Of the image. Modal would take that of whoever deploys, which its image builder may not have yet."""
PACKAGES: Final = (
    "aiohttp==3.14.5",
    "ctranslate2==4.8.5",
    "faster-whisper==1.2.1",
    "opencc==1.4.2",
    "webrtcvad-wheels==2.0.14.post1",
)
CUBLAS: Final = "nvidia-cublas-cu12>=12.4,<13"
"""All that CTranslate2 needs of CUDA; it is opened at the first use, and found by LIBRARY_PATH."""
LIBRARY_PATH: Final = f"/usr/local/lib/python{PYTHON}/site-packages/nvidia/cublas/lib"


class SettingError(SttError):
    """A setting holds what it cannot."""


def _matching(pattern: str, text: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"takes {text}")
        return value

    return read


def _list_of(pattern: str, text: str, least: int) -> Callable[[str], tuple[str, ...]]:
    def read(value: str) -> tuple[str, ...]:
        items = tuple(item.strip() for item in value.split(",") if item.strip())
        if len(items) < least or not all(re.fullmatch(pattern, item) for item in items):
            raise ValueError(f"takes {text}, with commas between them")
        return items

    return read


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch("[0-9]{1,6}", value) or not low <= int(value) <= high:
            raise ValueError(f"takes a whole number from {low} to {high}")
        return int(value)

    return read


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        raise ValueError("takes true or false")
    return value.lower() in ("true", "yes", "on", "1")


_model = _matching(
    r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?",
    "the name of a faster-whisper model such as medium, or a repository of the model hub",
)
_app = _matching(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", "up to 40 lower-case letters, digits and hyphens")
_secret = _matching(r"[\w.-]{1,64}", "up to 64 letters, digits, dots, hyphens and underscores")
_gpus = _list_of(r"[\w-]+", "names of Modal's GPUs, the first choice first", 1)
_regions = _list_of(r"[a-z0-9-]+", "names of Modal's regions, or nothing", 0)


def _setting(variable: str, default: str, read: Callable[[str], Any], text: str) -> Any:
    return field(
        default_factory=lambda: read(default),
        metadata={"variable": variable, "default": default, "read": read, "text": text},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What can be chosen; each setting is an environment variable."""

    model: str = _setting("WHISPER_MODEL", "medium", _model, "the model on the GPU")
    front_model: str = _setting(
        "WHISPER_FRONT_MODEL", DEFAULT_MODEL, _model, "the model that answers while there is no GPU"
    )
    gpu: tuple[str, ...] = _setting(
        "WHISPER_GPU", "A10G,L4", _gpus, "the GPUs that will do, best first; Modal takes the first it has"
    )
    region: tuple[str, ...] = _setting(
        "WHISPER_REGION", "", _regions, "where containers run; nothing is anywhere, which is cheapest"
    )
    idle_seconds: int = _setting(
        "WHISPER_IDLE_SECONDS", "180", _whole(2, 3600), "seconds without work after which the GPU is let go"
    )
    max_containers: int = _setting(
        "WHISPER_MAX_CONTAINERS", "1", _whole(1, 10), "how many GPUs may be at work at once"
    )
    snapshot: bool = _setting(
        "WHISPER_SNAPSHOT", "true", _truth, "whether Modal may start from a memory snapshot"
    )
    proxy_auth: bool = _setting(
        "WHISPER_PROXY_AUTH", "true", _truth, "whether Modal turns away who has no proxy token"
    )
    app: str = _setting("WHISPER_APP", "stt-failover", _app, "the name of the app, and of its address")
    secret: str = _setting("WHISPER_SECRET", "stt-failover", _secret, f"the secret that holds {KEY}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Deployment:
        """What the environment asks for; an empty variable counts as unset. Raises SettingError."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            text = environ.get(item.metadata["variable"], "").strip()
            if not text:
                continue
            try:
                values[item.name] = item.metadata["read"](text)
            except ValueError as error:
                raise SettingError(f"{item.metadata['variable']} {error}, not {text[:60]!r}") from None
        return cls(**values)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that `from_environment` makes the same deployment of."""
        return {item.metadata["variable"]: _as_text(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def explained(cls) -> list[tuple[str, str, str]]:
        """Variable, default and meaning of every setting."""
        return [
            (item.metadata["variable"], item.metadata["default"], item.metadata["text"])
            for item in fields(cls)
        ]


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def fetch_command(model: str) -> str:
    """The shell command that puts a model where `weights.find_model` looks first, with MODELS as its folder.

    It is plain faster-whisper, not `weights`, so that a change of this project fetches nothing anew. Names of
    models are free of what a shell or Python would read as more than a name.
    """
    revision = f", revision='{REVISION}'" if model == DEFAULT_MODEL else ""
    folder = f"{MODELS}/{model.replace('/', '--')}"
    call = f"download_model('{model}', output_dir='{folder}'{revision})"
    return f'python -c "from faster_whisper import download_model; {call}"'
