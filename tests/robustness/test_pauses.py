"""Processes that stand still and go on: whoever is too late finds that it is, and harms nothing."""

import asyncio
import random

from tests.robustness import trial
from tests.robustness.cluster import Cluster
from tests.robustness.rounds import rounds
from tests.robustness.traffic import Traffic
from tests.robustness.trial import RATE
from tests.support.history import History
from tests.support.processes import System


@rounds("PAUSE", share=1)
def test_sidecar_that_wakes_after_its_session_was_over_overlaps_with_nothing(
    system: System, rng: random.Random, turn: int
) -> None:
    cluster = Cluster(system)

    async def stop_one(_: Traffic) -> None:
        expired = cluster.coordinator.output().count("session_expired")
        cluster.stop_sidecar("one")
        await asyncio.to_thread(
            cluster.coordinator.wait_until,
            lambda: cluster.coordinator.output().count("session_expired") > expired,
            "gives up the sidecar that stands still",
        )
        opened = cluster.coordinator.output().count("session_opened")
        cluster.continue_sidecar("one")
        # Before it is stopped again it must have a session that can end.
        await asyncio.to_thread(
            cluster.coordinator.wait_until,
            lambda: cluster.coordinator.output().count("session_opened") > opened,
            "opens a session for the sidecar that goes on",
        )

    history = trial.run(cluster, rng, [stop_one] * 3)

    assert stopped_under_a_cut(history) > 0, "no attempt outlived the leases of its sidecar"
    assert "leases_lost" in cluster.sidecars["one"].output()


def stopped_under_a_cut(history: History) -> int:
    """Return how many attempts their service stopped while its sidecar stood still."""
    return sum(
        attempt.how in ("Cancelled", "CancelledError")
        and attempt.sidecar == cut.sidecar
        and cut.from_ns < (attempt.ended_ns or 0) < (cut.until_ns or 0)
        for task in history.tasks.values()
        for attempt in task.attempts
        for cut in history.cuts
    )


@rounds("PAUSE", share=1)
def test_coordinator_that_stands_still_for_a_second_costs_no_lease(
    system: System, rng: random.Random, turn: int
) -> None:
    cluster = Cluster(system)

    async def stop(traffic: Traffic) -> None:
        cluster.stop_coordinator()
        await traffic.calls(RATE)  # That takes a second.
        cluster.continue_coordinator()

    trial.run(cluster, rng, [stop] * 2)

    assert "session_expired" not in cluster.coordinator.output()
    assert not any("leases_lost" in sidecar.output() for sidecar in cluster.sidecars.values())


@rounds("PAUSE", share=1)
def test_coordinator_that_wakes_after_all_sessions_were_over_overlaps_with_nothing(
    system: System, rng: random.Random, turn: int
) -> None:
    cluster = Cluster(system)

    async def stop(traffic: Traffic) -> None:
        cluster.stop_coordinator()
        await traffic.calls(3 * RATE)  # That takes longer than the timeout and its margin.
        cluster.continue_coordinator()

    trial.run(cluster, rng, [stop] * 2)

    assert any("leases_lost" in sidecar.output() for sidecar in cluster.sidecars.values())
