"""Wiring for tests that break things: the seed."""

import os
import random

import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The generator that decides what is submitted and what is broken when.

    ``PILLION_SEED`` repeats an earlier schedule; the seed is printed, and a failure shows it.
    """
    seed = int(os.environ.get("PILLION_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"PILLION_SEED={seed} python -m pytest '{request.node.nodeid}'")  # noqa: T201
    return random.Random(seed)
