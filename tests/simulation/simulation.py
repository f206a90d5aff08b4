"""One run: a coordinator, some hosts, a phase of faults, a phase in which all must end well."""

from collections.abc import Callable
from dataclasses import dataclass

from coordinator.core import layout
from coordinator.core.config import Config
from protocol.limits import DAY_MS
from protocol.messages import State
from tests.simulation.checks import Checks
from tests.simulation.coordinator_process import CoordinatorProcess
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.host import Host
from tests.simulation.operator_process import OperatorProcess
from tests.simulation.record import COLLECTION, HANDLER, STATE
from tests.simulation.windows import small
from tests.simulation.workload import HANDLERS, Entry, Source, a_plan
from tests.simulation.world import MS, SECOND, Broken, Clock, World

STEPS = 60
FIRST_WALL_MS = 1_750_000_000_000
LIVENESS_MAX_US = 240 * SECOND
"""Simulated time within which everything must have ended once nothing fails any more."""
REMOVAL_MAX_US = 60 * SECOND
OPEN = (
    *("tasks_buffered", "tasks_at_services", "tasks_running", "outcomes_unrecorded"),
    *("submissions_waiting", "spooled_batches"),
)
"""What a sidecar tells of itself that must be nothing in the end."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What was broken in a run."""

    check: str
    detail: str


