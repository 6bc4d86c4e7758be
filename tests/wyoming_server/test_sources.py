"""What the environment says, and what it must not leave unsaid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wyoming_server.errors import SettingsError
from wyoming_server.settings import NAMES, load
from wyoming_server.sources import Source, read_environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("content", ["", "\n", "  \n"])
def test_a_file_for_the_token_that_is_empty_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        read_environment(NAMES, {"API_TOKEN_FILE": str(file)})
    told = f"API_TOKEN_FILE: {file} is empty; write a token into it, or leave API_TOKEN_FILE out"
    assert str(caught.value) == told


def test_what_is_empty_counts_as_not_set(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    environ = {"API_TOKEN": " ", "ASSEMBLYAI_API_KEY_FILE": str(empty), "KEY_TERMS": "", "URI": "\t"}
    assert read_environment(NAMES, environ) == {}


def test_an_empty_token_beats_no_stored_one(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"API_TOKEN": "stored-token"}')
    settings = load({"API_TOKEN": " ", "SETTINGS_FILE": str(file)}, {"API_TOKEN": " "})
    assert settings.api_token == "stored-token"
    assert settings.sources.of("API_TOKEN") is Source.STORED


def test_a_path_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^API_TOKEN_FILE: cannot read "):
        read_environment(NAMES, {"API_TOKEN_FILE": "a\0b"})
    file = tmp_path / "token"
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"\(it is no text\)$"):
        read_environment(NAMES, {"API_TOKEN_FILE": str(file)})
