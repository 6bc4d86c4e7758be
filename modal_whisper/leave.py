"""The end of a process whose threads may still be busy."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End the process now.

    An ordinary exit waits for a model that is being loaded or run on a thread, which can take minutes.
    """
    logging.shutdown()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed before the start
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
