from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest

from wyoming_server.identity import establish, keep_id
from wyoming_server.settings import load
from wyoming_server.store import Kept, Store, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from wyoming_server.identity import Identity
    from wyoming_server.settings import LoadedSettings


def start(path: Path, **environ: str) -> tuple[LoadedSettings, Identity]:
    settings = load({"SETTINGS_FILE": str(path)}, environ)
    return establish(settings, Store(settings.settings_file))


def test_the_first_start_makes_both_and_the_next_ones_find_them(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "settings.json"
    settings, first = start(path)
    assert first.is_new
    assert len(first.server_id) == 32
    assert len(first.token) >= 43
    assert settings.api_token == first.token
    assert json.loads(path.read_text()) == {"SERVER_ID": first.server_id, "API_TOKEN": first.token}
    _, second = start(path)
    assert (second.server_id, second.token, second.is_new) == (first.server_id, first.token, False)


def test_two_servers_are_never_the_same(tmp_path: Path) -> None:
    _, one = start(tmp_path / "a.json")
    _, other = start(tmp_path / "b.json")
    assert one.server_id != other.server_id
    assert one.token != other.token


def test_a_token_of_the_users_own_is_not_written_down(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    settings, identity = start(path, API_TOKEN="mine")
    assert (identity.token, identity.is_new, settings.api_token) == ("mine", False, "mine")
    assert json.loads(path.read_text()) == {"SERVER_ID": identity.server_id}


def test_settings_that_are_there_stay(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"DEADLINE": 5, "API_TOKEN": "kept"}))
    settings, identity = start(path)
    assert (settings.deadline, identity.token, identity.is_new) == (5.0, "kept", False)
    assert json.loads(path.read_text()) == {
        "SERVER_ID": identity.server_id,
        "DEADLINE": 5,
        "API_TOKEN": "kept",
    }


def test_an_empty_token_never_lets_anybody_in(tmp_path: Path) -> None:
    settings = load({"SETTINGS_FILE": str(tmp_path / "x.json"), "API_TOKEN": ""}, {})
    _, identity = establish(settings, Store(settings.settings_file))
    assert len(identity.token) >= 43
    assert identity.is_new


def test_where_nothing_can_be_kept_the_server_goes_on_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "settings.json"
    settings = load({}, {})
    with caplog.at_level(logging.WARNING):
        settings, identity = establish(settings, NoRoom(str(path)))
    assert identity.is_new
    assert settings.api_token == identity.token
    (line,) = caplog.messages
    assert line.startswith("SETTINGS_FILE: cannot write ")
    assert line.endswith("; the server's id and token will be others after a restart")
    assert identity.token not in line


def test_a_token_is_not_shown_where_the_identity_is(tmp_path: Path) -> None:
    settings, identity = start(tmp_path / "x.json")
    assert identity.token not in repr(identity) + repr(settings)


def test_a_file_that_cannot_be_read_is_no_first_start(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    settings = load({"SETTINGS_FILE": str(path)}, {})
    path.write_text("{")
    with pytest.raises(StoreError):
        establish(settings, Store(str(path)))
    assert path.read_text() == "{"


class NoRoom(Store):
    """Finds nothing, and has nowhere to write."""

    def read(self) -> Kept:
        return Kept()


def test_an_id_without_an_api_is_kept_and_no_token_is_made_that_nobody_would_see(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"DEADLINE": 5}))
    own_id = keep_id(Store(str(path)))
    assert json.loads(path.read_text()) == {"SERVER_ID": own_id, "DEADLINE": 5}
    assert keep_id(Store(str(path))) == own_id
    _, identity = start(path)
    assert (identity.server_id, identity.is_new) == (own_id, True)


def test_an_id_that_cannot_be_kept_lasts_until_the_server_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert len(keep_id(NoRoom(str(tmp_path / "file" / "settings.json")))) == 32
    assert "the server's id will be another after a restart" in caplog.text
