"""The soak runs, counts and says what it found. How much memory an agent has is not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not beside the tests")


def test_growth_is_that_after_the_warm_up():
    """What is taken while warming up is not counted; the slope is per round."""
    from benchmarks.soak import report, slope

    found = report([100, 900, *range(1000, 1100, 10)], 2, {})

    assert (found["warm_kib"], found["end_kib"], found["growth_percent"]) == (1010, 1080, 6.93)
    assert slope([3.0, 5.0, 7.0]) == 2.0
    assert slope([3.0]) == 0.0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_a_short_day(tmp_path):
    """Two rounds with a real agent: everything was done, and the containers were counted."""
    command = [sys.executable, "-m", "benchmarks.soak", "--rounds", "2", "--conversations", "40", "--count"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)

    assert len(found["rss_kib"]) == found["rounds"] == 2
    assert all(found["did"].values())
    assert "grew" in found
