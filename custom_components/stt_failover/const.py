"""What several modules of the integration share."""

from __future__ import annotations

import logging
from typing import Final

DOMAIN: Final = "stt_failover"
LOGGER: Final = logging.getLogger(__package__)

DEFAULT_PORT: Final = 10380
"""Where the server's API listens unless it is told otherwise."""

WYOMING_PORT: Final = 10300
"""Where Wyoming clients connect: a port that is easily mistaken for that of the API."""

MIN_SERVER_VERSION: Final = "0.1.0"
"""The oldest server whose API this integration understands."""

BACKENDS: Final = ("assemblyai", "assemblyai_sync", "whisper", "local")
"""Every backend of the server, by the name that its API uses."""

BACKEND_NAMES: Final = {
    "assemblyai": "AssemblyAI",
    "assemblyai_sync": "AssemblyAI Sync",
    "whisper": "Whisper worker",
    "local": "Whisper local",
}
"""What the backends are called where a person reads it."""

STRATEGIES: Final = ("failover", "hedge", "race")

CONF_SEND_NAMES: Final = "send_names"
"""The one option that Home Assistant keeps: whether the names of what is exposed go with an utterance."""

TITLE: Final = "STT Failover"
"""What a server is called until a person names it."""
