"""From the submitting call to the handler's start, for one submitter that waits each time."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks import limits
from benchmarks.cluster import Cluster, note
from benchmarks.figures import summary_ms

CONCURRENCY = 16
_STAMP = 16


def run(rate: int, seconds: int) -> dict[str, Any]:
    """Measure at a steady rate of tasks per second."""
    with Cluster(concurrency=CONCURRENCY, stamps=True) as cluster:
        note(f"latency: {rate} tasks/s for {seconds} s")
        accepted = cluster.run("paced_submitter", str(rate), str(seconds), seconds=seconds + 60)
        starts = starts_ms(cluster.stamps)
    with tempfile.TemporaryDirectory() as folder:
        fsync = limits.fsync_ms(Path(folder))
    expected = rate * seconds
    if len(starts) != expected:
        raise AssertionError(f"{len(starts)} of {expected} tasks began")
    result = summary_ms(starts)
    return {
        "benchmark": "latency",
        "tasks": len(starts),
        "rate_per_second": rate,
        **{f"start_{name}": value for name, value in result.items()},
        **{f"accepted_{name}": value for name, value in accepted.items()},
        "fsync_p50_ms": round(fsync, 3),
        "start_p50_in_fsyncs": round(result["p50_ms"] / fsync, 1),
    }


def starts_ms(file: Path) -> list[float]:
    """Return the time from the clock in each payload to the handler's start."""
    data = file.read_bytes()
    times = []
    for i in range(0, len(data), _STAMP):
        began = int.from_bytes(data[i : i + 8], "big")
        told = int.from_bytes(data[i + 8 : i + _STAMP], "big")
        times.append((began - told) / 1e6)
    return times
