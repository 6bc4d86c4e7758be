"""The root of the one exception tree, and the worker's own branch of it."""

_LONGEST_REASON = 200


class SttError(Exception):
    """Anything that this project raises on purpose; the text is fit to be shown to a user."""


class MessageError(SttError):
    """A peer sent something that the /ws/stt protocol does not allow."""


class TranscriptionError(SttError):
    """The worker could not turn the audio into words."""


class ModelUnavailableError(TranscriptionError):
    """The model could not be fetched or loaded; the text says what to do."""


class OverloadedError(TranscriptionError):
    """More is asked of the model than it can answer in time."""


def first_line(error: object) -> str:
    """What somebody else's error says first, at most 200 characters of it; its type where it is mute."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_LONGEST_REASON]
