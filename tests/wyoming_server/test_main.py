from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import wyoming_server.__main__ as command_line
import wyoming_server.client
import wyoming_server.run
from modal_whisper.extras import how_to_install
from modal_whisper.version import __version__
from tests.processes import environment
from wyoming_server.client import Answer, TranscribeError
from wyoming_server.errors import SettingsError
from wyoming_server.settings import SECRETS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

KEY = "k-0123456789abcdef"
Result = int | SettingsError


class Served:
    """Stands for wyoming_server.run.run."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.result: Result = 0

    async def run(self, settings: Settings) -> int:
        self.settings = settings
        if isinstance(self.result, SettingsError):
            raise self.result
        return self.result


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    stand_in = Served()
    monkeypatch.setattr(wyoming_server.run, "run", stand_in.run)
    for name in list(Settings.__dataclass_fields__):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    return stand_in


def settings_for(served: Served, *argv: str) -> Settings:
    assert command_line.main(argv) == 0
    assert served.settings is not None
    return served.settings


def test_without_arguments_it_serves_with_the_defaults(served: Served) -> None:
    assert settings_for(served).uri == "tcp://0.0.0.0:10300"


def test_every_setting_is_an_option(served: Served, tmp_path: Path) -> None:
    stored = tmp_path / "settings.json"
    stored.write_text('{"LOCAL_MODEL": "small"}')
    settings = settings_for(
        served,
        *("--uri", "tcp://127.0.0.1:1"),
        *("--backends", "local,whisper"),
        *("--deadline=5", "--max-connections=3", "--local-enabled=no"),
        *("--whisper-api-key", KEY),
        *("--settings-file", str(stored)),
    )
    assert (settings.uri, settings.backends) == ("tcp://127.0.0.1:1", ("local", "whisper"))
    assert (settings.deadline, settings.max_connections, settings.local_enabled) == (5.0, 3, False)
    assert (settings.whisper_api_key, settings.local_model) == (KEY, "small")


@pytest.mark.parametrize(
    ("argv", "zeroconf", "debug"),
    [
        ([], "", False),
        (["--zeroconf"], "auto", False),
        (["--zeroconf", "kitchen"], "kitchen", False),
        (["--zeroconf", "--debug"], "auto", True),
        (["--debug"], "", True),
        (["--debug", "false"], "", False),
    ],
)
def test_some_options_need_no_value(
    served: Served, argv: Sequence[str], zeroconf: str, *, debug: bool
) -> None:
    settings = settings_for(served, *argv)
    assert (settings.zeroconf, settings.debug) == (zeroconf, debug)
    assert not settings.self_check
    assert settings_for(served, "--self-check").self_check


def test_an_option_beats_the_environment(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEADLINE", "5")
    monkeypatch.setenv("MAX_UTTERANCE", "5")
    settings = settings_for(served, "--deadline", "6")
    assert (settings.deadline, settings.max_utterance) == (6.0, 5.0)


def test_an_empty_option_takes_back_what_the_environment_says(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSEMBLYAI_API_KEY", KEY)
    assert settings_for(served).assemblyai_api_key == KEY
    assert settings_for(served, "--assemblyai-api-key", "").assemblyai_api_key == ""


def test_the_command_line_is_that_of_the_process(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stt-failover", "--deadline", "6"])
    assert command_line.main() == 0
    assert served.settings is not None
    assert served.settings.deadline == 6.0


def test_a_wrong_value_is_one_line_and_wrong_use(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--deadline", "soon"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "stt-failover: DEADLINE takes seconds from 0.5 to 60, not 'soon'\n"
    assert served.settings is None


def test_what_is_found_wrong_later_is_one_line_too(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.result = SettingsError("no backend is left")
    assert command_line.main([]) == 2
    assert capsys.readouterr().err == "stt-failover: no backend is left\n"


def test_the_exit_code_of_the_server_is_handed_on(served: Served) -> None:
    served.result = 7
    assert command_line.main([]) == 7


@pytest.mark.parametrize("argv", [["--nope"], ["--deadline"], ["serve"], ["--uri", "stdio://", "extra"]])
def test_an_option_that_is_none_is_wrong_use(
    served: Served, capsys: pytest.CaptureFixture[str], argv: Sequence[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(argv)
    assert caught.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage == "usage: stt-failover [options]"
    assert error.startswith("stt-failover: error: ")


def test_a_wrong_key_is_not_shown(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--assemblyai-api-key", f"{KEY} {KEY}"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("stt-failover: ASSEMBLYAI_API_KEY takes a key")
    assert KEY not in shown


def test_help_tells_every_option_and_its_default_and_no_key(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for name in SECRETS:
        monkeypatch.setenv(name, KEY)
    with pytest.raises(SystemExit) as caught:
        command_line.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert KEY not in shown
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')} " in shown
    for default in (
        "tcp://0.0.0.0:10300",
        "assemblyai,assemblyai_sync,whisper,local",
        "8.0",
        "true",
        "false",
        "base",
    ):
        assert f"(default: {default})" in shown
    assert "(default: )" not in shown
    assert "MAX_UTTERANCE_FILE" in shown


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"stt-failover {__version__}\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str, str | None]]:
    """What a server was asked for; it answers like a server should."""
    asked: list[tuple[Path, str, str | None]] = []

    async def transcribe_file(
        path: Path, uri: str, *, language: str | None, on_partial: Callable[[str], None]
    ) -> Answer:
        asked.append((path, uri, language))
        if path.name == "missing.wav":
            raise TranscribeError(f"cannot read {path} as a WAV file (No such file or directory)")
        on_partial("open")
        on_partial("open the")
        return Answer("open the door", "" if path.name == "plain.wav" else "whisper", 212.3)

    monkeypatch.setattr(wyoming_server.client, "transcribe_file", transcribe_file)
    return asked


def test_transcribe_shows_partials_then_the_words_who_answered_and_the_time(
    server: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["transcribe", "door.wav"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "… open",
        "… open the",
        "open the door",
        "answered by whisper, 212 ms after the last sample",
    ]
    ((path, uri, language),) = server
    assert (path.name, uri, language) == ("door.wav", "tcp://127.0.0.1:10300", None)


def test_transcribe_asks_the_server_that_it_is_told(server: list[Any]) -> None:
    assert (
        command_line.main(["transcribe", "--uri", "unix:///run/stt.sock", "door.wav", "--language", "de"])
        == 0
    )
    ((path, uri, language),) = server
    assert (path.name, uri, language) == ("door.wav", "unix:///run/stt.sock", "de")


def test_transcribe_does_with_a_server_that_does_not_say_who_answered(
    server: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["transcribe", "plain.wav"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "answered by a server that does not say who, 212 ms after the last sample"
    )


def test_transcribe_that_fails_is_one_line_and_another_code(
    server: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["transcribe", "missing.wav"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == ("stt-failover: cannot read missing.wav as a WAV file (No such file or directory)\n")


def test_transcribe_without_a_file_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(["transcribe"])
    assert caught.value.code == 2
    assert "usage: stt-failover transcribe" in capsys.readouterr().err


def test_the_console_script_leaves_with_the_exit_code(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(command_line, "leave", codes.append)
    monkeypatch.setattr(sys, "argv", ["stt-failover"])
    served.result = 7
    command_line.console()
    assert codes == [7]


def test_the_module_is_a_command_whose_wrong_use_is_code_2_without_a_trace() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wyoming_server", "--uri", "nowhere"],
        env=environment({"WHISPER_API_KEY": KEY}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "stt-failover: URI takes tcp://HOST:PORT, unix://PATH or stdio://, not 'nowhere'\n"
    )


def test_without_the_servers_packages_one_line_says_how_to_get_them() -> None:
    blocked = "import sys; sys.modules['voluptuous'] = None; import wyoming_server.__main__"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("stt-failover: the server is not installed here (")
    assert done.stderr.endswith(f"{how_to_install('server')}\n")
    assert done.stderr.count("\n") == 1
