"""Percentiles, CPU seconds and memory: the figures that all benchmarks print."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def summary_ms(values_ms: Sequence[float]) -> dict[str, float]:
    """Return the usual percentiles, in milliseconds."""
    return {
        "p50_ms": round(percentile(values_ms, 50), 3),
        "p95_ms": round(percentile(values_ms, 95), 3),
        "p99_ms": round(percentile(values_ms, 99), 3),
        "max_ms": round(max(values_ms), 3),
    }


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_SECONDS


@dataclass(frozen=True)
class Memory:
    """Memory of a process in bytes."""

    anonymous: int
    """Its own; pages of the store's file, which the system may take back, are not in it."""
    resident: int


def memory(pid: int) -> Memory:
    """Return the memory of a process."""
    kib = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("RssAnon", "VmRSS"):
            kib[name] = int(rest.split()[0])
    return Memory(kib["RssAnon"] * 1024, kib["VmRSS"] * 1024)
