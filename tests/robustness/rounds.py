"""How often each trial is made: CI's share by default, more for ``python -m tests.chaos``.

PILLION_KILL_ROUNDS, PILLION_PAUSE_ROUNDS, PILLION_LINK_ROUNDS
"""

import os

import pytest

KILLS_PER_ROUND = 3 * 10 + 3 * 5 + 2 * 3
PAUSES_PER_ROUND = 3 + 2 + 2
LINKS_PER_ROUND = 6 + 6
TRIALS = "PILLION_TRIALS"
"""Names the file to which each trial adds a line of what it has broken and what went on."""


def rounds(kind: str, share: int) -> pytest.MarkDecorator:
    """Have a trial made as often as the environment says, or as is CI's share."""
    count = int(os.environ.get(f"PILLION_{kind}_ROUNDS", str(share)))
    return pytest.mark.parametrize("turn", range(1, count + 1))
