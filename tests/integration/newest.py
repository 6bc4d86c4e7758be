"""A pytest plugin: lets the test plugin, which is made for Home Assistant 2026.10, run with 2026.11.

It has to be loaded before all others, by `-p newest`: Home Assistant 2026.11 takes the place of httpx,
which must happen before anybody has imported that.
"""

from __future__ import annotations

from homeassistant.components import logger
from homeassistant.components.logger import helpers

# The plugin uses it by its old place.
vars(logger)["_clear_logger_overwrites"] = helpers._clear_logger_overwrites
