"""A small Whisper service for spoken commands; runs anywhere and knows nothing of the Wyoming server."""

from modal_whisper.version import __version__

__all__ = ["__version__"]
