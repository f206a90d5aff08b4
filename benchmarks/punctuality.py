"""How late delayed tasks begin: due times spread over some seconds, milliseconds apart."""

from typing import Any

from benchmarks.cluster import Cluster, note
from benchmarks.figures import summary_ms
from benchmarks.latency import starts_ms

CONCURRENCY = 16
SPREAD_SECONDS = 10


def run(tasks: int) -> dict[str, Any]:
    """Measure with ``tasks`` due times, evenly spread over ten seconds."""
    with Cluster(concurrency=CONCURRENCY, stamps=True) as cluster:
        note(f"punctuality: {tasks} delayed tasks over {SPREAD_SECONDS} s")
        cluster.run("delaying_submitter", str(tasks), str(SPREAD_SECONDS), seconds=90)
        late_ms = starts_ms(cluster.stamps)
    if len(late_ms) != tasks:
        raise AssertionError(f"{len(late_ms)} of {tasks} tasks began")
    early = sum(late < -1 for late in late_ms)
    if early:
        raise AssertionError(f"{early} tasks began before they were due")
    return {
        "benchmark": "punctuality",
        "tasks": tasks,
        "spread_seconds": SPREAD_SECONDS,
        **{f"late_{name}": value for name, value in summary_ms(late_ms).items()},
    }
