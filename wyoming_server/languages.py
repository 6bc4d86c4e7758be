"""Which languages the engines understand, by bare code."""

from __future__ import annotations

from typing import Final


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


WHISPER: Final = _codes(
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht "
    "hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps "
    "pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh"
)
"""What multilingual Whisper models up to large-v3 were trained on (OpenAI's tokenizer)."""

ASSEMBLYAI: Final = {
    "universal-3-6-pro": _codes(
        "af ar ca da de en es et fa fi fr gl he hi it ja ko mr nl nn no pt ro ru sv sw tr ur vi xh yue zh zu"
    ),
    "universal-3-5-pro": _codes("ar ca da de en es fi fr he hi it ja nl no pt sv tr vi zh"),
    "universal-streaming-multilingual": _codes("de en es fr it pt"),
    "universal-streaming-english": _codes("en"),
}
"""AssemblyAI's streaming models, as its documentation lists their languages in autumn 2026."""

_ALIASES: Final = {"nb": "no", "iw": "he", "in": "id", "jv": "jw", "fil": "tl", "cmn": "zh"}


def bare_code(tag: str) -> str:
    """The language of a tag such as "en-US", "zh_Hant" or "nb", as the engines call it."""
    code = tag.strip().replace("_", "-").split("-")[0].lower()
    return _ALIASES.get(code, code)
