"""One trial: load, things that break, time to heal, and the judgement."""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Sequence

from tests.robustness.cluster import Break, Cluster
from tests.robustness.rounds import TRIALS
from tests.robustness.traffic import Traffic
from tests.support.checker import violations
from tests.support.history import History, TaskHistory

RATE = 300
"""Tasks a second: a load under which two cores still have time for restarts."""
HEAL_SECONDS = 25.0
QUIET_CALLS = 100
"""Submits after the last break, which all find everything whole."""


def run(cluster: Cluster, rng: random.Random, breaks: Sequence[Break]) -> History:
    """Break things in turn under load, each after a random time, and judge what happened.

    Raises:
        AssertionError: A task was lost, ran twice or ended wrongly, or the store is damaged.
    """
    history = asyncio.run(_run(cluster, rng, breaks))
    _check(history, len(breaks), kills=cluster.kills.total())
    return history


async def _run(cluster: Cluster, rng: random.Random, breaks: Sequence[Break]) -> History:
    traffic = Traffic(cluster.sockets, cluster.recorder("submitter"), rng, RATE)
    async with traffic:
        for do_break in breaks:
            await traffic.calls(rng.randrange(10, 250))
            await do_break(traffic)
        await traffic.calls(QUIET_CALLS)
    await traffic.finish(HEAL_SECONDS)
    await asyncio.to_thread(cluster.shut_down)
    assert traffic.watched_ends > 0, "nobody waited for a task while things broke"
    return cluster.read_history()


def _write_down(**numbers: int) -> None:
    """Add a line to the account of a campaign, if there is one."""
    if path := os.environ.get(TRIALS):
        with open(path, "a", encoding="utf-8") as account:
            account.write(json.dumps(numbers) + "\n")


def _check(history: History, breaks: int, kills: int) -> None:
    states = Counter(seen.state for task in history.tasks.values() for seen in task.seen[:1])
    summary = (
        f"{breaks} breaks, {history.accepted} tasks accepted, "
        f"{history.attempts} attempts, {dict(states)}"
    )
    print(summary)  # noqa: T201
    _write_down(breaks=kills or breaks, accepted=history.accepted, attempts=history.attempts)
    found = violations(history)
    found += [text for task in history.tasks.values() if (text := _wrong_end(task))]
    assert not found, "\n".join([f"{summary}: {len(found)} violations", *found[:20]])
    # That it was a trial at all: everything was taken, much was retried, all kinds of ends came.
    assert {verdict for t in history.tasks.values() for verdict in t.verdicts} == {"accepted"}
    assert history.accepted > RATE
    assert history.attempts > history.accepted
    assert states["succeeded"] > history.accepted // 2
    assert states["dead"] > 0


def _wrong_end(task: TaskHistory) -> str | None:
    """Return what is wrong with the end of a task, given what its handler does."""
    if not task.seen:
        return None  # The checker says so.
    state, error = task.seen[0].state, task.seen[0].error
    match task.handler, state:
        case "load.doomed", "dead":
            right = error == "Fatal: never works" or "crashed" in error
        case "load.hopeless", "dead":
            right = "2 attempts used up" in error
        case "load.doomed" | "load.hopeless", "succeeded":
            right = False
        case _, "dead":
            right = "crashed 3 times" in error or "attempts used up" in error
        case _:
            right = state in ("succeeded", "expired")
    return None if right else f"task {task.id} of {task.handler} is {state}: {error}"
