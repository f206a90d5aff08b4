"""Submitting over HTTP, one task in a request: how fast, and what it costs."""

from typing import Any

from benchmarks.cluster import Cluster

HANDLER = "bench.unserved"


def run(tasks: int, connections: int) -> dict[str, Any]:
    """Submit tasks over so many connections, each waiting for its answer before the next."""
    with Cluster(concurrency=1) as cluster:
        cluster.run("http_submit", str(tasks // 10), str(connections), HANDLER, seconds=60)
        before = cluster.cpu_seconds()
        figures = cluster.run("http_submit", str(tasks), str(connections), HANDLER, seconds=300)
        after = cluster.cpu_seconds()
    cpu_us = {name: round((after[name] - before[name]) / tasks * 1e6, 1) for name in after}
    return {"tasks": tasks, "connections": connections, **figures, "cpu_us_per_task": cpu_us}
