from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wyoming_server.changes import differing
from wyoming_server.errors import SettingsError
from wyoming_server.settings import BACKENDS, SCHEMA, SECRETS, Settings, load, validate

NAMES = [item.name.upper() for item in fields(Settings)]
KEY = "k-0123456789abcdef"


def stored(folder: Path, values: Any) -> str:
    path = folder / "settings.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return str(path)


def refusal(flags: dict[str, str] | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(flags or {}, environ or {})
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_without_anything_the_defaults_hold() -> None:
    settings = load({}, {})
    assert differing(settings, validate({})) == []
    assert settings.uri == "tcp://0.0.0.0:10300"
    assert settings.backends == BACKENDS == ("assemblyai", "assemblyai_sync", "whisper", "local")
    assert settings.deadline == 8.0
    assert settings.max_utterance == 60.0
    assert settings.assemblyai_api_key == settings.whisper_service_url == settings.zeroconf == ""
    assert (settings.api_host, settings.api_port, settings.api_token) == ("127.0.0.1", 10380, "")
    assert settings.settings_file == "~/.config/stt-failover/settings.json"
    assert not settings.endpointing
    assert settings.whisper_enabled
    assert settings.local_enabled
    assert not settings.debug
    assert settings.local_model == "base"


def test_a_flag_beats_the_environment_beats_a_named_file_beats_the_stored_file_beats_the_default(
    tmp_path: Path,
) -> None:
    value = tmp_path / "value"
    value.write_text("3")
    path = stored(tmp_path, {"DEADLINE": 2})
    sources: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({}, {"SETTINGS_FILE": path}),
        ({}, {"SETTINGS_FILE": path, "DEADLINE_FILE": str(value)}),
        ({}, {"SETTINGS_FILE": path, "DEADLINE": "4"}),
        ({"DEADLINE": "5"}, {"SETTINGS_FILE": path, "DEADLINE": "4"}),
    ]
    assert [load(flags, environ).deadline for flags, environ in sources] == [8.0, 2.0, 3.0, 4.0, 5.0]


def test_the_settings_know_where_each_of_them_comes_from(tmp_path: Path) -> None:
    path = stored(tmp_path, {"DEADLINE": 2, "DEBUG": True, "STRATEGY": "race"})
    settings = load({"DEADLINE": "5"}, {"SETTINGS_FILE": path, "DEADLINE": "4", "DEBUG": "no"})
    assert {name: settings.sources.of(name).value for name in ("DEADLINE", "DEBUG", "STRATEGY", "URI")} == {
        "DEADLINE": "flag",
        "DEBUG": "environment",
        "STRATEGY": "stored",
        "URI": "default",
    }
    assert [name for name in NAMES if settings.sources.is_fixed(name)] == [
        "DEBUG",
        "SETTINGS_FILE",
        "DEADLINE",
    ]


def test_every_source_adds_to_the_others(tmp_path: Path) -> None:
    path = stored(tmp_path, {"LOCAL_MODEL": "small", "KEY_TERMS": ["Ecobee", "Sonos"], "DEBUG": True})
    settings = load({"SETTINGS_FILE": path, "URI": "stdio://"}, {"DEADLINE": "4"})
    assert (settings.local_model, settings.key_terms, settings.debug) == ("small", ("Ecobee", "Sonos"), True)
    assert (settings.uri, settings.deadline) == ("stdio://", 4.0)


