"""What a setting may hold. Every validator says in its message what the setting takes."""

from __future__ import annotations

import math
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import voluptuous as vol

from modal_whisper.errors import MessageError
from modal_whisper.languages import whisper_language

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def text(value: Any) -> str:
    """Any string that can be written to a file; blanks at its ends are dropped."""
    if not isinstance(value, str):
        raise vol.Invalid("takes a string")
    if not _is_writable(value):
        raise vol.Invalid("takes a string of whole characters")
    return value.strip()


def secret(value: Any) -> str:
    """A key as it can travel in an HTTP header."""
    if not isinstance(value, str):
        raise vol.Invalid("takes a string")
    key = value.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise vol.Invalid("takes a key without blanks and other characters that no key has")
    return key


def flag(value: Any) -> bool:
    """True or false, in the usual spellings."""
    if isinstance(value, bool):
        return value
    try:
        return bool(vol.Boolean()(text(value)))
    except vol.Invalid:
        raise vol.Invalid("takes true or false") from None


def words(value: Any) -> tuple[str, ...]:
    """A list of strings, or one string with commas between them."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise vol.Invalid("takes words with commas between them")
    if not all(map(_is_writable, items)):
        raise vol.Invalid("takes words of whole characters")
    return tuple(item.strip() for item in items if item.strip())


def addresses(value: Any) -> tuple[str, ...]:
    """IP addresses, or one string with commas between them."""
    try:
        found = [ip_address(item) for item in words(value)]
    except ValueError:
        raise vol.Invalid("takes IP addresses such as 172.30.32.2 with commas between them") from None
    return tuple(str(getattr(address, "ipv4_mapped", None) or address) for address in found)


def whisper_languages(value: Any) -> tuple[str, ...]:
    """Codes of languages that Whisper knows, or one string with commas between them."""
    codes = words(value)
    try:
        return tuple(code for code in map(whisper_language, codes) if code)
    except MessageError:
        raise vol.Invalid("takes language codes such as en, de or zh with commas between them") from None


def folder(value: Any) -> Path:
    """A folder, which need not exist yet; ~ is the home folder."""
    path = str(value) if isinstance(value, Path) else text(value)
    if not path:
        raise vol.Invalid("takes the path of a folder")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise vol.Invalid("takes the path of a folder, whose ~ must be known") from None


def number(low: float, high: float, unit: str) -> Callable[[Any], float]:
    """A number from `low` to `high`."""
    message = f"takes {unit} from {low:g} to {high:g}"

    def validate(value: Any) -> float:
        try:
            result = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            raise vol.Invalid(message) from None
        if not low <= result <= high:
            raise vol.Invalid(message)
        return result

    return validate


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A whole number from `low` to `high`."""
    message = f"takes a whole number from {low} to {high}"

    def validate(value: Any) -> int:
        try:
            result = int(value) if isinstance(value, str) else value
        except ValueError:
            raise vol.Invalid(message) from None
        if type(result) is not int or not low <= result <= high:  # True is an int, but no number
            raise vol.Invalid(message)
        return result

    return validate


def one_of(*choices: str) -> Callable[[Any], str]:
    """One of the given words."""
    return vol.All(text, vol.In(choices), msg=f"takes one of {', '.join(choices)}")


def order_of(choices: Iterable[str]) -> Callable[[Any], tuple[str, ...]]:
    """Some of the given words, each at most once, in the order of preference."""
    known = tuple(choices)

    def validate(value: Any) -> tuple[str, ...]:
        chosen = words(value)
        if not chosen or not set(chosen) <= set(known) or len(set(chosen)) < len(chosen):
            raise vol.Invalid(f"takes some of {', '.join(known)}, each once, with commas between them")
        return chosen

    return validate


def url(*schemes: str, optional: bool = False) -> Callable[[Any], str]:
    """An address with one of the given schemes and a host."""
    message = f"takes an address that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"

    def validate(value: Any) -> str:
        address = text(value)
        if optional and not address:
            return address
        try:
            parts = urlsplit(address)
            is_valid = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
            is_valid = is_valid and address.isprintable() and " " not in address
            is_valid = is_valid and "@" not in parts.netloc  # a key has a setting of its own
            (parts.hostname or "").encode("idna")
        except ValueError:
            is_valid = False
        if not is_valid:
            raise vol.Invalid(message)
        return address

    return validate


def listening_uri(value: Any) -> str:
    """Where a Wyoming server listens."""
    uri = text(value)
    if uri == "stdio://" or (uri.startswith("unix://") and len(uri) > len("unix://")):
        return uri
    try:
        parts = urlsplit(uri)
        is_valid = parts.scheme == "tcp" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        is_valid = False
    if not is_valid:
        raise vol.Invalid("takes tcp://HOST:PORT, unix://PATH or stdio://")
    return uri


def _is_writable(value: str) -> bool:
    """Whether it has neither half a surrogate pair, which no file takes, nor NUL, which no path takes."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
