"""What a backup costs a coordinator under full load: turns with one and without, in one run."""

import json
import statistics
import subprocess
import sys
import threading
from typing import Any

from benchmarks.cluster import Cluster, note
from tests.support.process import ROOT

CONCURRENCY = 256
BATCH, PAYLOAD_BYTES = "500", "100"


def run(tasks: int, stored: int, turns: int, rate: str) -> dict[str, Any]:
    """Measure; in turns with a backup, one follows the other until the turn is over.

    The copy and its verification count, and both take a part of the same processors as the load.
    """
    stored = -(-stored // 200) * 200
    note(f"saving: writing {stored} tasks")
    plain: list[float] = []
    saving: list[float] = []
    backups: list[dict[str, Any]] = []
    with Cluster(concurrency=CONCURRENCY, stored=stored) as cluster:
        _turn(cluster, tasks // 4)
        for turn in range(turns):
            note(f"saving: turn {turn + 1} of {turns}")
            plain.append(_turn(cluster, tasks))
            saver = _Saver(cluster, rate)
            saver.start()
            saving.append(_turn(cluster, tasks))
            saver.over.set()
            saver.join()
            backups += saver.backups
        plain.append(_turn(cluster, tasks))
    before, during = statistics.median(plain), statistics.median(saving)
    return {
        "benchmark": "saving",
        "stored_tasks": stored,
        "tasks_per_turn": tasks,
        "tasks_per_second": round(before),
        "tasks_per_second_during_backups": round(during),
        "cost_percent": round((1 - during / before) * 100, 1),
        "all_turns": {"plain": [round(x) for x in plain], "saving": [round(x) for x in saving]},
        "backups": len(backups),
        "backup_mib": round(statistics.median(b["bytes"] for b in backups) / 2**20, 1),
        "copy_seconds": statistics.median(b["copy_seconds"] for b in backups),
        "backup_seconds": statistics.median(b["seconds"] for b in backups),
    }


def _turn(cluster: Cluster, tasks: int) -> float:
    result = cluster.run("submitter", str(tasks), BATCH, PAYLOAD_BYTES, seconds=60 + tasks / 1000)
    return float(tasks / result["seconds"])


class _Saver(threading.Thread):
    """Makes one backup after the other."""

    def __init__(self, cluster: Cluster, rate: str) -> None:
        super().__init__()
        self.over = threading.Event()
        self.backups: list[dict[str, Any]] = []
        file = cluster.folder / "saved.mdb"
        folder = cluster.coordinator.data_folder
        self._command = [sys.executable, "-m", "coordinator", "backup", str(file), "--replace"]
        self._command += ["--data-dir", str(folder), "-o", "json"]
        self._command += ["--rate", rate] if rate else []

    def run(self) -> None:
        """Go on until the turn is over."""
        while not self.over.is_set():
            done = subprocess.run(self._command, cwd=ROOT, check=True, capture_output=True)
            self.backups.append(json.loads(done.stdout))