def test_the_path_of_the_stored_file_may_itself_stand_in_a_file(tmp_path: Path) -> None:
    pointer = tmp_path / "pointer"
    pointer.write_text(stored(tmp_path, {"DEADLINE": 2}) + "\n")
    assert load({}, {"SETTINGS_FILE_FILE": str(pointer)}).deadline == 2.0


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_be_read_from_a_file_without_the_blanks_around_it(
    name: str, tmp_path: Path
) -> None:
    shown = {
        "SETTINGS_FILE": stored(tmp_path, {}),
        "API_HOST": "0.0.0.0",
        "API_TRUSTED": "172.30.32.2",
        "BACKENDS": "local,whisper",
        "STRATEGY": "race",
        "HEDGE_BUDGET": "0.5",
        "HEDGE_MIN": "1",
        "ASSEMBLYAI_SYNC_URL": "https://sync.eu.assemblyai.com",
        "URI": "unix:///run/stt.sock",
        "LOG_FORMAT": "json",
        "MODEL_DIR": "/models",
        "WHISPER_LANGUAGES": "de,en",
        "ASSEMBLYAI_STREAMING_URL": "wss://streaming.eu.assemblyai.com",
        "ASSEMBLYAI_MODE": "balanced",
        "WHISPER_SERVICE_URL": "https://example.org",
        "LOCAL_DEVICE": "cpu",
    }
    text = shown.get(name, "true" if isinstance(getattr(Settings(), name.lower()), bool) else "7")
    file = tmp_path / "value"
    file.write_text(f"  {text}\n")
    by_file = load({}, {f"{name}_FILE": str(file)})
    assert by_file == load({}, {name: text})
    assert by_file == load({name: text}, {})
    assert getattr(by_file, name.lower()) != getattr(Settings(), name.lower()) or name in (
        "WHISPER_ENABLED",
        "LOCAL_ENABLED",
    )


def test_an_empty_environment_variable_counts_as_not_set(tmp_path: Path) -> None:
    empty = dict.fromkeys(NAMES, "") | {f"{name}_FILE": "" for name in NAMES}
    assert load({}, empty) == load({}, {})
    file = tmp_path / "key"
    file.write_text(KEY)
    environ = empty | {"ASSEMBLYAI_API_KEY_FILE": str(file)}
    assert load({}, environ).assemblyai_api_key == KEY


def test_variables_of_others_are_none_of_our_business() -> None:
    assert load({}, {"PATH": "/bin", "deadline": "x", "XDEADLINE": "x", "HOME_FILE": "/nowhere"}) == load(
        {}, {}
    )


def test_a_variable_and_its_file_together_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("other")
    text = refusal(environ={"WHISPER_API_KEY": KEY, "WHISPER_API_KEY_FILE": str(file)})
    assert text == "WHISPER_API_KEY and WHISPER_API_KEY_FILE are both set; keep one of them"


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert refusal(environ={"WHISPER_API_KEY_FILE": str(missing)}) == (
        f"WHISPER_API_KEY_FILE: cannot read {missing} (No such file or directory)"
    )
    assert refusal(environ={"URI_FILE": str(tmp_path)}) == (
        f"URI_FILE: cannot read {tmp_path} (Is a directory)"
    )
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert refusal(environ={"URI_FILE": str(binary)}) == f"URI_FILE: cannot read {binary} (it is no text)"


def test_a_stored_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    assert refusal({"SETTINGS_FILE": str(tmp_path)}) == (
        f"SETTINGS_FILE: cannot read {tmp_path} (Is a directory)"
    )
    for junk in ("DEADLINE=5", '{"DEADLINE": 5', "[" * 100_000, '{"DEADLINE": ' + "9" * 5000 + "}"):
        path = stored(tmp_path, junk)
        assert refusal({"SETTINGS_FILE": path}) == (
            f"SETTINGS_FILE: {path} holds no JSON; correct it, or remove it to begin anew"
        )
    for other in ("[]", "5", "null", '"text"'):
        path = stored(tmp_path, other)
        assert refusal({"SETTINGS_FILE": path}) == (
            f"SETTINGS_FILE: {path} must hold one JSON object of settings; "
            "correct it, or remove it to begin anew"
        )


