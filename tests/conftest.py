"""Wiring for all tests: fixtures and settings only."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import System

# Time limits on single examples would fail on a busy machine; pytest-timeout bounds each test.
settings.register_profile(
    "pillion", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("pillion"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pillion"))

# A shell that runs the suite in the background has it ignore SIGINT, and every process that it
# starts as well: those that shall be interrupted would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def system() -> Iterator[System]:
    """Real processes in a temporary folder; ended after the test."""
    with System() as running:
        yield running
