"""The systemd unit, as far as a file can be wrong; systemd-analyze says more where there is a systemd."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

from tests.app.supervisor import SERVICES
from tests.processes import SERVER

UNIT = Path(__file__).parents[2] / "docs" / "systemd" / "stt-failover.service"


def test_a_wrong_setting_is_final_and_all_else_is_tried_again_for_ever() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(UNIT)
    done = subprocess.run(
        [SERVER, "--uri", "nonsense"], capture_output=True, text=True, timeout=60, check=False
    )
    assert unit["Service"]["RestartPreventExitStatus"] == str(done.returncode) == "2"
    assert unit["Service"]["Restart"] == "always"
    # systemd gives up after five starts within ten seconds.
    assert int(unit["Service"]["RestartSec"]) * 4 > 10
    (in_app,) = re.findall(
        r"^readonly wrong_setting=(\d+)$", (SERVICES / "stt-failover" / "finish").read_text(), re.MULTILINE
    )
    assert in_app == str(done.returncode)