def test_a_stored_file_that_is_not_there_counts_as_empty(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing" / "settings.json")
    assert load({"SETTINGS_FILE": missing}, {}).settings_file == missing
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", ["NOPE", "deadline", "", "a\nb"])
def test_a_name_that_is_no_setting_is_refused(name: str, tmp_path: Path) -> None:
    text = refusal({"SETTINGS_FILE": stored(tmp_path, {name: KEY})})
    assert text == f"{name!r} is no setting of this server"
    assert KEY not in text


WRONG = [
    ("URI", "http://x:1", "takes tcp://HOST:PORT, unix://PATH or stdio://"),
    ("LOG_FORMAT", "xml", "takes one of text, json"),
    ("DEBUG", "maybe", "takes true or false"),
    ("ENDPOINTING", "maybe", "takes true or false"),
    ("API_HOST", "", "takes an address of this machine, such as 127.0.0.1 or 0.0.0.0"),
    ("API_TRUSTED", "localhost", "takes IP addresses such as 172.30.32.2 with commas between them"),
    ("API_PORT", "65536", "takes a whole number from 0 to 65535"),
    ("WHISPER_ENABLED", "maybe", "takes true or false"),
    ("LOCAL_ENABLED", "maybe", "takes true or false"),
    ("SELF_CHECK", "maybe", "takes true or false"),
    ("MODEL_DIR", "~nobody-of-that-name/x", "takes the path of a folder, whose ~ must be known"),
    (
        "BACKENDS",
        "deepgram",
        "takes some of assemblyai, assemblyai_sync, whisper, local, each once, with commas between them",
    ),
    ("STRATEGY", "luck", "takes one of failover, hedge, race"),
    ("CONNECT_PATIENCE", "0", "takes seconds from 0.1 to 30"),
    ("PROGRESS_PATIENCE", "0.1", "takes seconds from 0.5 to 30"),
    ("HEDGE_MIN", "-1", "takes seconds from 0 to 30"),
    ("HEDGE_MAX", "31", "takes seconds from 0 to 30"),
    ("HEDGE_BUDGET", "5", "takes a share from 0 to 1"),
    ("KEEP_WARM", "-1", "takes seconds from 0 to 3600"),
    ("DAILY_BUDGET", "-1", "takes US dollars from 0 to 1000"),
    ("ASSEMBLYAI_PRICE", "free", "takes US dollars from 0 to 100"),
    ("ASSEMBLYAI_SYNC_URL", "wss://x", "takes an address that begins with https:// or http://"),
    ("ASSEMBLYAI_SYNC_TIMEOUT", "0", "takes seconds from 0.1 to 30"),
    ("ASSEMBLYAI_SYNC_PRICE", "free", "takes US dollars from 0 to 100"),
    ("WHISPER_PRICE", "free", "takes US dollars from 0 to 100"),
    ("DEADLINE", "0.4", "takes seconds from 0.5 to 60"),
    ("MAX_UTTERANCE", "601", "takes seconds from 1 to 600"),
    ("IDLE_TIMEOUT", "0", "takes seconds from 1 to 3600"),
    ("MAX_CONNECTIONS", "1.5", "takes a whole number from 1 to 10000"),
    ("ASSEMBLYAI_STREAMING_URL", "https://x", "takes an address that begins with wss:// or ws://"),
    ("ASSEMBLYAI_MODE", "fast", "takes one of min_latency, balanced, max_accuracy"),
    ("ASSEMBLYAI_CONNECT_TIMEOUT", "31", "takes seconds from 0.1 to 30"),
    ("ASSEMBLYAI_TIMEOUT", "never", "takes seconds from 0.1 to 30"),
    (
        "WHISPER_SERVICE_URL",
        "worker:10301",
        "takes an address that begins with wss:// or ws:// or https:// or http://",
    ),
    ("WHISPER_CONNECT_TIMEOUT", "nan", "takes seconds from 0.1 to 60"),
    ("WHISPER_TIMEOUT", "-1", "takes seconds from 0.1 to 60"),
    ("WHISPER_LANGUAGES", "en,xx", "takes language codes such as en, de or zh with commas between them"),
    ("LOCAL_DEVICE", "gpu", "takes one of auto, cpu, cuda"),
    ("LOCAL_THREADS", "-1", "takes a whole number from 0 to 256"),
    ("LOCAL_BEAM_SIZE", "0", "takes a whole number from 1 to 20"),
]


@pytest.mark.parametrize(("name", "value", "takes"), WRONG)
def test_a_wrong_value_is_one_line_that_names_the_setting_and_what_it_takes(
    name: str, value: str, takes: str
) -> None:
    assert refusal({name: value}) == f"{name} {takes}, not {value!r}"
    if value:  # an empty variable counts as not set
        assert refusal({}, {name: value}) == f"{name} {takes}, not {value!r}"


def test_the_bounds_of_hedging_do_not_cross() -> None:
    assert refusal({"HEDGE_MIN": "2"}) == "HEDGE_MIN takes up to HEDGE_MAX (1.5), not 2"
    assert refusal({"HEDGE_MIN": "2", "HEDGE_MAX": "1"}) == "HEDGE_MIN takes up to HEDGE_MAX (1), not 2"
    assert refusal({"HEDGE_MAX": "0.2"}) == "HEDGE_MAX takes HEDGE_MIN (0.3) or more, not 0.2"
    assert load({"HEDGE_MIN": "2", "HEDGE_MAX": "2"}, {}).hedge_min == 2


def test_only_free_text_has_no_wrong_value() -> None:
    free = {"ZEROCONF", "SETTINGS_FILE", "KEY_TERMS", "ASSEMBLYAI_MODEL", "ASSEMBLYAI_LANGUAGES"}
    free |= {"WHISPER_MODEL", "LOCAL_MODEL", "ASSEMBLYAI_SYNC_MODEL"}
    assert {name for name, _, _ in WRONG} | free | SECRETS == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_no_setting_takes_is_refused_for_all_of_them(name: str) -> None:
    values: list[Any] = [None, {}, 10**400, float("inf"), [None], [["x"]]]
    for value in values:
        with pytest.raises(SettingsError, match=f"^{name} takes .{{10,250}}$"):
            validate({name: value})


def test_a_long_wrong_value_is_repeated_in_part() -> None:
    assert refusal({"URI": "x" * 5000}).endswith(f"not '{'x' * 79}…")


@given(
    name=st.sampled_from(NAMES),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=4,
    ),
)
def test_any_value_is_taken_or_refused_in_one_line(name: str, value: Any) -> None:
    text = f"{name} takes it"
    try:
        validate({name: value})
    except SettingsError as error:
        text = str(error)
    assert text.startswith(f"{name} takes ")
    assert "\n" not in text
    assert len(text) < 250


