"""A coordinator, a sidecar and a service as real processes, for as long as one benchmark takes."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import cpu_seconds
from tests.support.filled_store import fill
from tests.support.processes import System

PROGRAMS = Path(__file__).parent / "programs"


class Cluster:
    """The usual three processes; a context manager that ends them."""

    def __init__(
        self, *, concurrency: int, stamps: bool = False, push: bool = False, stored: int = 0
    ) -> None:
        self._system = System()
        self.folder = self._system.folder
        self.stamps = self.folder / "stamps"
        self.coordinator = self._system.coordinator("--log-level", "warning", start=False)
        if stored:
            asyncio.run(fill(self.coordinator.data_folder, stored, time.time_ns() // 1_000_000))
        self.coordinator.start()
        self.app = self.folder / "app.sock"
        if push:
            config = self.folder / "sidecar.toml"
            config.write_text(f"[handlers.noop]\ntransport = 'push'\nslots = {concurrency}\n")
            options = ["--config", str(config), "--app", str(self.app)]
            self._start_sidecar(*options)
            source = (PROGRAMS / "http_peer.py").read_text()
            self.service = self._system.service("peer", self.sidecar, source, str(self.app))
            return
        self._start_sidecar()
        arguments = [str(concurrency), *([str(self.stamps)] if stamps else [])]
        source = (PROGRAMS / "noop_service.py").read_text()
        self.service = self._system.service("noop", self.sidecar, source, *arguments)

    def _start_sidecar(self, *options: str) -> None:
        level = ("--log-level", "warning")
        self.sidecar = self._system.sidecar("bench", self.coordinator, *level, *options)

    def __enter__(self) -> "Cluster":
        self._system.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._system.__exit__(*details)

    def run(self, program: str, *arguments: str, seconds: float) -> dict[str, Any]:
        """Run a program to its end and return the JSON it printed last."""
        source = (PROGRAMS / f"{program}.py").read_text()
        process = self._system.service(program, self.sidecar, source, *arguments, start=False)
        process.end_expected = True
        process.start(wait=False)
        code = process.wait(seconds)
        if code:
            raise process.failure(f"ended with {code}")
        printed: dict[str, Any] = json.loads(process.output().strip().splitlines()[-1])
        return printed

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each process so far."""
        processes = (self.coordinator, self.sidecar, self.service)
        return {process.name: cpu_seconds(process.pid) for process in processes}


def note(text: str) -> None:
    """Tell the person who waits what is going on; results go to stdout only."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
