"""``kill -9`` under load, at moments that a seed decides: nothing is lost, nothing runs twice.

    PILLION_SEED=17 python -m pytest tests/robustness/test_kills.py

repeats a schedule: which process is killed after how many more submits, and what is submitted.
What the operating system does in between it does not repeat.
"""

import random

import pytest

from tests.robustness import trial
from tests.robustness.cluster import Cluster
from tests.robustness.rounds import rounds
from tests.support.processes import System

pytestmark = [pytest.mark.share, pytest.mark.timeout(180)]
KILLS = 10
CI_ROUNDS = 2
"""Of 51 kills each: CI's share is 100."""


@rounds("KILL", share=CI_ROUNDS)
@pytest.mark.parametrize("victim", ["coordinator", "sidecar", "service"])
def test_kill_under_load_loses_nothing_and_runs_nothing_twice_at_once(
    system: System, rng: random.Random, victim: str, turn: int
) -> None:
    cluster = Cluster(system)

    trial.run(cluster, rng, [cluster.killer(victim, rng)] * KILLS)

    assert cluster.kills == {victim: KILLS}


@rounds("KILL", share=CI_ROUNDS)
def test_kills_of_anything_lose_nothing_and_run_nothing_twice_at_once(
    system: System, rng: random.Random, turn: int
) -> None:
    cluster = Cluster(system)
    victims = ["coordinator", "sidecar", "service"] * 5
    rng.shuffle(victims)

    trial.run(cluster, rng, [cluster.killer(victim, rng) for victim in victims])

    assert cluster.kills == {"coordinator": 5, "sidecar": 5, "service": 5}


@rounds("KILL", share=CI_ROUNDS)
def test_coordinator_and_sidecar_killed_together_lose_nothing(
    system: System, rng: random.Random, turn: int
) -> None:
    """Nobody is left who remembers the session but the store."""
    cluster = Cluster(system)

    trial.run(cluster, rng, [cluster.kill_coordinator_and_sidecar] * 3)
