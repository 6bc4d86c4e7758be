from __future__ import annotations

import pytest


@pytest.fixture
def fast_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """AssemblyAI is trusted to work on audio as fast as it comes; for emulators that are not throttled."""
    monkeypatch.setattr("wyoming_server.backends.assemblyai_conversation._PACE", 1e9)


@pytest.fixture
def impatient_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that the service does not end is given up soon."""
    monkeypatch.setattr("wyoming_server.backends.assemblyai._SESSION_END_TIMEOUT", 0.1)
    monkeypatch.setattr("wyoming_server.backends.sockets._CLOSE_TIMEOUT", 0.1)
