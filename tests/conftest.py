"""What holds for all tests."""

from __future__ import annotations

import hypothesis

# The machine may be busy: no test fails for being slow. The rest is as hypothesis chooses.
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")
