from __future__ import annotations

from typing import Any

import pytest

from wyoming_server.backends.assemblyai_errors import error_for_close, error_for_message
from wyoming_server.errors import (
    BackendError,
    DisconnectedError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    SignInRefusedError,
)

CODES: dict[int, type[BackendError]] = {
    1000: DisconnectedError,
    1001: DisconnectedError,
    1006: DisconnectedError,
    1008: SignInRefusedError,
    1009: RejectedError,
    1011: OverloadedError,
    1013: OverloadedError,
    3005: OverloadedError,
    3006: RejectedError,
    3007: RejectedError,
    3008: DisconnectedError,
    3009: RateLimitedError,
    4001: SignInRefusedError,
    4002: SignInRefusedError,
    4003: SignInRefusedError,
    4008: DisconnectedError,
    4029: RateLimitedError,
    4031: DisconnectedError,
    4102: RateLimitedError,
    4999: DisconnectedError,
}

MESSAGES: list[tuple[int, str, type[BackendError]]] = [
    (1008, "Unauthorized Connection: Missing Authorization header", SignInRefusedError),
    (1008, "Unauthorized Connection: Invalid API key", SignInRefusedError),
    (1008, "Unauthorized Connection: Signature has expired", SignInRefusedError),
    (1008, "Unauthorized Connection: Insufficient funds", SignInRefusedError),
    (1008, "Unauthorized Connection: Too many concurrent sessions", RateLimitedError),
    (1011, "Internal error", OverloadedError),
    (3005, "Session Cancelled: An error occurred", OverloadedError),
    (3006, "User Input Validation Error: Invalid JSON: Expecting value", RejectedError),
    (3006, "User Input Validation Error: Invalid Message Type: Bogus", RejectedError),
    (
        3006,
        "User Input Validation Error: prompt exceeds maximum length of 1750 characters (got 1751)",
        RejectedError,
    ),
    (3006, "Session terminated due to inactivity: No messages received for 5 seconds", DisconnectedError),
    (3007, "Input Duration Error: Input Duration Violation: 20.0 ms. Expected 50 to 1000 ms", RejectedError),
    (3007, "Audio Transmission Rate Exceeded: Received 400 sec. audio in 3 sec", RejectedError),
    (3008, "Session expired: maximum session duration exceeded", DisconnectedError),
    (3009, "Too many concurrent sessions", RateLimitedError),
]


@pytest.mark.parametrize(("code", "kind"), CODES.items())
def test_every_close_code_has_its_error(code: int, kind: type[BackendError]) -> None:
    error = error_for_close(code)
    assert type(error) is kind
    assert f"({code})" in str(error)


def test_an_end_without_a_close_code_is_a_dropped_connection() -> None:
    assert type(error_for_close(None)) is DisconnectedError
    assert str(error_for_close(None)) == str(error_for_close(1006))


@pytest.mark.parametrize(("code", "text", "kind"), MESSAGES)
def test_every_error_message_has_its_error(code: int, text: str, kind: type[BackendError]) -> None:
    error = error_for_message({"type": "Error", "error_code": code, "error": text})
    assert type(error) is kind
    assert f"({code})" in str(error)


def test_the_text_of_a_stranger_is_passed_on_to_nobody() -> None:
    error = error_for_message({"type": "Error", "error_code": 1008, "error": "Invalid API key good-key"})
    assert "good-key" not in str(error)


@pytest.mark.parametrize(
    "message", [{"error": "oops"}, {"type": "Error"}, {"error_code": "1008"}, {"error_code": None}]
)
def test_an_error_message_without_a_code_is_an_end_of_the_session(message: dict[str, Any]) -> None:
    error = error_for_message(message)
    assert type(error) is DisconnectedError
    assert "an error of its own" in str(error)


@pytest.mark.parametrize("text", [None, 17, {"why": "?"}])
def test_an_error_message_without_a_text_goes_by_its_code(text: Any) -> None:
    assert type(error_for_message({"error_code": 3006, "error": text})) is RejectedError


def test_a_rejected_session_says_which_settings_to_check() -> None:
    assert "ASSEMBLYAI_MODEL" in str(error_for_close(3006))
