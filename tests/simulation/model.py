"""What the store says, commit by commit, and whether it may say so.

This is a second, much simpler account of tasks and leases, kept from nothing but what became
durable. A lease is *authorised* from the commit of its grant until the commit that settles it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zlib import crc32

from coordinator.core import layout, records
from coordinator.core.config import Config
from coordinator.store.base import Writes
from protocol.messages import State
from tests.simulation.workload import Entry, Plan
from tests.simulation.world import Broken, World

if TYPE_CHECKING:
    from tests.simulation.attempts import Attempts

STATE, HANDLER, PRIORITY, TOKEN, ATTEMPTS, DELIVERIES, CRASHES, DEFERRALS = range(8)
SUBMITTED, DUE, EXPIRES, FINISHED, CRC, COLLECTION, CONTENT_TYPE, OPTIONS = range(8, 16)
PAYLOAD_BYTES, PAYLOAD, RESULT, ERROR, HISTORY = range(16, 21)
"""Places in a task's record."""
NEVER_CHANGE = (HANDLER, PRIORITY, SUBMITTED, EXPIRES, CRC, COLLECTION, CONTENT_TYPE, OPTIONS)

Record = list[Any]
WALL_JUMP_MS = 60_000
"""More than the time of day ever jumps back."""


def content_crc(handler: str, payload: bytes) -> int:
    """Return what a record keeps of its content."""
    return crc32(payload, crc32(handler.encode()))


