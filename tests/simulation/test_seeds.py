"""The simulator's share of the test suite; the campaign is ``python -m tests.simulation``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import campaign
from tests.simulation.simulation import STEPS, run_seed

SHARE = range(100_000, 100_500)
"""Seeds of every run of the suite: enough to reach every point."""
JOBS = min(2, os.cpu_count() or 1)


def found() -> list[int]:
    """Return the seeds that have found something."""
    lines = Path(__file__).with_name("seeds.txt").read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def check(seed: int) -> None:
    world, failure = run_seed(seed)
    assert failure is None, "\n" + campaign.finding(seed, STEPS, world, failure).story


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", found())
def test_what_a_seed_has_found_stays_mended(seed: int) -> None:
    check(seed)


@pytest.mark.share
@pytest.mark.timeout(600)
def test_no_seed_breaks_a_promise_and_together_they_reach_every_point() -> None:
    report = campaign.run(SHARE, STEPS, jobs=JOBS)

    assert [finding.story for finding in report.findings] == []
    assert report.seeds == len(SHARE)
    assert report.never() == []


def test_a_seed_is_the_same_run_in_every_process() -> None:
    traces = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "7", "--steps", "20"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        )
        traces.append(done.stdout.splitlines()[0])
    assert "trace" in traces[0]
    assert traces[0] == traces[1]
