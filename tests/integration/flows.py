"""What config and options flows have in common: everything they show is translated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import custom_components.stt_failover

FOLDER = Path(custom_components.stt_failover.__file__).parent
ENGLISH = json.loads((FOLDER / "translations/en.json").read_text())


def checked(result: Any, part: str = "config") -> Any:
    """Give the result back, if all that a person sees of it has words, and these have all they need."""
    words = ENGLISH[part]
    given = set(result.get("description_placeholders") or ())
    match result["type"].value:
        case "abort":
            _check(words["abort"][result["reason"]], given)
        case "form":
            step = words["step"][result["step_id"]]
            _check(json.dumps(step), given)
            for key in (result["errors"] or {}).values():
                _check(words["error"][key], given)
            for field, kind in result["data_schema"].schema.items():
                inner = getattr(getattr(kind, "schema", None), "schema", None)
                if inner is None:
                    assert step["data"][str(field)]
                    assert step["data_description"][str(field)]
                else:
                    names = {str(name) for name in inner}
                    assert names <= set(step["sections"][str(field)]["data"])
                    assert names <= set(step["sections"][str(field)]["data_description"])
        case "menu":
            options = words["step"][result["step_id"]]["menu_options"]
            assert set(result["menu_options"]) <= set(options)
    return result


def _check(text: str, given: set[str]) -> None:
    assert set(re.findall(r"\{(\w+)\}", text)) <= given


def filled(result: Any) -> dict[str, Any]:
    """Give what a form is filled with; a section is an object of its own."""
    values: dict[str, Any] = {}
    for field, kind in result["data_schema"].schema.items():
        inner = getattr(kind, "schema", None)
        if hasattr(inner, "schema"):
            values[str(field)] = filled({"data_schema": inner})
        elif (field.description or {}).get("suggested_value") is not None:
            values[str(field)] = field.description["suggested_value"]
    return values


def read_only(result: Any) -> set[str]:
    """Give the fields that cannot be changed."""
    found: set[str] = set()
    for field, kind in result["data_schema"].schema.items():
        inner = getattr(kind, "schema", None)
        if hasattr(inner, "schema"):
            found |= read_only({"data_schema": inner})
        elif getattr(kind, "config", {}).get("read_only"):
            found.add(str(field))
    return found
