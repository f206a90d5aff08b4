"""Links that break, or work in one direction only, under load: nothing is lost, or runs twice.

The sidecars and their services run all the time, so that nothing excuses two attempts at once.
"""

import asyncio
import random

import pytest

from tests.robustness import trial
from tests.robustness.cluster import Cluster
from tests.robustness.rounds import rounds
from tests.robustness.traffic import Traffic
from tests.robustness.trial import RATE
from tests.support.processes import System

BREAKS = 6


@rounds("LINK", share=1)
def test_links_that_are_cut_lose_nothing(system: System, rng: random.Random, turn: int) -> None:
    cluster = Cluster(system)

    async def cut(_: Traffic) -> None:
        link = cluster.links[rng.choice(sorted(cluster.links))]
        before = link.connections
        link.cut()
        await asyncio.to_thread(
            cluster.coordinator.wait_until, lambda: link.connections > before, "is found again"
        )

    trial.run(cluster, rng, [cut] * BREAKS)


@pytest.mark.timeout(90)
@rounds("LINK", share=1)
def test_links_that_are_blocked_one_way_or_both_lose_nothing(
    system: System, rng: random.Random, turn: int
) -> None:
    cluster = Cluster(system)

    async def block(traffic: Traffic) -> None:
        link = cluster.links[rng.choice(sorted(cluster.links))]
        up, down = rng.choice([(True, False), (False, True), (True, True)])
        link.block(up=up, down=down)
        await traffic.calls(rng.randrange(RATE // 2, 4 * RATE))  # Some outlast the session.
        if rng.random() < 0.3:
            link.cut()
        link.mend()

    trial.run(cluster, rng, [block] * BREAKS)
