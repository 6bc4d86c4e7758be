"""Takes values out of what the server says; what is not as it should be is an UnexpectedAnswerError."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from .errors import UnexpectedAnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping

type Json = Mapping[str, Any]


def text(data: Json, key: str) -> str:
    """Give a string."""
    if not isinstance(value := data.get(key), str):
        raise UnexpectedAnswerError(f"the server's answer has no text {key!r}")
    return value


def flag(data: Json, key: str) -> bool:
    """Give true or false."""
    if not isinstance(value := data.get(key), bool):
        raise UnexpectedAnswerError(f"the server's answer has no true or false {key!r}")
    return value


def number(data: Json, key: str) -> float:
    """Give a number."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnexpectedAnswerError(f"the server's answer has no number {key!r}")
    return value


def mapping(data: Json, key: str) -> Json:
    """Give an object."""
    if not isinstance(value := data.get(key), dict):
        raise UnexpectedAnswerError(f"the server's answer has no object {key!r}")
    return value


def objects(data: Json, key: str) -> list[Json]:
    """Give a list of objects."""
    value = data.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UnexpectedAnswerError(f"the server's answer has no list of objects {key!r}")
    return value


def optional_text(data: Json, key: str) -> str | None:
    """Give a string, or None where there is none."""
    return None if data.get(key) is None else text(data, key)


def optional_number(data: Json, key: str) -> float | None:
    """Give a number, or None where there is none."""
    return None if data.get(key) is None else number(data, key)


def time(data: Json, key: str) -> datetime:
    """Give a moment in time."""
    try:
        return datetime.fromisoformat(text(data, key))
    except ValueError:
        raise UnexpectedAnswerError(f"the server's answer has no time {key!r}") from None
