"""What holds for all tests of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_settings_of_whoever_runs_the_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is read from the home folder, and nothing written there."""
    monkeypatch.setattr("wyoming_server.store.DEFAULT_PATH", str(tmp_path / "home" / "settings.json"))
