"""What the documents promise is there."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from tests.documents.commands import DOCUMENTS, ROOT
from wyoming_server.settings import SECRETS, Settings, validate

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = dict(re.findall(r"^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))


def test_the_example_names_every_setting() -> None:
    assert set(EXAMPLES) == {item.name.upper() for item in fields(Settings)}


def test_the_example_shows_values_that_are_taken() -> None:
    validate({name: value for name, value in EXAMPLES.items() if value})


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - SECRETS))
def test_the_example_shows_the_defaults(name: str) -> None:
    without_default = {"WHISPER_SERVICE_URL", "KEY_TERMS", "ZEROCONF", "API_TRUSTED"}
    if name not in without_default:
        shown = getattr(validate({name: EXAMPLES[name]}), name.lower())
        assert shown == getattr(validate({}), name.lower())


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    path = ROOT / document
    text = path.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text) + re.findall(
        r'(?:src|srcset|href)="(?!https?:)([^"#]+)"', text
    )
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_scripts_that_are_named_are_there(document: Path) -> None:
    scripts = set(re.findall(r"\bscript/[a-z0-9_]+(?:\.sh)?\b", (ROOT / document).read_text()))
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_the_house_plan_names_every_module() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text()
    modules = [
        path.name
        for package in ("wyoming_server", "modal_whisper")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert [name for name in modules if name not in plan and name.removesuffix(".py") not in plan] == []