class Simulation:
    """The system of one seed.

    Args:
        world: Its world.
        steps: Batches submitted, about.
    """

    def __init__(self, world: World, steps: int) -> None:
        self.world = world
        rng = world.rng
        self.plan = a_plan(world, steps)
        self.timeout_ms = rng.choice((1_000, 2_000, 5_000))
        self.wall_offset_ms = 0
        kept_ms = rng.choice((3_000, 3_600_000))
        self._config = {
            "session_timeout_ms": self.timeout_ms,
            "retention_succeeded_ms": kept_ms,
            "retention_dead_ms": rng.choice((3_000, 30 * DAY_MS)),
            "retention_other_ms": kept_ms,
        }
        self._clock = Clock(rng.randrange(10**6 * SECOND), rng.randrange(-10_000, 10_001))
        config = Config(store=bytes(16), epoch=0, **self._config)
        self.checks = Checks(world, self.plan, config, self.wall_ms)
        self.disk = Disk(world, self.checks.committed)
        self.coordinator: CoordinatorProcess | None = None
        self._start_coordinator()
        self._source = Source(world, self.plan, FIRST_WALL_MS)
        self._known: list[Entry] = []
        self.hosts = [
            Host(world, f"host{n}", self.plan, self._serving, self.checks)
            for n in range(rng.randint(2, 4))
        ]
        self.faults = Faults(world, self)
        self.operator = OperatorProcess(world, self)
        self._batches_left = self.plan.batches
        self._submit_next()

    def wall_ms(self) -> int:
        """Read the coordinator's time of day."""
        return FIRST_WALL_MS + self.world.now // MS + self.wall_offset_ms

    # --- The coordinator -----------------------------------------------------------------------

    def _serving(self) -> CoordinatorProcess | None:
        coordinator = self.coordinator
        return coordinator if coordinator is not None and coordinator.serving else None

    def _start_coordinator(self) -> None:
        if self.coordinator is None:
            self.coordinator = CoordinatorProcess(
                self.world,
                self.disk,
                clock=self._clock,
                wall_ms=self.wall_ms,
                checks=self.checks,
                config=self._config,
                failed=lambda: self.kill_coordinator(self.world.between(50 * MS, SECOND)),
            )

    def kill_coordinator(self, down_us: int) -> None:
        """Kill it, and start another after a while."""
        if self.coordinator is not None:
            if self.checks.attempts.count:
                self.world.hit("coordinator_died_while_attempts_ran")
            self.coordinator.kill()
            self.coordinator = None
            self.world.after(down_us, self._start_coordinator)

    # --- The workload --------------------------------------------------------------------------

    def _submit_next(self) -> None:
        if self._batches_left:
            self.world.after(self.world.rng.randrange(2 * self.plan.every_us), self._submit)

    def _submit(self) -> None:
        world, rng = self.world, self.world.rng
        self._batches_left -= 1
        entries = self._source.batch()
        app = rng.choice(self.hosts).app
        if self._known and rng.random() < 0.1:
            entries.append(rng.choice(self._known))  # Once more, though it may be known.
        if self._known and rng.random() < 0.05:
            entries.append(self._source.other_content(rng.choice(self._known)))
        if rng.random() < 0.05:
            entries.append(self._source.other_content(entries[0]))
        self._known += entries
        app.run(lambda: app.submit(entries))
        if rng.random() < 0.5:
            asked = [entry.id for entry in rng.sample(self._known, min(3, len(self._known)))]
            wait_ms = rng.choice((0, 0, 300, 20_000))
            other = rng.choice(self.hosts).app
            world.after(rng.randrange(SECOND), lambda: other.run(lambda: other.ask(asked, wait_ms)))
        self._submit_next()

    # --- The phases ----------------------------------------------------------------------------

    def run(self) -> None:
        """Run all phases; raises ``Broken`` when a promise is."""
        span = self.plan.batches * self.plan.every_us
        self.world.run(span + self.world.rng.randrange(SECOND, 4 * SECOND))
        self._mend()
        if self.operator.stays is not None:
            self._wait_until(self._all_but_held_ended, LIVENESS_MAX_US, self._what_is_open)
            self.operator.lift_last()
        self._wait_until(self._all_ended, LIVENESS_MAX_US, self._what_is_open)
        self._check_end()
        self.wall_offset_ms += 40 * DAY_MS
        self._wait_until(self._all_removed, REMOVAL_MAX_US, self._what_is_left)
        if self.coordinator is not None:
            self.checks.ended(self.coordinator)
        for host in self.hosts:
            if host.sidecar is not None:
                self.checks.sidecar_died(host.sidecar)

    def _mend(self) -> None:
        self.world.note("faults cease")
        self.faults.cease()
        self.operator.cease()
        # A clock that was set forward stays there: what it made due later must not wait for days.
        self.wall_offset_ms = max(self.wall_offset_ms, 60_000 * self.plan.wall_jumps)
        self.hosts[0].add_service(list(HANDLERS))
        for host in self.hosts:
            # What is left in a spool that has failed is sent by the next process.
            sidecar = host.sidecar
            if sidecar is not None and sidecar.core.facts(0)["spool"] == "failed":
                self.world.hit("spool_failed")
                host.kill_sidecar(SECOND)

    def _wait_until(
        self, done: Callable[[], bool], max_us: int, missing: Callable[[], str]
    ) -> None:
        deadline = self.world.now + max_us
        while not done():
            if self.world.now >= deadline:
                raise Broken("everything ends", missing())
            self.world.run(self.world.now + 250 * MS)

    def _all_ended(self) -> bool:
        return not self.checks.model.unended() and self._all_settled()

    def _all_but_held_ended(self) -> bool:
        """Tell whether exactly those tasks are left that the last gate holds, all of them ready."""
        model, held = self.checks.model, 0
        for task_id in model.unended():
            record = model.records[task_id]
            handler, collection = model.names[record[HANDLER]], record[COLLECTION]
            if record[STATE] != State.READY or model.orders.holder(handler, collection) is None:
                return False
            held += 1
        if not self._all_settled():
            return False
        self.world.hit("held_to_the_end", held)
        return True

    def _all_settled(self) -> bool:
        """Tell whether nothing is under way, and nobody waits for an answer."""
        model = self.checks.model
        return (
            not self._batches_left
            and not any(host.app.waiting for host in self.hosts)
            and not model.leases
            and not model.changes.running()
            and self.operator.settled
            and all(self._settled(host) for host in self.hosts)
        )

    def _settled(self, host: Host) -> bool:
        if host.sidecar is None or not host.sidecar.core.session_open:
            return False
        facts = host.sidecar.core.facts(host.sidecar.now_ms())
        spool = host.spool
        return not any(facts[name] for name in OPEN) and (
            spool is None or not (spool.batches or spool.outcomes)
        )

    def _what_is_open(self) -> str:
        model = self.checks.model
        tasks = [f"{task_id.hex()} {model.records[task_id]}" for task_id in model.unended()[:5]]
        facts = [
            host.sidecar and host.sidecar.core.facts(host.sidecar.now_ms()) for host in self.hosts
        ]
        apps = [host.app.waiting for host in self.hosts]
        orders = [*model.orders.gates.values(), *model.changes.running(), model.orders.overrides]
        return (
            f"tasks {tasks}, leases {model.leases}, apps {apps}, sidecars {facts}, orders {orders}"
        )

    def _check_end(self) -> None:
        model = self.checks.model
        for entry in self.checks.acked.values():
            if not model.holds(entry):
                raise Broken("nothing accepted is lost", f"{entry}")
        for task_id in self.checks.spooled_ids:
            if task_id not in model.records and task_id not in model.removed:
                raise Broken("nothing spooled is lost", task_id.hex())
        self.checks.scan_soon()

    def _all_removed(self) -> bool:
        return not self._left()

    def _what_is_left(self) -> str:
        return f"{self._left()[:20]}"

    def _left(self) -> list[bytes]:
        return [
            key for key in self.disk.pairs if key[:1] in b"tpsgxdrw" and not self._may_stay(key)
        ]

    def _may_stay(self, key: bytes) -> bool:
        """Tell whether a row of ready tasks may be left until its queue is next looked through.

        Which queues those are is forgotten when the coordinator ends. And a task that was ready,
        rescheduled and ready again may be met by its earlier row, so that the later one stays.
        """
        if key[:1] not in b"rw":
            return False
        postponed = self.checks.model.postponed
        if key[:1] == b"w":
            return self.disk.epoch > 1 or bool(postponed)
        return self.disk.epoch > 1 or (layout.handler_of(key), key[5]) in postponed


def run_seed(
    seed: int,
    steps: int = STEPS,
    echo: Callable[[int, str, object], None] | None = None,
    *,
    traced: bool = True,
) -> tuple[World, Failure | None]:
    """Run one seed; return its world and what was broken."""
    world = World(seed, traced=traced)
    world.echo = echo
    with small(world):
        try:
            Simulation(world, steps).run()
        except Broken as broken:
            return world, Failure(broken.check, broken.detail)
        except Exception as error:  # A core that raises is broken, whatever it raises.
            return world, Failure("no core raises", _where(error))
    return world, None


def _where(error: Exception) -> str:
    lines = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {error} in {' > '.join(lines[-8:])}"
