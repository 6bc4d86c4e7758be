"""What a Whisper model is told beforehand: the names that may occur, and what was said just before.

Only names, never example commands: with those, noise comes back as one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Whisper keeps at most 223 tokens of what comes before; each of them makes every step a little slower.
_NAME_TOKENS: Final = 120
_CONTEXT_TOKENS: Final = 60
_NAME_LETTERS: Final = 100
"""A longer one is no name: it would push all others out, or take seconds to be cut into tokens."""


def prompt(tokenizer: Any, words: Sequence[str], context: str) -> list[int]:
    """The tokens that come before the transcript, as many as fit.

    `tokenizer` is a tokenizers.Tokenizer. Of `words`, most important first, the last ones are left out, of
    `context` the beginning.
    """
    names: list[int] = []
    for tokens in _listed(tokenizer, words):
        if len(names) + len(tokens) >= _NAME_TOKENS:
            break
        names += tokens
    if names:
        names += _encode(tokenizer, ".")
    text = context.strip()
    return names + (_encode(tokenizer, f" {text}")[-_CONTEXT_TOKENS:] if text else [])


def _listed(tokenizer: Any, words: Sequence[str]) -> Iterator[list[int]]:
    is_first = True
    for word in words:
        if (text := word.strip()) and len(text) <= _NAME_LETTERS:
            yield _encode(tokenizer, f" {text}" if is_first else f", {text}")
            is_first = False


def _encode(tokenizer: Any, text: str) -> list[int]:
    sendable = text.encode(errors="ignore").decode()  # without halves of surrogate pairs
    tokens: list[int] = tokenizer.encode(sendable, add_special_tokens=False).ids
    end_of_text = tokenizer.token_to_id("<|endoftext|>")  # those from here on steer the model
    return [token for token in tokens if token < end_of_text]
