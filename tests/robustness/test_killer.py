"""A bounded number of kills; `killer.py` does thousands by hand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_commands_that_are_killed_at_any_moment_lose_repeat_and_leave_nothing():
    """About 15 kills by SIGKILL, SIGTERM, SIGINT and SIGHUP, each command then run to its end."""
    command = [sys.executable, Path(__file__).with_name("killer.py"), "--cases", "10", "--seed", "11"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=380)
    assert result.returncode == 0, result.stdout + result.stderr
    row = next(line for line in result.stdout.splitlines() if line.split()[:1] == ["all"])
    cases, kills, too_late, *wrong = (int(text) for text in re.findall(r"\d+", row))
    assert cases == 10
    assert kills > too_late
    assert set(wrong) == {0}
