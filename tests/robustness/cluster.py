"""The processes under load, and the ways to break them, each written into the history."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.coordinator.core.audit import Audit
from tests.robustness import stored
from tests.robustness.link import Link
from tests.robustness.traffic import Traffic
from tests.support import history
from tests.support.history import Recorder
from tests.support.processes import Coordinator, Process, Sidecar, System

SESSION_TIMEOUT_MS = 2_000
PROGRAM = Path(__file__).with_name("handlers.py").read_text()
SERVICES = {"a": "one", "b": "two", "c": "one"}
"""Each of the service's processes and its sidecar."""

Break = Callable[[Traffic], Awaitable[None]]
"""Breaks something, and has it go on; the load goes on meanwhile."""


class Cluster:
    """A coordinator, two sidecars and three processes of one service.

    Each sidecar has a link of its own to the coordinator. What takes its time runs in a thread, so
    that the load goes on meanwhile.
    """

    def __init__(self, system: System) -> None:
        self.folder = system.folder / "history"
        self.folder.mkdir()
        self._recorder = self.recorder("breaker")
        self.coordinator: Coordinator = system.coordinator(
            "--session-timeout", f"{SESSION_TIMEOUT_MS}ms"
        )
        names = sorted(set(SERVICES.values()))
        self.links = {name: Link(self.coordinator.address) for name in names}
        self.sidecars: dict[str, Sidecar] = {
            name: system.sidecar("load", self.links[name].address, "--name", name, name=name)
            for name in names
        }
        self.services: dict[str, Process] = {
            name: system.service(
                name, self.sidecars[sidecar], PROGRAM, str(self.folder), name, sidecar
            )
            for name, sidecar in SERVICES.items()
        }
        self.kills: Counter[str] = Counter()

    @property
    def sockets(self) -> list[Path]:
        """Where to submit."""
        return [sidecar.socket_path for sidecar in self.sidecars.values()]

    def recorder(self, writer: str) -> Recorder:
        """Return a recorder for what one part of the test sees."""
        return Recorder(self.folder, writer)

    def read_history(self) -> history.History:
        """Return what has happened."""
        return history.read(self.folder)

    # Kill, and start again

    def killer(self, victim: str, rng: random.Random) -> Break:
        """Return what kills a process of one kind: ``coordinator``, ``sidecar``, ``service``."""

        async def kill(_: Traffic) -> None:
            match victim:
                case "coordinator":
                    await self.kill_coordinator()
                case "sidecar":
                    await self.kill_sidecar(rng.choice(sorted(self.sidecars)))
                case _:
                    await self.kill_service(rng.choice(sorted(self.services)))

        return kill

    async def kill_coordinator(self) -> None:
        """Kill the coordinator, look at what it leaves, and start it again."""
        self.kills["coordinator"] += 1
        await asyncio.to_thread(self.coordinator.kill)
        self.check_store()
        await asyncio.to_thread(self.coordinator.start)

    async def kill_sidecar(self, name: str) -> None:
        """Kill a sidecar and start it again."""
        self.kills["sidecar"] += 1
        sidecar = self.sidecars[name]
        self._recorder.cut(name)
        await asyncio.to_thread(sidecar.kill)
        self._recorder.mended(name)
        await asyncio.to_thread(sidecar.start)

    async def kill_service(self, name: str) -> None:
        """Kill a service's process and start it again."""
        self.kills["service"] += 1
        service = self.services[name]
        self._recorder.killed(f"{name}-{service.pid}")
        await asyncio.to_thread(service.kill)
        await asyncio.to_thread(service.start)

    async def kill_coordinator_and_sidecar(self, _: Traffic) -> None:
        """Kill both at the same time, and start both again."""
        await asyncio.gather(self.kill_coordinator(), self.kill_sidecar("one"))

    # Stand still, and go on

    def stop_sidecar(self, name: str) -> None:
        """Have a sidecar stand still; nobody is told."""
        self._recorder.cut(name)
        os.kill(self.sidecars[name].pid, signal.SIGSTOP)

    def continue_sidecar(self, name: str) -> None:
        """Have it go on."""
        self._recorder.mended(name)
        os.kill(self.sidecars[name].pid, signal.SIGCONT)

    def stop_coordinator(self) -> None:
        """Have the coordinator stand still; nobody is told."""
        os.kill(self.coordinator.pid, signal.SIGSTOP)

    def continue_coordinator(self) -> None:
        """Have it go on."""
        os.kill(self.coordinator.pid, signal.SIGCONT)

    # The end

    def shut_down(self) -> None:
        """End everything as an operator would, once all tasks have ended, and check what is left.

        Raises:
            AssertionError: A process or the store is not as it should be.
        """
        ends = [*self.services.values(), *self.sidecars.values(), self.coordinator]
        for process in ends:
            code = process.terminate()
            if code:
                raise process.failure(f"ended with {code} after SIGTERM")
            if "Traceback" in process.output():
                raise process.failure("wrote a traceback")
        for link in self.links.values():
            link.close()
        left = self.check_store()
        alive = [task.id.hex() for task in left.tasks.values() if not task.state.terminal]
        assert not left.leases, f"{len(left.leases)} live leases are left in the store"
        assert not alive, f"{len(alive)} tasks in the store have not ended: {alive[:5]}"
        assert stored.sessions(left) == 0, "a sidecar that has said goodbye has a session"

    def check_store(self) -> Audit:
        """Check the store of the coordinator, which must not run."""
        return stored.read(self.coordinator.data_folder)
