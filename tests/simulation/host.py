"""One machine with a sidecar, processes of its service, and an app; what dies is started again."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.app_process import AppProcess
from tests.simulation.network import Path
from tests.simulation.service_process import ServiceProcess
from tests.simulation.sidecar_process import SidecarProcess, a_terms
from tests.simulation.spool_disk import SpoolDisk
from tests.simulation.workload import HANDLERS, LATER, Plan
from tests.simulation.world import MS, SECOND, Clock, World

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.coordinator_process import CoordinatorProcess


class Host:
    """One machine.

    Args:
        world: The world.
        name: Its name.
        plan: The plan of the run.
        coordinator: Returns the coordinator's process, if one serves.
        checks: What watches.
    """

    def __init__(
        self,
        world: World,
        name: str,
        plan: Plan,
        coordinator: "Callable[[], CoordinatorProcess | None]",
        checks: "Checks",
    ) -> None:
        self._world = world
        self._plan = plan
        self._checks = checks
        self._coordinator = coordinator
        self.name = name
        self.path = Path(world, world.rng.choice((100, 1 * MS, 15 * MS)))
        self._clock = Clock(
            world.rng.randrange(10**6 * SECOND), world.rng.randrange(-10_000, 10_001)
        )
        self._terms = a_terms(world)
        self.spool = SpoolDisk(world) if world.chance(0.7) else None
        self._supervised = world.chance(0.4)
        self._kill_grace_us = world.rng.choice((50, 500)) * MS
        self._births = 0
        self.sidecar: SidecarProcess | None = None
        self.services: list[ServiceProcess | None] = []
        self.app = AppProcess(world, f"{name}.app", self.running_sidecar, checks)
        self.start_sidecar()
        handlers = [h for h in HANDLERS if h != LATER]
        for _ in range(world.rng.randint(1, 3)):
            served = [h for h in handlers if world.chance(0.75)] or handlers
            self.add_service(served)

    def running_sidecar(self) -> SidecarProcess | None:
        """Return the sidecar's process."""
        return self.sidecar

    def a_sidecar_name(self) -> str:
        """Return the name of its sidecar, or that of a process of it which is still to come."""
        later = self._world.rng.choice((0, 0, 1, 2))
        if self.sidecar is not None and not later:
            return self.sidecar.name
        return f"{self.name}.sidecar{self._births + later}"

    # --- The sidecar ---------------------------------------------------------------------------

    def start_sidecar(self) -> None:
        """Start it unless it runs."""
        if self.sidecar is None:
            self._births += 1
            name = f"{self.name}.sidecar{self._births}"
            self.sidecar = SidecarProcess(
                self._world,
                name,
                path=self.path,
                coordinator=self._coordinator,
                clock=self._clock,
                terms=self._terms,
                spool=self.spool,
                checks=self._checks,
                stuck=self._process_stuck,
                ended=lambda: self.sidecar_ended(name),
            )

    def sidecar_ended(self, name: str) -> None:
        """Take note that its drain is over."""
        if self.sidecar is not None and self.sidecar.name == name:
            self._world.hit("drain_over")
            self.kill_sidecar(self._world.between(50 * MS, 2 * SECOND))

    def kill_sidecar(self, down_us: int) -> None:
        """Kill it, and start another after a while."""
        if self.sidecar is not None:
            self._checks.sidecar_died(self.sidecar)
            self.sidecar.kill()
            self.sidecar = None
            self._world.after(down_us, self.start_sidecar)
            if self._supervised:  # The kernel kills the children of a process that dies.
                for service in self.services:
                    if service is not None:
                        self._world.after(self._world.rng.randrange(5 * MS), service.restart)

    # --- Services ------------------------------------------------------------------------------

    def add_service(self, handlers: list[str]) -> None:
        """Add one process that serves these handlers, for good."""
        self.services.append(None)
        self._start_service(len(self.services) - 1, handlers)

    def _start_service(self, place: int, handlers: list[str]) -> None:
        self._births += 1
        number = self._births if self._supervised else 0
        service = ServiceProcess(
            self._world,
            f"{self.name}.service{place}.{self._births}",
            sidecar=self.running_sidecar,
            slots={h: self._plan.slots[h] for h in handlers},
            policies=self._plan.policies,
            clock=self._clock,
            checks=self._checks,
            number=number,
            restart=lambda: self.kill_service(place, handlers, service),
        )
        self.services[place] = service

    def kill_service(self, place: int, handlers: list[str], service: ServiceProcess) -> None:
        """Kill a process, and start another after a while."""
        if service.alive:
            service.kill()
            self.services[place] = None
            sidecar = self.sidecar
            if service.number and sidecar is not None:
                self._world.after(
                    self._world.rng.randrange(200 * MS if self._world.chance(0.1) else 5 * MS),
                    lambda: sidecar.run(lambda: sidecar.process_ended(service.number)),
                )
            down_us = self._world.between(10 * MS, 300 * MS)
            self._world.after(down_us, lambda: self._start_service(place, handlers))

    def _process_stuck(self, number: int, at_once: bool) -> None:
        """End a process in which an attempt does not stop: by SIGKILL, or SIGTERM before it."""
        for service in self.services:
            if service is not None and service.number == number:
                self._world.hit("stuck_process_killed" if at_once else "stuck_process_told_to_end")
                if not at_once:
                    hangs_up = self._world.chance(0.3)
                    service.run(lambda s=service, h=hangs_up: s.retire(hangs_up=h))  # type: ignore[misc]
                grace_us = 0 if at_once else self._kill_grace_us
                self._world.after(grace_us + self._world.rng.randrange(2 * MS), service.restart)
