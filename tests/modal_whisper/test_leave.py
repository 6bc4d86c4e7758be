from __future__ import annotations

import os
import subprocess
import sys

from tests.fakes import PATIENCE

BUSY = """
import logging.handlers, sys, threading
threading.Thread(target=threading.Event().wait).start()
logging.getLogger().addHandler(logging.handlers.MemoryHandler(100, target=logging.StreamHandler()))
from modal_whisper.leave import leave
print("what was said")
logging.warning("what was logged")
leave(3)
"""
"""A process with a thread that never ends, and with output that is still on its way."""
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def test_the_process_ends_with_its_code_and_its_output_although_a_thread_is_busy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUSY],
        env=BUFFERED,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "what was said\n", "what was logged\n")


def test_it_ends_although_nobody_reads_its_output() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-c", BUSY],
            env=BUFFERED,
            stdout=write,
            stderr=write,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(write)
    assert done.returncode == 3
