from __future__ import annotations

import json

import pytest

from modal_whisper.errors import ModelUnavailableError
from modal_whisper.extras import require


def test_a_module_that_is_installed_is_given() -> None:
    assert require("json") is json


def test_a_module_that_is_missing_is_an_error_that_says_what_to_install() -> None:
    with pytest.raises(ModelUnavailableError) as error:
        require("no_such_module_anywhere")
    assert str(error.value) == (
        "Whisper cannot run here (No module named 'no_such_module_anywhere'): "
        'pip install "stt-failover[worker]", or ".[worker]" in a copy of the project'
    )


def test_a_module_that_is_broken_is_an_error_with_its_reason(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module_of_a_test.py").write_text("from json import nothing_of_the_kind")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelUnavailableError, match="nothing_of_the_kind"):
        require("broken_module_of_a_test")
