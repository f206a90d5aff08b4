"""From a death to the start of the next attempt: of the handler's process, or of its sidecar.

Supervised with one process, the next attempt waits for Python and the service to start; what of
the time that is, is measured as well. With two, another process takes it. A service that is not
supervised has another process beside it here, too: what starts it again is not Pillion's.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cluster import PROGRAMS, note
from benchmarks.figures import summary_ms
from sidecar import BlockingTask, Client
from sidecar.core.fleet import STEADY_MS
from tests.support.processes import Process, Sidecar, System

SESSION_TIMEOUT_S = 3.0
SECONDS_MAX = 60.0
STARTS = 5
SERVICE = (PROGRAMS / "dying_service.py").read_text()


def run(times: int) -> dict[str, Any]:
    """Measure each kind of death ``times`` times (that of a sidecar a third as often)."""
    supervised = {
        f"supervised_{processes}_{name}": value
        for processes in (1, 2)
        for name, value in summary_ms(_supervised(processes, times)).items()
    }
    unsupervised = summary_ms(_unsupervised(times))
    sidecar = summary_ms(_sidecar_death(max(1, times // 3)))
    return {
        "benchmark": "redelivery",
        "times": times,
        **supervised,
        **{f"service_start_{name}": value for name, value in _service_start_ms().items()},
        **{f"unsupervised_{name}": value for name, value in unsupervised.items()},
        **{f"sidecar_death_{name}": value for name, value in sidecar.items()},
        "session_timeout_ms": SESSION_TIMEOUT_S * 1000,
    }


def _supervised(processes: int, times: int) -> list[float]:
    """Return how long redelivery takes, each time after a first death."""
    note(f"redelivery: {processes} supervised processes, {times} deaths")
    with System() as system:
        script = system.folder / "service.py"
        script.write_text(SERVICE)
        command = (sys.executable, str(script), str(system.folder))
        beside = system.sidecar(
            *("bench", system.coordinator(), "--processes", str(processes)),
            *("--log-level", "error", "--", *command),
        )
        with Client(beside.socket_path) as client:
            gaps = []
            for number in range(times):
                # Deaths in quick succession are followed by a wait, and rightly so.
                age_ms = STEADY_MS if processes == 1 and number else 0
                beside.wait_until(
                    lambda: _ages(client, processes) >= age_ms,  # noqa: B023 (waited for at once)
                    "is steady",
                    SECONDS_MAX,
                )
                gaps.append(_gap_ms(system.folder, client, number))
    return gaps


def _ages(client: Client, processes: int) -> int:
    """Return the age of the youngest process, or -1 while not all serve."""
    facts = client.inspect()
    if facts["services"] != processes:
        return -1
    return min(int(own.get("age_ms", -1)) for own in json.loads(str(facts["processes"])))


def _unsupervised(times: int) -> list[float]:
    """Return how long it takes until the other of two processes has the task."""
    note(f"redelivery: 2 unsupervised processes, {times} deaths")
    with System() as system:
        beside = system.sidecar("bench", system.coordinator(), "--log-level", "error")
        both = [_service(system, beside, f"service-{n}") for n in range(2)]
        with Client(beside.socket_path) as client:
            gaps = []
            for number in range(times):
                for one in both:
                    if not one.running:
                        one.start()
                    one.end_expected = True
                _wait_for_services(beside, client, 2)
                gaps.append(_gap_ms(system.folder, client, number))
    return gaps


def _sidecar_death(times: int) -> list[float]:
    """Return how long it takes until a task of a killed sidecar runs beside another one."""
    note(f"redelivery: {times} sidecars killed, session timeout {SESSION_TIMEOUT_S:g} s")
    gaps = []
    for number in range(times):
        with System() as system:
            coordinator = system.coordinator("--session-timeout", f"{SESSION_TIMEOUT_S:g}s")
            first = system.sidecar("bench", coordinator, "--log-level", "error", name="first")
            service = _service(system, first, "service-1")
            with Client(first.socket_path) as client:
                _wait_for_services(first, client, 1)
                client.submit("bench.held", {"number": number})
                _wait_for(first, system.folder / f"held-{number}")
            second = system.sidecar("bench", coordinator, "--log-level", "error", name="second")
            _service(system, second, "service-2")
            with Client(second.socket_path) as client:
                _wait_for_services(second, client, 1)
            died_ns = time.monotonic_ns()
            first.kill()
            service.kill()
            again_ns = _wait_for(second, system.folder / f"again-{number}")
            gaps.append((again_ns - died_ns) / 1e6)
    return gaps


def _service(system: System, beside: Sidecar, name: str) -> Process:
    return system.service(name, beside, SERVICE, str(system.folder))


def _wait_for_services(beside: Sidecar, client: Client, count: int) -> None:
    beside.wait_until(
        lambda: client.inspect()["services"] == count, f"has {count} services", SECONDS_MAX
    )


def _gap_ms(folder: Path, client: Client, number: int) -> float:
    task: BlockingTask[None] = client.submit("bench.dies", {"number": number})
    task.result(SECONDS_MAX)
    died, again = (int((folder / f"{name}-{number}").read_text()) for name in ("died", "again"))
    return (again - died) / 1e6


def _wait_for(process: Process, path: Path) -> int:
    process.wait_until(path.exists, f"wrote {path.name}", SECONDS_MAX)
    return int(path.read_text())


def _service_start_ms() -> dict[str, float]:
    """Return what parts of a start take: Python alone, and Python with the SDK and its loop.

    The CPU time tells how much of it is other work of this machine.
    """
    programs = {
        "python_ms": "pass",
        "python_and_sdk_ms": (
            "from sidecar import Service; from sidecar.sdk.loops import new_event_loop; "
            "new_event_loop()"
        ),
    }
    found = {}
    for name, text in programs.items():
        taken = [_program_ms(text) for _ in range(STARTS)]
        found[name] = round(statistics.median(wall for wall, _ in taken), 1)
        found[f"{name[:-3]}_cpu_ms"] = round(statistics.median(cpu for _, cpu in taken), 1)
    return found


def _program_ms(text: str) -> tuple[float, float]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    began, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-c", text], check=True, env=environment)
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return (time.perf_counter() - began) * 1e3, cpu * 1e3
