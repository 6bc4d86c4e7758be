"""What AssemblyAI's error messages and close codes mean. Source: its documentation of session errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_Meaning = tuple["Callable[[str], BackendError]", str]

_SIGN_IN: Final[_Meaning] = (SignInRefusedError, "sign-in refused")
_TOO_MANY: Final[_Meaning] = (RateLimitedError, "too many sessions")
_FAULT: Final[_Meaning] = (OverloadedError, "the service has a fault")
_EXPIRED: Final[_Meaning] = (DisconnectedError, "the session expired")

_DROPPED: Final = 1006
_REFUSED: Final = 1008
_INVALID: Final = 3006

_MEANINGS: Final[dict[int, _Meaning]] = {
    1000: (DisconnectedError, "the session was ended early"),
    _DROPPED: (DisconnectedError, "the connection was dropped"),
    _REFUSED: _SIGN_IN,
    1009: (RejectedError, "a message was too large"),
    1011: _FAULT,
    1013: _FAULT,
    3005: _FAULT,
    _INVALID: (
        RejectedError,
        "a session parameter or message is not taken; check ASSEMBLYAI_MODEL and ASSEMBLYAI_MODE",
    ),
    3007: (RejectedError, "audio frames of the wrong length or sent too fast"),
    3008: _EXPIRED,
    3009: _TOO_MANY,
    # The second version of the service; its codes are still in the official client's table.
    4001: _SIGN_IN,
    4002: (SignInRefusedError, "the account has no funds"),
    4003: (SignInRefusedError, "the account's plan does not include streaming"),
    4008: _EXPIRED,
    4029: (RateLimitedError, "audio sent too fast"),
    4031: _EXPIRED,
    4102: _TOO_MANY,
}


def error_for_close(code: int | None) -> BackendError:
    """The error for a socket closed with `code` before the final; None: without a closing handshake."""
    make, text = _MEANINGS.get(code or _DROPPED, (DisconnectedError, "the connection was closed"))
    return make(f"{text} ({code or _DROPPED})")


def error_for_message(message: Mapping[str, Any]) -> BackendError:
    """The error for an Error message; its code is that of the close that follows."""
    code, text = message.get("error_code"), str(message.get("error", "")).lower()
    if not isinstance(code, int):
        return DisconnectedError("the service ended the session with an error of its own")
    # Two codes have a second meaning, which the text alone tells.
    if code == _REFUSED and "too many" in text:
        return RateLimitedError(f"too many sessions ({code})")
    if code == _INVALID and "inactivity" in text:
        return DisconnectedError(f"the session heard nothing of us for too long ({code})")
    return error_for_close(code)
