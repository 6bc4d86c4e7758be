from __future__ import annotations

import pytest

from modal_whisper.languages import bare_code
from wyoming_server.languages import ASSEMBLYAI
from wyoming_server.settings import Settings


def test_the_default_model_is_known() -> None:
    assert Settings().assemblyai_model in ASSEMBLYAI


@pytest.mark.parametrize(
    ("model", "number"),
    [
        ("universal-3-6-pro", 32),
        ("universal-3-5-pro", 19),
        ("u3-rt-pro", 6),
        ("universal-streaming-multilingual", 6),
        ("universal-streaming-english", 1),
    ],
)
def test_each_model_understands_as_many_languages_as_its_documentation_says(model: str, number: int) -> None:
    assert len(ASSEMBLYAI[model]) == number
    assert "en" in ASSEMBLYAI[model]


@pytest.mark.parametrize("model", ASSEMBLYAI)
def test_languages_are_named_as_requests_name_them(model: str) -> None:
    assert {bare_code(code) for code in ASSEMBLYAI[model]} == ASSEMBLYAI[model]
