from __future__ import annotations

import pytest

from modal_whisper.errors import SttError
from wyoming_server import errors
from wyoming_server.errors import (
    AllFailedError,
    BackendError,
    ClientError,
    FramingError,
    NoWordsError,
    RateLimitedError,
    UnreachableError,
)

BACKEND_ERRORS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, BackendError) and value is not BackendError
]


def test_everything_raised_on_purpose_has_one_root() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and value.__module__ == errors.__name__
    ]
    assert len(classes) > 12
    assert all(issubclass(item, SttError) for item in classes)


def test_the_codes_that_clients_see_are_told_apart_and_stay_as_they_are() -> None:
    assert sorted(item.code for item in BACKEND_ERRORS) == [
        "all-backends-failed",
        "deadline",
        "disconnected",
        "internal",
        "no-words",
        "not-ready",
        "overdue",
        "overloaded",
        "rate-limited",
        "rejected",
        "sign-in-refused",
        "unreachable",
    ]


def test_an_error_of_a_client_has_a_code_and_a_text() -> None:
    error = ClientError("no-audio", "the utterance holds no audio")
    assert (error.code, str(error)) == ("no-audio", "the utterance holds no audio")
    framing = FramingError("an event must be JSON")
    assert (framing.code, str(framing)) == ("bad-framing", "an event must be JSON")
    assert isinstance(framing, ClientError)


@pytest.mark.parametrize("seconds", [None, 0.0, 2.5])
def test_a_rate_limit_says_how_long_to_wait(seconds: float | None) -> None:
    error = RateLimitedError("too many requests", seconds)
    assert error.retry_after == seconds
    assert str(error) == "too many requests"
    assert RateLimitedError("too many requests").retry_after is None


def test_the_end_of_all_names_every_cause_in_the_order_of_asking() -> None:
    causes = {"assemblyai": UnreachableError("no route"), "local": NoWordsError("no words")}
    error = AllFailedError(causes)
    assert str(error) == "no backend could answer (assemblyai: no route; local: no words)"
    assert error.causes == causes
    assert str(AllFailedError({})) == "no backend could answer (none is configured for this request)"