def test_the_secrets_are_the_keys() -> None:
    assert {
        "API_TOKEN",
        "ASSEMBLYAI_API_KEY",
        "WHISPER_API_KEY",
        "WHISPER_PROXY_KEY",
        "WHISPER_PROXY_SECRET",
    } == SECRETS


@pytest.mark.parametrize("name", sorted(SECRETS))
@pytest.mark.parametrize("bad", [" ", "\n", "ü", "\x00", "\x7f"])
def test_a_wrong_key_is_refused_without_being_shown(name: str, bad: str) -> None:
    text = refusal({name: KEY + bad + KEY})
    assert text == f"{name} takes a key without blanks and other characters that no key has, not this value"


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_stored_key_of_the_wrong_kind_is_not_shown(name: str, tmp_path: Path) -> None:
    text = refusal({"SETTINGS_FILE": stored(tmp_path, {name: [KEY]})})
    assert text == f"{name} takes a string, not this value"


def test_keys_are_not_shown_where_settings_are() -> None:
    settings = load({}, dict.fromkeys(SECRETS, KEY) | {"LOCAL_MODEL": "small"})
    assert settings.whisper_proxy_secret == KEY
    for shown in (repr(settings), str(settings), f"{settings}"):
        assert KEY not in shown
        assert "local_model='small'" in shown


def test_the_home_folder_is_found() -> None:
    assert load({"MODEL_DIR": "~/models"}, {}).model_dir == Path.home() / "models"
    assert load({}, {}).model_dir == Path.home() / ".cache/stt-failover/models"


def test_a_default_that_cannot_be_is_refused_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_home(self: Path) -> Path:
        if str(self).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return self

    monkeypatch.setattr(Path, "expanduser", without_home)
    monkeypatch.setattr("wyoming_server.store.DEFAULT_PATH", Settings().settings_file)
    assert load({"MODEL_DIR": "/models"}, {}).deadline == 8.0
    assert refusal({"SETTINGS_FILE": "~/x.json"}) == (
        "SETTINGS_FILE: ~/x.json cannot be found; is the home folder known?"
    )
    assert refusal() == (
        "MODEL_DIR takes the path of a folder, whose ~ must be known, "
        f"not {Path('~/.cache/stt-failover/models')!r}"
    )


def test_the_schema_knows_every_setting_and_nothing_else() -> None:
    assert [str(name) for name in SCHEMA.schema] == NAMES
