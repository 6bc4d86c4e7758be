"""The client's errors as Home Assistant shows them: translated."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from homeassistant.exceptions import HomeAssistantError

from .const import DOMAIN
from .errors import (
    CannotConnectError,
    RejectedError,
    ServerError,
    TooManyAttemptsError,
    UnauthorizedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def explanation(error: ServerError) -> dict[str, Any]:
    """Give an exception's translation_domain, translation_key and translation_placeholders."""
    match error:
        case UnauthorizedError():
            key = "invalid_auth"
        case TooManyAttemptsError():
            key = "too_many_attempts"
        case CannotConnectError():
            key = "cannot_connect"
        case RejectedError():
            key = "rejected"
        case _:
            key = "unexpected_answer"
    return {
        "translation_domain": DOMAIN,
        "translation_key": key,
        "translation_placeholders": {"reason": str(error)},
    }


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the client raises into a HomeAssistantError in the person's language."""
    try:
        yield
    except ServerError as error:
        raise HomeAssistantError(**explanation(error)) from error
