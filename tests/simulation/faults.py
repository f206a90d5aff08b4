"""What goes wrong, and when: processes, wires, disk and clocks, as the seed decides."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.world import MS, SECOND, World

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.process import Process
    from tests.simulation.simulation import Simulation


class Faults:
    """Breaks things until it is told to stop."""

    def __init__(self, world: World, run: "Simulation") -> None:
        self._world = world
        self._run = run
        rng = world.rng
        self._timeout_us = run.timeout_ms * MS
        self._stopped: list[Process] = []
        self.going_on = True
        kinds: list[Callable[[], None]] = [
            self._kill_coordinator,
            self._kill_coordinator,
            self._stop_coordinator,
            self._fail_commit,
            self._slow_disk,
            self._fill_disk,
            self._kill_sidecar,
            self._stop_sidecar,
            self._stop_sidecar,
            self._drain_sidecar,
            self._stop_host,
            self._kill_service,
            self._kill_service,
            self._stop_service,
            self._retire_service,
            self._cut,
            self._cut,
            self._flap,
            self._block_one_way,
            self._block_one_way,
            self._block,
            self._lose_grants,
            self._stick,
            self._stick,
            self._hang_up,
            self._slow_spool,
            self._fail_spool,
        ]
        if run.plan.wall_jumps:
            kinds += [self._jump_clock] * 5
        count = rng.choice((0, 2, 4, len(kinds)))
        self._kinds = rng.sample(kinds, count)
        self._every_us = rng.choice((200, 500, 1_500)) * MS
        if self._kinds:
            self._next()

    def _next(self) -> None:
        self._world.after(self._world.rng.randrange(2 * self._every_us), self._strike)

    def _strike(self) -> None:
        if self.going_on:
            self._world.rng.choice(self._kinds)()
            self._next()

    def cease(self) -> None:
        """Stop, and mend what can be mended."""
        self.going_on = False
        self._run.disk.slow_until = 0
        self._run.disk.fails_next = False
        self._run.disk.refusal = ""
        for process in self._stopped:
            process.wake()
        for host in self._run.hosts:
            host.path.heal()
            if host.spool is not None:
                host.spool.slow_until = 0
                host.spool.fails_next = host.spool.fails_next_put = False

    # --- Short words ---------------------------------------------------------------------------

    def _host(self) -> "Host":
        return self._world.rng.choice(self._run.hosts)

    def _while(self) -> int:
        """Return a time on the scale of the session's timeout: short, or beyond it."""
        return self._world.between(20 * MS, 2 * self._timeout_us)

    def _stop(self, processes: "list[Process | None]", for_us: int) -> None:
        for process in processes:
            if process is not None and not process.stopped:
                process.stop()
                self._stopped.append(process)
                self._world.after(for_us, process.wake)

    # --- The coordinator -----------------------------------------------------------------------

    def _kill_coordinator(self) -> None:
        self._run.kill_coordinator(self._world.between(20 * MS, 2 * self._timeout_us))

    def _stop_coordinator(self) -> None:
        self._world.hit("coordinator_stopped")
        self._stop([self._run.coordinator], self._while())

    def _fail_commit(self) -> None:
        self._run.disk.fails_next = True

    def _slow_disk(self) -> None:
        self._world.hit("disk_slow")
        self._run.disk.slow_until = self._world.now + self._while()

    def _fill_disk(self) -> None:
        self._run.disk.refusal = "the disk is nearly full"
        self._world.after(self._while(), self._free_disk)

    def _free_disk(self) -> None:
        self._run.disk.refusal = ""

    def _jump_clock(self) -> None:
        if self._world.chance(0.5):
            self._world.hit("wall_clock_forward")
            self._run.wall_offset_ms += self._world.between(10, 20_000)
        else:
            self._world.hit("wall_clock_back")
            self._run.wall_offset_ms -= self._world.between(10, 20_000)

    # --- Sidecars ------------------------------------------------------------------------------

    def _kill_sidecar(self) -> None:
        self._host().kill_sidecar(self._world.between(20 * MS, 2 * SECOND))

    def _stop_sidecar(self) -> None:
        self._stop([self._host().sidecar], self._while())

    def _drain_sidecar(self) -> None:
        sidecar = self._host().sidecar
        if sidecar is not None:
            sidecar.run(sidecar.drain)

    def _stop_host(self) -> None:
        host = self._host()
        self._world.hit("host_stopped")
        self._stop([host.sidecar, *host.services, host.app], self._while())

    def _slow_spool(self) -> None:
        spool = self._host().spool
        if spool is not None:
            self._world.hit("spool_slow")
            spool.slow_until = self._world.now + self._while()

    def _fail_spool(self) -> None:
        host = self._host()
        spool = host.spool
        if spool is not None and self._world.chance(0.5):
            spool.fails_next = True
        elif spool is not None:
            spool.fails_next_put = True
            until = self._world.now + self._while()
            host.path.block(up=until, down=until)

    # --- Services and apps ---------------------------------------------------------------------

    def _kill_service(self) -> None:
        service = self._world.rng.choice(self._host().services)
        if service is not None:
            service.restart()

    def _retire_service(self) -> None:
        service = self._world.rng.choice(self._host().services)
        if service is not None:
            service.run(service.retire)

    def _stop_service(self) -> None:
        self._stop([self._world.rng.choice(self._host().services)], self._while())

    def _hang_up(self) -> None:
        app = self._host().app
        app.run(app.hang_up)

    # --- The network ---------------------------------------------------------------------------

    def _cut(self) -> None:
        sidecar = self._host().sidecar
        if sidecar is not None and sidecar.wire is not None:
            sidecar.wire.cut()

    def _flap(self) -> None:
        host = self._host()
        self._world.hit("link_flapped")
        at = 0
        for _ in range(self._world.rng.randint(3, 10)):
            at += self._world.rng.randrange(50 * MS, 800 * MS)
            self._world.after(at, lambda: self._cut_now(host))

    def _cut_now(self, host: "Host") -> None:
        if self.going_on and host.sidecar is not None and host.sidecar.wire is not None:
            host.sidecar.wire.cut()

    def _block_one_way(self) -> None:
        until = self._world.now + self._while()
        if self._world.chance(0.5):
            self._world.hit("blocked_up")
            self._host().path.block(up=until, down=0)
        else:
            self._world.hit("blocked_down")
            self._host().path.block(up=0, down=until)

    def _stick(self) -> None:
        host = self._host()
        host.path.sticks = True
        self._cut_now(host)
        self._world.after(self._world.between(SECOND, 8 * SECOND), host.path.unstick)

    def _lose_grants(self) -> None:
        path = self._host().path
        path.loses_grants = True
        self._world.after(self._while(), path.keep_grants)

    def _block(self) -> None:
        until = self._world.now + self._while()
        self._world.hit("blocked_both_ways")
        self._host().path.block(up=until, down=until)
