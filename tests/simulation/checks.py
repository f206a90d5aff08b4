"""Everything that watches a run: what is sent against what is durable, and counts of what occurred.

The checks know nothing of the workload; they see what passes between the processes and the disk.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from coordinator.core.config import Config
from coordinator.core.effects import Effects, Scan
from coordinator.core.operations import Done, Refusal
from coordinator.store.base import Writes
from protocol.errors import CODES
from protocol.messages import (
    Accepted,
    Answer,
    Demand,
    Grant,
    GrantedTask,
    Heartbeat,
    Hello,
    Limit,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Recorded,
    State,
    Status,
    Submit,
    Welcome,
)
from sidecar.core.events import Note
from tests.simulation import answers, scan
from tests.simulation.attempts import Attempts
from tests.simulation.model import Model
from tests.simulation.record import ATTEMPTS, OPTIONS, STATE, TOKEN
from tests.simulation.workload import Entry, Plan
from tests.simulation.world import MS, Broken, World

if TYPE_CHECKING:
    from tests.simulation.coordinator_process import CoordinatorProcess
    from tests.simulation.network import Wire
    from tests.simulation.service_process import Attempt, ServiceProcess
    from tests.simulation.sidecar_process import SidecarProcess
    from tests.simulation.spool_disk import SpoolDisk

SCAN_EVERY_US = 2_000 * MS
LOOK_EVERY = 4
"""Of the quiet moments of a coordinator, each so-many-th is looked at."""


class Asked:
    """What one sidecar has asked for on one connection, as the coordinator received it."""

    __slots__ = ("granted", "limits", "said")

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}
        self.said: dict[str, int] = {}
        """Since the last HELLO."""
        self.granted: dict[str, int] = {}


class Checks:
    """All checks of one run."""

    def __init__(
        self, world: World, plan: Plan, config: Config, wall_ms: Callable[[], int]
    ) -> None:
        self._world = world
        self._wall_ms = wall_ms
        self.attempts = Attempts(world)
        self.model = Model(world, plan, config, wall_ms, self.attempts)
        self.acked: dict[bytes, Entry] = {}
        self.spooled_ids: set[bytes] = set()
        self._entries: dict[bytes, list[Entry]] = {}
        self._batches: dict[tuple[bytes, int], bytes] = {}
        self._outcomes: dict[tuple[bytes, int], list[Outcome]] = {}
        self._asked: dict[Wire, Asked] = {}
        self._sidecars: dict[str, SidecarProcess] = {}
        """By name, from their first HELLO on."""
        self.decided: set[bytes] = set()
        """Batches on which a sidecar has heard the coordinator's last word."""
        self.grants: dict[tuple[bytes, int], tuple[int, int]] = {}
        """In which session's grant of which number a lease was sent."""
        self._reported: set[bytes] = set()
        """Tasks of which outcomes came since the last flush."""
        self._returned: set[tuple[bytes, int]] = set()
        self._scanned_at = 0
        self._quiet = 0

    # --- The coordinator -----------------------------------------------------------------------

    def received(self, wire: "Wire", message: Message) -> None:
        """Take note of what the coordinator receives."""
        self._world.note("arrives from", (wire.sidecar.name, type(message).__name__))
        if isinstance(message, Demand | Heartbeat):
            asked = self._asked.setdefault(wire, Asked())
            asked.limits.update(message.limits)
            asked.said.update(message.limits)
        elif isinstance(message, Outcomes):
            self._reported.update([outcome.id for outcome in message.outcomes])
            self._take_returned(wire, message.outcomes)
        elif isinstance(message, Hello):
            self._asked.setdefault(wire, Asked()).said = {}
            held = {lease.id: lease.token for lease in message.held}
            if any(
                holder == message.incarnation and held.get(task_id) != token
                for task_id, (token, holder) in self.model.leases.items()
            ):
                self._world.hit("leases_lost_on_the_way")
            if not wire.sidecar_end:
                self._world.hit("late_hello")
                self._world.note("late HELLO", message)

    def _take_returned(self, wire: "Wire", outcomes: Sequence[Outcome]) -> None:
        """Take note of leases that come back unused, from who has them."""
        for outcome in outcomes:
            lease = outcome.token, wire.sidecar.incarnation
            holds = self.model.leases.get(outcome.id) == lease
            if holds and outcome.kind is OutcomeKind.RETURNED:
                self._returned.add((outcome.id, outcome.token))
                if wire.sidecar.name in self.model.orders.drains:
                    self._world.hit("drained_gave_back")

    def flushed(self, coordinator: "CoordinatorProcess", effects: Effects) -> None:
        """Look at what is about to be committed."""
        self.model.epoch = coordinator.epoch
        self.model.flushed_wall_ms = self._wall_ms()
        self.model.charges.clear()
        for peer, message, payloads in effects.messages:
            wire = coordinator.wires.get(peer)
            if wire is None:
                continue
            if isinstance(message, Welcome):
                asked = self._asked.setdefault(wire, Asked())
                asked.limits, asked.granted = dict(asked.said), {}
            elif isinstance(message, Grant):
                self._check_demand(wire, message)
                if payloads:
                    self._world.hit("payload_stored_apart")
        self._look_at_notes(effects)
        self._reported.clear()
        self.model.returned, self._returned = self._returned, set()
        for ask in effects.reads:
            if isinstance(ask.read, Scan):
                self._world.hit(f"scan_{ask.read.start[:1].decode()}")

    def refuses(self, effects: Effects) -> None:
        """Check a commit of a coordinator that takes no submissions."""
        for key, value in effects.writes.items():
            if key[:1] == b"t" and value is not None and key[1:] not in self.model.records:
                raise Broken("a full store takes nothing new", key.hex())
        self._world.hit("commit_while_full")

    def _look_at_notes(self, effects: Effects) -> None:
        for event, facts in effects.notes:
            self._world.hit(f"coordinator_{event}")
            if event == "session_expired":
                self._expect_charges(str(facts["sidecar"]))

    def _expect_charges(self, sidecar: str) -> None:
        """Expect that the leases of a session that has expired are charged by this commit."""
        process = self._sidecars[sidecar]
        incarnation = process.incarnation
        if process.alive:
            process.duties.check_given_up(self.model._config.session_timeout_ms)
        # What came back with it may have come too late.
        leases = self.model.leases
        self._returned = {r for r in self._returned if incarnation not in leases.get(r[0], ())}
        for task_id, (_, holder) in leases.items():
            # What the last commit granted may not have been handed over, and is then not charged.
            spared = task_id in self.model.just_granted or task_id in self._reported
            if holder == incarnation and not spared:
                self._world.hit("session_expired_with_leases")
                self.model.charges[task_id] = self.model.records[task_id][ATTEMPTS] + 1

    def _check_demand(self, wire: "Wire", grant: Grant) -> None:
        asked = self._asked.setdefault(wire, Asked())
        for handler, tasks in grant.groups:
            granted = asked.granted.get(handler, 0) + len(tasks)
            asked.granted[handler] = granted
            if granted > asked.limits.get(handler, 0):
                raise Broken(
                    "nothing is granted beyond demand",
                    f"{granted} of {handler} to {wire.sidecar.name}, which asked for "
                    f"{asked.limits.get(handler, 0)}",
                )

    def committed(self, writes: Writes) -> None:
        """Take a commit, at the moment when it has become durable."""
        self.model.committed(writes)

    def answered_operation(self, number: int, answer: Done | Refusal) -> None:
        """Check what an operator is told."""
        self._world.note("operator is told", answer)
        answers.check(self.model, number, answer)
        self._world.hit(f"told_{answer.code if isinstance(answer, Refusal) else 'done'}")

    def unanswered(self, numbers: set[int]) -> None:
        """Count the orders of which nobody will ever be told."""
        done = [number for number in numbers if f"op{number}" in self.model.orders.audited]
        self._world.hit("order_unanswered", len(numbers))
        self._world.hit("order_done_unanswered", len(done))

    def sent(self, coordinator: "CoordinatorProcess", wire: "Wire", message: Message) -> None:
        """Check that what leaves the coordinator is durable."""
        match message:
            case Grant(session, number, groups):
                for handler, tasks in groups:
                    for task in tasks:
                        self._check_granted(handler, task)
                        self.grants[task.id, task.token] = (session, number)
            case Recorded(number, exceptions):
                places = {exception.place for exception in exceptions}
                for place, outcome in enumerate(
                    self._outcomes.get((wire.sidecar.incarnation, number), [])
                ):
                    check = self._check_refused if place in places else self._check_recorded
                    check(outcome)
            case Accepted(verdicts):
                for verdict in verdicts:
                    if verdict.code is None:
                        batch = self._batches[wire.sidecar.incarnation, verdict.request]
                        places = {rejection.place for rejection in verdict.rejections}
                        self._check_accepted(batch, places)
            case Answer(replies):
                for reply in replies:
                    if reply.status is not None:
                        self._check_status(reply.status)

    def _check_granted(self, handler: str, task: GrantedTask) -> None:
        lease = self.model.leases.get(task.id)
        if self.model.granted.get(task.id) != task.token:
            raise Broken("a grant is durable", f"{task.id.hex()} {task.token:#x}, store {lease}")
        policy = self.model.orders.policy(handler) | (self.model.records[task.id][OPTIONS] or {})
        limits = (task.attempts_max, task.timeout_ms)
        if limits != (policy["attempts_max"], policy["timeout_ms"]):
            raise Broken("a grant has the policy in effect", f"{handler} {task}, {policy}")

    def _check_recorded(self, outcome: Outcome) -> None:
        record = self.model.records.get(outcome.id)
        if record is None:
            if outcome.id not in self.model.removed:
                raise Broken("a recorded outcome is durable", f"{outcome}: no task")
            return
        settled = record[TOKEN] >= outcome.token
        if record[TOKEN] == outcome.token and outcome.kind is OutcomeKind.SUCCESS:
            settled = record[STATE] == State.SUCCEEDED
        if not settled:
            raise Broken("a recorded outcome is durable", f"{outcome}, store {record}")

    def _check_refused(self, outcome: Outcome) -> None:
        """What a handler came to in the end is taken, late or not, unless another has the task."""
        record = self.model.records.get(outcome.id)
        if record is None or outcome.kind not in (OutcomeKind.SUCCESS, OutcomeKind.FATAL):
            return
        latest = self.model.granted.get(outcome.id) == outcome.token
        if latest and record[STATE] < State.SUCCEEDED:
            raise Broken("an end is taken late", f"{outcome}, store {record}")

    def _check_accepted(self, batch: bytes, rejected: set[int]) -> None:
        for place, entry in enumerate(self._entries[batch]):
            if place not in rejected and not self.model.holds(entry):
                raise Broken("what is accepted is durable", f"{entry}")

    def _check_status(self, status: Status) -> None:
        record = self.model.records.get(status.id)
        if record is None or status.id in self.model.removed:
            return  # Submitted once more after its removal, it is another task.
        if status.finished_ms in self.model.deaths.get(status.id, ()):
            return  # It was dead when this was said, and is not any more.
        if status.state.terminal and record[STATE] != status.state:
            raise Broken("an answer is durable", f"{status}, store {record}")

    def idle(self, coordinator: "CoordinatorProcess") -> None:
        """Compare memory with the store, now and then, when nothing is under way."""
        self._quiet += 1
        if self._quiet % LOOK_EVERY and self._scanned_at >= 0:
            return
        scan.check_bounds(coordinator.shard)
        core = coordinator.shard._ledger
        if core.timers._horizon is not None:
            self._world.hit("timers_beyond_the_horizon")
        if any(queue.stored for handler in core.handlers.values() for queue in handler.all_queues):
            self._world.hit("ready_tasks_in_the_store_only")
        if self._world.now - self._scanned_at >= SCAN_EVERY_US:
            self._scanned_at = self._world.now
            scan.check(coordinator, self.model, self._wall_ms())

    def scan_soon(self) -> None:
        """Compare memory with the store at the next quiet moment."""
        self._scanned_at = -SCAN_EVERY_US

    def ended(self, coordinator: "CoordinatorProcess") -> None:
        """Count what a coordinator has counted."""
        for name, times in coordinator.shard.counts.items():
            self._world.hit(f"count_{name}", times)

    # --- Sidecars ------------------------------------------------------------------------------

    def sidecar_sends(self, sidecar: "SidecarProcess", message: Message) -> None:
        """Take note of what a sidecar sends to the coordinator."""
        match message:
            case Hello():
                self._sidecars[sidecar.name] = sidecar
            case Outcomes(number, outcomes):
                self._outcomes[sidecar.incarnation, number] = outcomes
            case Submit(batches):
                for batch in batches:
                    self._batches[sidecar.incarnation, batch.request] = batch.tasks
            case Demand(limits) | Heartbeat(_, limits, _):
                self._check_stated(sidecar, limits)

    def decides(self, sidecar: "SidecarProcess", message: Accepted) -> None:
        """Take note of what the coordinator tells a sidecar of its batches."""
        for verdict in message.verdicts:
            if verdict.code is None or not CODES[verdict.code].retry:
                self.decided.add(self._batches[sidecar.incarnation, verdict.request])

    def _check_stated(self, sidecar: "SidecarProcess", limits: Sequence[Limit]) -> None:
        granted = sidecar.core._asked._granted
        for handler, total in limits:
            if total < granted.get(handler, 0):
                raise Broken("demand is never negative", f"{sidecar.name} {handler} {total}")

    def sidecar_notes(self, sidecar: "SidecarProcess", notes: list[Note]) -> None:
        """Take note of what a sidecar tells operators."""
        for note in notes:
            self._world.note(f"{sidecar.name} notes", note)
            if note.name == "drain_began" and note.facts["tasks_at_services"]:
                self._world.hit("drain_returned_leases")
            self._world.hit(f"sidecar_{note.name}")
            if note.name == "leases_lost":
                sidecar.duties.gave_up()
            if note.facts.get("reason") == "a grant was lost on the way":
                self._world.hit("resume_after_lost_grant")

    def sidecar_died(self, sidecar: "SidecarProcess") -> None:
        """Count what a sidecar has counted."""
        facts = sidecar.core.facts(sidecar.now_ms())
        for name in ("outcomes_not_taken", "outcomes_late", "submissions_given_up"):
            self._world.hit(name, int(facts[name]))

    # --- Services and apps ---------------------------------------------------------------------

    def began(self, attempt: "Attempt", task: GrantedTask) -> None:
        """Take note that an attempt begins."""
        self._world.note(f"{attempt.service.name} begins", attempt.key)
        self.attempts.began(attempt, task, self.model)

    def stopped(self, attempt: "Attempt") -> bool:
        """Take note that an attempt has ended; return False if it had before."""
        return self.attempts.stopped(attempt)

    def process_died(self, service: "ServiceProcess") -> None:
        """Take note that everything in a process has ended."""
        self.model.unbegun.update(service.waiting())
        self.attempts.process_died(service)

    def submitted(self, batch: bytes, entries: list[Entry]) -> None:
        """Take note of what an app submits."""
        self._entries[batch] = entries
        for entry in entries:
            self.model.submitted(entry)

    def acknowledged(self, entry: Entry) -> None:
        """Take note of what an app was promised."""
        self.acked[entry.id] = entry
        if not self.model.holds(entry):
            raise Broken("what is accepted is durable", f"{entry}")

    def spooled(self, entry: Entry, spool: "SpoolDisk | None") -> None:
        """Check that a task an app was told to be in the spool is there, or beyond."""
        self._world.hit("submit_spooled")
        self.spooled_ids.add(entry.id)
        beyond = entry.id in self.model.records or entry.id in self.model.removed
        kept = [] if spool is None else [spool.batches[number] for number in spool.kept]
        if not beyond and not any(entry in self._entries[tasks] for tasks in kept):
            raise Broken("what is spooled is durable", f"{entry}")

    def rejected(self, entry: Entry) -> None:
        """Check that a submission was refused because of another under its id."""
        if self.model.holds(entry) and entry.id not in self.model.removed:
            raise Broken("the same task is accepted again", f"{entry}")

    def answered(self, code: str | None, status: Status | None, *, waited: bool) -> None:
        """Take what an app is told about a task."""
        if status is not None:
            self._check_status(status)
            self._world.hit(f"answered_{status.state.name.lower()}")
            if waited:
                ended = status.state.terminal
                self._world.hit("wait_answered_at_the_end" if ended else "wait_ran_out")
        else:
            self._world.hit(f"answered_{code}")

    def surprised(self, name: str, message: object) -> None:
        """Take note of what nobody should be sent."""
        raise Broken("nobody is surprised", f"{name} got {message}")
