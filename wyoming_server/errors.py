"""The server's branch of the exception tree. Callers decide by class, never by text."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from modal_whisper.errors import SttError

if TYPE_CHECKING:
    from collections.abc import Mapping


class SettingsError(SttError):
    """A setting has a value that it does not take; the text names both."""


class UnavailableError(SettingsError):
    """What a setting names is right but cannot be had at present: an address, a port, a file in use."""


class ClientError(SttError):
    """A Wyoming client sent something that cannot be served; it is told in an error event."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class FramingError(ClientError):
    """The bytes of a connection can no longer be cut into events, so it must be closed."""

    def __init__(self, message: str) -> None:
        super().__init__("bad-framing", message)


class BackendError(SttError):
    """A backend gave no final for this utterance; the next one may."""

    code: ClassVar[str] = "backend-failed"
    """What a Wyoming error event carries."""


class UnreachableError(BackendError):
    """No connection: name, route, TLS, a refused or an unanswered handshake."""

    code = "unreachable"


class SignInRefusedError(BackendError):
    """The key is wrong, expired or without funds: nothing helps until the settings change."""

    code = "sign-in-refused"


class RateLimitedError(BackendError):
    """Too many sessions or requests."""

    code = "rate-limited"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the service asked us to wait; None where it did not say."""


class OverloadedError(BackendError):
    """The service says that the fault is on its side."""

    code = "overloaded"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the service asked us to wait; None where it did not say."""


class RejectedError(BackendError):
    """The service does not take what was sent; sending it again will not help."""

    code = "rejected"


class DisconnectedError(BackendError):
    """The connection ended before the final."""

    code = "disconnected"


class OverdueError(BackendError):
    """Connected, but the final did not come in time."""

    code = "overdue"


class NotReadyError(BackendError):
    """The backend cannot work yet or at all on this machine, such as a model that cannot be loaded."""

    code = "not-ready"


class NoWordsError(BackendError):
    """An empty final although somebody was heard speaking."""

    code = "no-words"


class InternalError(BackendError):
    """A defect of ours inside a backend, contained so that the next one can answer."""

    code = "internal"


class AllFailedError(BackendError):
    """Every backend that could be asked has failed."""

    code = "all-backends-failed"

    def __init__(self, causes: Mapping[str, BackendError]) -> None:
        reasons = "; ".join(f"{name}: {error}" for name, error in causes.items())
        super().__init__(f"no backend could answer ({reasons or 'none is configured for this request'})")
        self.causes = causes


class DeadlineError(BackendError):
    """Nobody answered by the deadline."""

    code = "deadline"
