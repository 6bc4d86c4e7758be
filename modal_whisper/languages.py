"""The languages that Whisper knows, by its own codes."""

from __future__ import annotations

from modal_whisper.errors import MessageError

LANGUAGES = frozenset(
    [
        "af",
        "am",
        "ar",
        "as",
        "az",
        "ba",
        "be",
        "bg",
        "bn",
        "bo",
        "br",
        "bs",
        "ca",
        "cs",
        "cy",
        "da",
        "de",
        "el",
        "en",
        "es",
        "et",
        "eu",
        "fa",
        "fi",
        "fo",
        "fr",
        "gl",
        "gu",
        "ha",
        "haw",
        "he",
        "hi",
        "hr",
        "ht",
        "hu",
        "hy",
        "id",
        "is",
        "it",
        "ja",
        "jw",
        "ka",
        "kk",
        "km",
        "kn",
        "ko",
        "la",
        "lb",
        "ln",
        "lo",
        "lt",
        "lv",
        "mg",
        "mi",
        "mk",
        "ml",
        "mn",
        "mr",
        "ms",
        "mt",
        "my",
        "ne",
        "nl",
        "nn",
        "no",
        "oc",
        "pa",
        "pl",
        "ps",
        "pt",
        "ro",
        "ru",
        "sa",
        "sd",
        "si",
        "sk",
        "sl",
        "sn",
        "so",
        "sq",
        "sr",
        "su",
        "sv",
        "sw",
        "ta",
        "te",
        "tg",
        "th",
        "tk",
        "tl",
        "tr",
        "tt",
        "uk",
        "ur",
        "uz",
        "vi",
        "yi",
        "yo",
        "yue",
        "zh",
    ]
)
"""The codes of openai/whisper's tokenizer."""

_OTHER_NAMES = {"fil": "tl", "iw": "he", "jv": "jw", "nb": "no"}


def whisper_language(code: str | None) -> str | None:
    """Whisper's own code for a language tag such as "de", "en-US" or "zh-Hans"; None stays None.

    Raises MessageError for a language that Whisper does not know.
    """
    if code is None:
        return None
    base = code.replace("_", "-").split("-")[0].lower()
    base = _OTHER_NAMES.get(base, base)
    if base not in LANGUAGES:
        raise MessageError(
            f"unknown language {code[:20]!r}: give a code such as en, de or zh, or null to detect it"
        )
    return base
