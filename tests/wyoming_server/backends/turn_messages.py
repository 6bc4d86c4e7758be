"""Turn messages as the service sends them, with no more in them than counts."""

from __future__ import annotations

from typing import Any


def partial(order: int, text: str) -> dict[str, Any]:
    return _turn(order, text, None, is_final=False)


def final(order: int, text: str, end_ms: int | None = None) -> dict[str, Any]:
    return _turn(order, text, end_ms, is_final=True)


def _turn(order: int, text: str, end_ms: int | None, *, is_final: bool) -> dict[str, Any]:
    words = [] if end_ms is None else [{"text": "...", "start": max(0, end_ms - 300), "end": end_ms}]
    return {
        "type": "Turn",
        "turn_order": order,
        "transcript": text,
        "end_of_turn": is_final,
        "words": words,
    }