class Model:
    """Tasks and leases as the store has them.

    Args:
        world: The world.
        plan: The plan of the run.
        config: Of the coordinator, for its retention.
        wall_ms: The coordinator's time of day.
        attempts: Who runs what.
    """

    def __init__(
        self,
        world: World,
        plan: Plan,
        config: Config,
        wall_ms: Callable[[], int],
        attempts: "Attempts",
    ) -> None:
        self._world = world
        self._plan = plan
        self._config = config
        self._wall_ms = wall_ms
        self._attempts = attempts
        self.epoch = 0
        self.flushed_wall_ms = 0
        """The time of day when what is being committed was flushed."""
        self.records: dict[bytes, Record] = {}
        self.removed: set[bytes] = set()
        self.leases: dict[bytes, tuple[int, bytes]] = {}
        """Authorised leases: token and incarnation of the holder, by task."""
        self.granted: dict[bytes, int] = {}
        """The last token granted of each task, or the number that it began with."""
        self.tokens_before: dict[bytes, int] = {}
        """The last token of a task whose id may be used again."""
        self.deliveries: dict[bytes, int] = {}
        self.leased: dict[int, int] = {}
        """Authorised leases of each handler."""
        self.charges: dict[bytes, int] = {}
        """How many attempts tasks must have cost once what was flushed is committed."""
        self.just_granted: set[bytes] = set()
        """What the last commit granted."""
        self.unbegun: set[tuple[bytes, int]] = set()
        """Leases that had not begun when the process that waited to do so died."""
        self.names: dict[int, str] = {}
        self.contents: dict[bytes, dict[int, Entry]] = {}
        """What was ever submitted under each id, by its checksum."""

    def committed(self, writes: Writes) -> None:
        """Take a commit."""
        for key, value in writes.items():
            letter = key[:1]
            if letter == b"t":
                self._take_record(key[1:], value)
            elif letter == b"h" and value is not None:
                self.names[layout.handler_of(key)] = records.decode_list(key, value)[0]
        for task_id, attempts in self.charges.items():
            if self.records[task_id][ATTEMPTS] != attempts:
                raise Broken("a lost lease is charged", f"{task_id.hex()} {self.records[task_id]}")
        self.just_granted.clear()
        for key, value in writes.items():
            if key[:1] == b"g" and value is not None:
                holder, leases = layout.split_leases(key, value)
                for task_id, token in leases:
                    self._take_lease(task_id, token, holder)

    # --- Records -------------------------------------------------------------------------------

    def _take_record(self, task_id: bytes, value: bytes | None) -> None:
        old = self.records.get(task_id)
        if value is None:
            self._take_removal(task_id, old)
            return
        new = records.decode_list(layout.task_key(task_id), value)
        self.records[task_id] = new
        if old is None:
            self._check_new(task_id, new)
        else:
            self._check_change(task_id, old, new)
        if new[STATE] >= State.SUCCEEDED:
            self._check_end(task_id, new)

    def _check_new(self, task_id: bytes, new: Record) -> None:
        entry = self.contents.get(task_id, {}).get(new[CRC])
        if entry is None:
            raise Broken("no task without a submit", task_id.hex())
        # One that expires at once may be accepted and ended in one commit.
        begins = (State.SCHEDULED, State.READY, State.EXPIRED)
        # No lease of an earlier task with this id may look like a lease of this one.
        above = new[TOKEN] > self.tokens_before.get(task_id, 0)
        if new[STATE] not in begins or not above or new[ATTEMPTS]:
            raise Broken("a task begins at the beginning", f"{task_id.hex()} {new}")
        self.granted[task_id] = new[TOKEN]

    def _check_change(self, task_id: bytes, old: Record, new: Record) -> None:
        where = f"{task_id.hex()} from {old} to {new}"
        if old[STATE] >= State.SUCCEEDED:
            raise Broken("what has ended is final", where)
        if any(old[place] != new[place] for place in NEVER_CHANGE):
            raise Broken("a task keeps its content", where)
        if new[STATE] in (State.LEASED, State.RUNNING):
            raise Broken("a lease is not in the record", where)
        if new[TOKEN] < old[TOKEN]:
            raise Broken("tokens only grow", where)
        if new[TOKEN] != self.granted.get(task_id, 0):
            raise Broken("only the present lease is settled", where)
        if new[DELIVERIES] != self.deliveries.get(task_id, 0):
            raise Broken("each delivery is counted", where)
        if not old[ATTEMPTS] <= new[ATTEMPTS] <= old[ATTEMPTS] + 1:
            raise Broken("an attempt is charged once", where)
        if new[CRASHES] > old[CRASHES] and new[STATE] < State.SUCCEEDED:
            self._check_crash(task_id, new, where)
        if new[ATTEMPTS] > self.attempts_max(new) or new[ATTEMPTS] > new[DELIVERIES]:
            raise Broken("attempts are bounded", where)
        if self.leases.pop(task_id, None) is not None:
            self.leased[new[HANDLER]] -= 1
        elif new[ATTEMPTS] != old[ATTEMPTS] and new[STATE] < State.SUCCEEDED:
            raise Broken("only a lease costs an attempt", where)

    def _check_crash(self, task_id: bytes, new: Record, where: str) -> None:
        if (task_id, new[TOKEN]) in self.unbegun:
            raise Broken("what has not begun does not crash", where)
        if new[CRASHES] >= self._plan.policies[self.names[new[HANDLER]]]["crashes_max"]:
            raise Broken("crashes are bounded", where)

    def attempts_max(self, record: Record) -> int:
        """Return how many attempts a task may cost."""
        options = record[OPTIONS] or {}
        policy = self._plan.policies[self.names[record[HANDLER]]]
        return int(options.get("attempts_max", policy["attempts_max"]))

    def _check_end(self, task_id: bytes, new: Record) -> None:
        where = f"{task_id.hex()} {new}"
        state = State(new[STATE])
        if not new[FINISHED]:
            raise Broken("an end has a time", where)
        if state is State.SUCCEEDED:
            if new[RESULT] is None or int.from_bytes(new[RESULT][1], "big") != new[TOKEN]:
                raise Broken("the result is of the last attempt", where)
        elif state is State.DEAD:
            self._check_death(new, where)
        elif state is State.EXPIRED:
            late = self.flushed_wall_ms + (WALL_JUMP_MS if self._plan.wall_jumps else 0)
            if not 0 < new[EXPIRES] <= late:
                raise Broken("nothing expires before its time", where)
            self._world.hit("expired_waiting" if not new[DELIVERIES] else "expired_after_attempt")

    def _check_death(self, new: Record, where: str) -> None:
        policy = self._plan.policies[self.names[new[HANDLER]]]
        error = new[ERROR]
        if error.startswith("crashed"):
            reason, holds = "crashes", new[CRASHES] >= policy["crashes_max"]
        elif "attempts used up" in error:
            reason, holds = "attempts", new[ATTEMPTS] >= self.attempts_max(new)
        elif error.startswith("deferred"):
            reason, holds = "deferrals", new[DEFERRALS] > policy["deferrals_max"]
        else:
            reason, holds = "fatal", error.startswith("fatal")
        if not holds:
            raise Broken("the dead have a reason", where)
        self._world.hit(f"dead_of_{reason}")

    def _take_removal(self, task_id: bytes, old: Record | None) -> None:
        if old is None:
            return
        if old[STATE] < State.SUCCEEDED:
            raise Broken("only what has ended is removed", f"{task_id.hex()} {old}")
        kept_ms = self._config.retention_ms(State(old[STATE]))
        if old[FINISHED] + kept_ms > self.flushed_wall_ms + WALL_JUMP_MS * self._plan.wall_jumps:
            raise Broken("the retention is kept", f"{task_id.hex()} {old}")
        del self.records[task_id]
        self.removed.add(task_id)
        self.tokens_before[task_id] = self.granted.pop(task_id)
        self.deliveries.pop(task_id, None)

    # --- Leases --------------------------------------------------------------------------------

    def _take_lease(self, task_id: bytes, token: int, holder: bytes) -> None:
        record = self.records.get(task_id)
        where = f"{task_id.hex()} token {token:#x}, record {record}"
        if record is None:
            raise Broken("only a task is leased", where)
        if record[STATE] != State.READY:
            raise Broken("only a ready task is leased", where)
        if task_id in self.leases:
            raise Broken("never two leases at once", f"{where}; also {self.leases[task_id]}")
        if token <= self.granted.get(task_id, 0) or token < self.epoch << 32:
            raise Broken("tokens only grow", f"{where}; before {self.granted.get(task_id, 0):#x}")
        if 0 < record[EXPIRES] <= self.flushed_wall_ms:
            raise Broken("no attempt after the expiry", where)
        self.leases[task_id] = (token, holder)
        self.just_granted.add(task_id)
        self.granted[task_id] = token
        self.deliveries[task_id] = self.deliveries.get(task_id, 0) + 1
        handler = record[HANDLER]
        self.leased[handler] = self.leased.get(handler, 0) + 1
        limit = self._plan.policies[self.names[handler]].get("concurrency", 0)
        if limit:
            if self.leased[handler] > limit:
                raise Broken("concurrency is limited", f"{self.names[handler]} {where}")
            if self.leased[handler] == limit:
                self._world.hit("concurrency_limit_reached")
        self._attempts.granted(task_id, token)

    # --- Questions -----------------------------------------------------------------------------

    def submitted(self, entry: Entry) -> None:
        """Take note of what an app submits."""
        contents = self.contents.setdefault(entry.id, {})
        contents[content_crc(entry.handler, entry.payload)] = entry

    def unended(self) -> list[bytes]:
        """Return the tasks that have not ended."""
        return [
            task_id for task_id, record in self.records.items() if record[STATE] < State.SUCCEEDED
        ]

    def holds(self, entry: Entry) -> bool:
        """Tell whether a task is in the store as it was submitted, or was and has been removed."""
        record = self.records.get(entry.id)
        if record is None or entry.id in self.removed:
            return entry.id in self.removed
        return bool(record[CRC] == content_crc(entry.handler, entry.payload))
