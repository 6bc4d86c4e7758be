"""What can go wrong between the integration and the server."""

from __future__ import annotations


class ServerError(Exception):
    """The root: a request to the server gave no usable answer."""


class CannotConnectError(ServerError):
    """The server cannot be reached, or did not answer in time."""


class UnauthorizedError(ServerError):
    """The server refuses the token."""


class TooManyAttemptsError(ServerError):
    """The server heard too many wrong tokens; `retry_after` is in seconds, None where it did not say."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RejectedError(ServerError):
    """The server rejects the request; `code` says why, `setting` which one it is about."""

    def __init__(self, message: str, code: str, setting: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.setting = setting


class UnexpectedAnswerError(ServerError):
    """What answers is not the server, or one that speaks another version of the API."""
