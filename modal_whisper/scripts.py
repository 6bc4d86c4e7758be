"""Chinese in the script that was asked for: Whisper writes whichever it likes, in one answer both."""

from __future__ import annotations

from functools import cache
from typing import Any

from modal_whisper.extras import require
from modal_whisper.languages import bare_code


def written_as(tag: str | None, text: str) -> str:
    """A text in the script of a language tag.

    Traditional for zh-Hant, zh-TW, zh-HK and zh-MO, simplified for any other tag of Chinese. Texts in other
    languages stay as they are.
    """
    if tag is None or bare_code(tag) != "zh":
        return text
    parts = set(tag.strip().lower().replace("_", "-").split("-")[1:])
    if "hans" in parts or not parts & {"hant", "tw", "hk", "mo"}:
        name = "t2s"
    else:
        name = "s2hk" if parts & {"hk", "mo"} else "s2tw"
    return str(_converter(name).convert(text))


@cache
def _converter(name: str) -> Any:
    return require("opencc").OpenCC(name)
