"""The languages that Whisper knows, by its own codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from modal_whisper.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def codes(text: str) -> frozenset[str]:
    """The language codes in a text with blanks between them."""
    return frozenset(text.split())


LANGUAGES: Final = codes(
    """
    af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu
    hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt
    ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh
    """
)
"""What multilingual Whisper models up to large-v3 were trained on. Source: openai/whisper's tokenizer."""

_WITHOUT_SPACES: Final = codes("bo ja km lo my th yue zh")
_OTHER_NAMES: Final = {"cmn": "zh", "fil": "tl", "in": "id", "iw": "he", "jv": "jw", "nb": "no"}


def bare_code(tag: str) -> str:
    """The language of a tag such as "en-US", "zh_Hant" or "nb", by the code that speech engines use."""
    code = tag.strip().replace("_", "-").split("-")[0].lower()
    return _OTHER_NAMES.get(code, code)


def whisper_language(tag: str | None) -> str | None:
    """Whisper's own code for a language tag; None stays None.

    Raises MessageError for a language that Whisper does not know.
    """
    if tag is None:
        return None
    code = bare_code(tag)
    if code not in LANGUAGES:
        raise MessageError(
            f"unknown language {tag[:20]!r}: give a code such as en, de or zh, or null to detect it"
        )
    return code


def joined(texts: Iterable[str], language: str | None) -> str:
    """One text from several that follow each other, with a space between them where the language has any."""
    return ("" if language in _WITHOUT_SPACES else " ").join(text.strip() for text in texts if text.strip())
