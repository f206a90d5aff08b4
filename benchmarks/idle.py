"""CPU time of a coordinator and a sidecar with a session and nothing to do."""

import time
from typing import Any

from benchmarks.cluster import Cluster, note

CONCURRENCY = 16


def run(seconds: int) -> dict[str, Any]:
    """Measure for so long, after one task has passed through."""
    with Cluster(concurrency=CONCURRENCY) as cluster:
        cluster.run("submitter", "1", "1", "8", seconds=60)
        note(f"idle: {seconds} s")
        before = cluster.cpu_seconds()
        time.sleep(seconds)
        used = {name: now - before[name] for name, now in cluster.cpu_seconds().items()}
    both = used["coordinator"] + used["sidecar-bench"]
    return {
        "benchmark": "idle",
        "seconds": seconds,
        "cpu_seconds_per_minute": {n: round(u / seconds * 60, 3) for n, u in used.items()},
        "coordinator_and_sidecar_cpu_seconds_per_minute": round(both / seconds * 60, 3),
    }
