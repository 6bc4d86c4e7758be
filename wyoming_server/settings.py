"""Every setting of the server: one schema, four sources.

A command-line flag beats an environment variable (NAME, or NAME_FILE with the path of a file that holds the
value), which beats the stored settings file, which beats the default.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import voluptuous as vol

from modal_whisper.transcriber import DEFAULT_BEAM_SIZE
from wyoming_server import validators as take
from wyoming_server.errors import SettingsError
from wyoming_server.sources import Sources, read_environment
from wyoming_server.store import DEFAULT_PATH, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BACKENDS: Final = ("assemblyai", "assemblyai_sync", "whisper", "local")
"""The backends that can be named in the setting of the same name, in the default order."""

_MAX_SHOWN: Final = 80
"""Characters of a wrong value that an error repeats."""
_MAY_HOLD_A_KEY: Final = frozenset("@?#=")
"""Characters of an address that stand by a password or a token."""


class WrongSettingError(SettingsError):
    """A setting holds what it cannot, or there is none of that name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


_API_HOST: Final = vol.All(
    take.text, vol.Length(min=1), msg="takes an address of this machine, such as 127.0.0.1 or 0.0.0.0"
)


def _setting(default: Any, validator: Callable[[Any], Any], text: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"validator": validator, "help": text}, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a server. A field's upper-case name is its name everywhere outside the code."""

    uri: str = _setting("tcp://0.0.0.0:10300", take.listening_uri, "where to listen for Wyoming clients")
    zeroconf: str = _setting(
        "", take.text, "announce the server in the network under this name ('auto': one of its own)"
    )
    debug: bool = _setting(
        default=False, validator=take.flag, text="log more, including the words that people say"
    )
    log_format: str = _setting("text", take.one_of("text", "json"), "how to write the log: text or json")
    settings_file: str = _setting(
        DEFAULT_PATH, take.text, "a JSON file with settings, by these names; made when something must be kept"
    )
    api_host: str = _setting("127.0.0.1", _API_HOST, "where the API listens; 0.0.0.0 is everywhere")
    api_port: int = _setting(10380, take.whole(0, 65_535), "the port of the API; 0: no API")
    api_token: str = _setting(
        "", take.secret, "what clients of the API must send; empty: made at the first start", secret=True
    )
    api_trusted: tuple[str, ...] = _setting(
        (), take.addresses, "addresses whose requests to the API need no token: proxies with a sign-in"
    )
    model_dir: Path = _setting(Path("~/.cache/stt-failover/models"), take.folder, "where models are kept")

    backends: tuple[str, ...] = _setting(
        BACKENDS, take.order_of(BACKENDS), "which backends to ask, in this order"
    )
    deadline: float = _setting(
        8.0,
        take.number(0.5, 60, "seconds"),
        "seconds after the last sample by which every utterance is answered",
    )
    strategy: str = _setting(
        "hedge",
        take.one_of("failover", "hedge", "race"),
        "failover: ask the next backend when one fails; hedge: also when it is late; race: ask all at once",
    )
    connect_patience: float = _setting(
        1.0,
        take.number(0.1, 30, "seconds"),
        "seconds of speech without a connection after which the next backend is asked too",
    )
    progress_patience: float = _setting(
        3.0,
        take.number(0.5, 30, "seconds"),
        "seconds of speech without a partial after which the next backend is asked too",
    )
    hedge_min: float = _setting(
        0.3,
        take.number(0, 30, "seconds"),
        "seconds after the last sample before which no backend counts as late",
    )
    hedge_max: float = _setting(
        1.5,
        take.number(0, 30, "seconds"),
        "seconds after the last sample by which every backend that is left has been asked",
    )
    hedge_budget: float = _setting(
        0.05,
        take.number(0, 1, "a share"),
        "share of the utterances in which a backend that is well may be hedged before HEDGE_MAX",
    )
    keep_warm: float = _setting(
        0.0,
        take.number(0, 3600, "seconds"),
        "seconds between wake-up calls to the worker, which cost its time; 0: only when it may be needed",
    )
    daily_budget: float = _setting(
        0.0,
        take.number(0, 1000, "US dollars"),
        "US dollars a day after which a backend is asked last; 0: no limit",
    )
    max_utterance: float = _setting(
        60.0, take.number(1, 600, "seconds"), "seconds after which an utterance is closed and answered"
    )
    idle_timeout: float = _setting(
        60.0, take.number(1, 3600, "seconds"), "seconds without an event after which a connection is closed"
    )
    max_connections: int = _setting(256, take.whole(1, 10_000), "how many clients may be connected at once")
    endpointing: bool = _setting(
        default=False,
        validator=take.flag,
        text="whether the server may answer when the person has stopped, before the client says so",
    )
    key_terms: tuple[str, ...] = _setting((), take.words, "names that people here use, for every utterance")

    assemblyai_api_key: str = _setting(
        "", take.secret, "the AssemblyAI key; without one AssemblyAI is left out", secret=True
    )
    assemblyai_streaming_url: str = _setting(
        "wss://streaming.assemblyai.com",
        take.url("wss", "ws"),
        "AssemblyAI's host; wss://streaming.eu.assemblyai.com keeps the data in the EU",
    )
    assemblyai_model: str = _setting("universal-3-6-pro", take.text, "AssemblyAI's streaming model")
    assemblyai_mode: str = _setting(
        "min_latency",
        take.one_of("min_latency", "balanced", "max_accuracy"),
        "how AssemblyAI's Pro models weigh speed",
    )
    assemblyai_languages: tuple[str, ...] = _setting(
        (), take.words, "language codes to expect, commonest first; empty: the client's language"
    )
    assemblyai_connect_timeout: float = _setting(
        3.0, take.number(0.1, 30, "seconds"), "seconds for an AssemblyAI session to begin"
    )
    assemblyai_timeout: float = _setting(
        1.5, take.number(0.1, 30, "seconds"), "seconds after the last sample for AssemblyAI's final"
    )
    assemblyai_price: float = _setting(
        0.45, take.number(0, 100, "US dollars"), "US dollars an hour of an open streaming session"
    )
    assemblyai_sync_url: str = _setting(
        "",
        take.url("https", "http", optional=True),
        "AssemblyAI's host for whole utterances; empty: in the region of ASSEMBLYAI_STREAMING_URL",
    )
    assemblyai_sync_model: str = _setting(
        "universal-3-5-pro", take.text, "AssemblyAI's model for whole utterances"
    )
    assemblyai_sync_timeout: float = _setting(
        2.0, take.number(0.1, 30, "seconds"), "seconds after the last sample for its answer"
    )
    assemblyai_sync_price: float = _setting(
        0.45, take.number(0, 100, "US dollars"), "US dollars an hour of audio"
    )

    whisper_enabled: bool = _setting(
        default=True, validator=take.flag, text="whether the Whisper worker may be asked"
    )
    whisper_service_url: str = _setting(
        "",
        take.url("wss", "ws", "https", "http", optional=True),
        "the worker's address; without one the worker is left out",
    )
    whisper_api_key: str = _setting("", take.secret, "the worker's key", secret=True)
    whisper_proxy_key: str = _setting("", take.secret, "Modal's proxy-auth key (wk-…)", secret=True)
    whisper_proxy_secret: str = _setting("", take.secret, "Modal's proxy-auth secret (ws-…)", secret=True)
    whisper_model: str = _setting(
        "", take.text, "the model that the worker should run; another one is reported in the log"
    )
    whisper_languages: tuple[str, ...] = _setting(
        (),
        take.whisper_languages,
        "codes of the languages that Whisper, here or in the worker, chooses from if the client names none",
    )
    whisper_connect_timeout: float = _setting(
        3.0, take.number(0.1, 60, "seconds"), "seconds for the worker to say that it is ready"
    )
    whisper_timeout: float = _setting(
        3.0, take.number(0.1, 60, "seconds"), "seconds after the last sample for the worker's final"
    )
    whisper_price: float = _setting(
        0.0, take.number(0, 100, "US dollars"), "US dollars an hour of the worker at work"
    )

    local_enabled: bool = _setting(
        default=True, validator=take.flag, text="whether Whisper may run in this process"
    )
    local_model: str = _setting("base", take.text, "the local faster-whisper model: a name or a folder")
    local_device: str = _setting("auto", take.one_of("auto", "cpu", "cuda"), "what the local model runs on")
    local_threads: int = _setting(
        0, take.whole(0, 256), "threads of the local model; 0: as many as there are cores"
    )
    local_beam_size: int = _setting(
        DEFAULT_BEAM_SIZE, take.whole(1, 20), "hypotheses that the local model follows at once; 1 is fastest"
    )

    self_check: bool = _setting(
        default=False,
        validator=take.flag,
        text="after the start, stream a bundled recording through the own port and print what was understood",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings(Settings):
    """Settings that know where each of them comes from."""

    sources: Sources = field(compare=False, repr=False)


NAMES: Final = tuple(item.name.upper() for item in fields(Settings))
"""The names of all settings."""

SCHEMA: Final = vol.Schema(
    {
        vol.Optional(item.name.upper(), default=item.default): item.metadata["validator"]
        for item in fields(Settings)
    }
)
"""The one schema: upper-case names to validated values, with the defaults filled in."""

SECRETS: Final = frozenset(item.name.upper() for item in fields(Settings) if not item.repr)
"""The settings whose values are never shown."""


def load(flags: Mapping[str, str], environ: Mapping[str, str]) -> LoadedSettings:
    """Gather the settings from all sources; raises SettingsError in one line.

    `flags` has upper-case names, as `environ` has; an empty environment variable counts as not set.
    """
    environment = read_environment(NAMES, environ)
    path = {**environment, **flags}.get("SETTINGS_FILE", "")
    given = {name: value for name, value in flags.items() if name != "API_TOKEN" or value.strip()}
    return resolve(Sources(given, environment, Store(path).read().settings))


def resolve(sources: Sources) -> LoadedSettings:
    """The settings that the sources come to; raises SettingsError in one line."""
    return LoadedSettings(**_checked(sources.values), sources=sources)


def validate(values: Mapping[str, Any]) -> Settings:
    """Check values by their upper-case names against the schema; raises SettingsError in one line."""
    return Settings(**_checked(values))


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        valid = SCHEMA(dict(values))
    except vol.MultipleInvalid as invalid:
        raise _error(invalid.errors[0], values) from None
    least, most = valid["HEDGE_MIN"], valid["HEDGE_MAX"]
    if least > most and "HEDGE_MIN" in values:
        raise WrongSettingError("HEDGE_MIN", f"HEDGE_MIN takes up to HEDGE_MAX ({most:g}), not {least:g}")
    if least > most:
        raise WrongSettingError("HEDGE_MAX", f"HEDGE_MAX takes HEDGE_MIN ({least:g}) or more, not {most:g}")
    return {name.lower(): value for name, value in valid.items()}


def _error(error: vol.Invalid, values: Mapping[str, Any]) -> SettingsError:
    name = str(error.path[0]) if error.path else "a setting"
    known = {item.name.upper(): item.default for item in fields(Settings)}
    if name not in known:
        return WrongSettingError(name, f"{name[:_MAX_SHOWN]!r} is no setting of this server")
    value = repr(values.get(name, known[name]))
    if name in SECRETS or (name.endswith("_URL") and set(value) & _MAY_HOLD_A_KEY):
        value = "this value"
    if len(value) > _MAX_SHOWN:
        value = f"{value[:_MAX_SHOWN]}…"
    return WrongSettingError(name, f"{name} {error.error_message}, not {value}")
