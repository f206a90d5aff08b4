"""Read a store as a stranger would, and say what in it breaks the promises of the layout.

Nothing here asks the core: records, leases and rows are taken from the bytes, and compared.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from coordinator.core import layout, records
from coordinator.core.handler import Handler
from coordinator.core.task import Task
from protocol.messages import State

Pairs = Mapping[bytes, bytes]


class Audit:
    """What a store holds at one moment between two commits."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.handlers: dict[int, Handler] = {}
        self.counts: dict[int, list[int]] = {}
        for key, value in self._rows(b"h"):
            name, _, counts = records.decode_list(key, value)
            number = layout.handler_of(key)
            self.handlers[number] = Handler(number, name)
            self.counts[number] = counts
        self.parks: dict[int, list[int]] = {}
        """Counts of each park."""
        for key, value in self._rows(b"k"):
            _, _, self.parks[layout.number_of(key)] = records.decode_list(key, value)
        self.gates: dict[tuple[str, str], str] = {
            layout.scope_of(key): records.decode_list(key, value)[0]
            for key, value in self._rows(b"o")
        }
        """What the gate on each scope does."""
        self.tasks: dict[bytes, Task] = {
            key[1:]: records.decode(key[1:], value, self.handlers.__getitem__)
            for key, value in self._rows(b"t")
        }
        self.leases: list[tuple[bytes, int]] = [
            (task_id, token)
            for key, value in self._rows(b"g")
            for task_id, token in layout.split_leases(key, value)[1]
            if self._lives(task_id, token)
        ]
        """Id and token of every lease that no record contradicts."""

    def _rows(self, letter: bytes) -> Iterator[tuple[bytes, bytes]]:
        return ((key, value) for key, value in self.pairs.items() if key[:1] == letter)

    def _lives(self, task_id: bytes, token: int) -> bool:
        task = self.tasks.get(task_id)
        return task is not None and task.state is State.READY and task.token < token

    def gates_on(self, task: Task) -> set[str]:
        """Return what the gates on a task do."""
        name = task.handler.name
        scopes = [("", ""), (name, ""), (name, task.collection or "")]
        return {self.gates[scope] for scope in scopes if scope in self.gates}

    def problems(self) -> list[str]:
        """Return everything that is wrong, as sentences."""
        return [
            *self._two_leases(),
            *self._missing_rows(),
            *self._wrong_counts(),
            *self._wrong_parks(),
            *self._wrong_payloads(),
            *self._wrongly_told(),
        ]

    def _two_leases(self) -> Iterator[str]:
        for task_id, times in Counter(task_id for task_id, _ in self.leases).items():
            if times > 1:
                yield f"{task_id.hex()} has {times} leases"

    def _missing_rows(self) -> Iterator[str]:
        leased = {task_id for task_id, _ in self.leases}
        ready = {
            (int.from_bytes(key[1:5], "big"), key[5], task_id)
            for key, value in self._rows(b"r")
            for task_id in layout.split_ids(key, value)
        }
        parked = {
            (layout.number_of(key), key[9], task_id)
            for key, value in self._rows(b"w")
            for task_id in layout.split_ids(key, value)
        }
        timers = {entry for row in self._rows(b"s") for entry in layout.split_timers(*row)}
        retained = {i for row in self._rows(b"x") for i in layout.split_ids(*row)}
        dead = {
            layout.dead_key(task.handler.number, task.finished_ms, task.id)
            for task in self.tasks.values()
            if task.state is State.DEAD
        }
        rows = {key for key, _ in self._rows(b"d")}
        for key in dead ^ rows:
            yield f"{key.hex()}: {'no row of' if key in dead else 'a row of no'} dead letter"
        for task_id, task in self.tasks.items():
            shown = f"{task.state.name} {task_id.hex()}"
            waits = task_id not in leased and not task.state.terminal
            place = (task.handler.number, task.priority, task_id)
            there = place in ready
            if self._park(task):
                there = (self._park(task), task.priority, task_id) in parked
            if task.state is State.READY and waits and not there:
                yield f"{shown} has no row of ready tasks"
            if (
                task.state is State.SCHEDULED
                and (task.due_ms, layout.TIMER_DUE, task_id) not in timers
            ):
                yield f"{shown} has no timer"
            expiry = (task.expires_ms, layout.TIMER_EXPIRE, task_id)
            if waits and task.expires_ms and expiry not in timers:
                yield f"{shown} has no timer for its expiry"
            if task.state.terminal and task_id not in retained:
                yield f"{shown} has no row of ended tasks"

    def _wrong_counts(self) -> Iterator[str]:
        leased = {task_id for task_id, _ in self.leases}
        for number, counts in self.counts.items():
            seen = [0] * 6
            for task_id, task in self.tasks.items():
                if task.handler.number != number or task_id in leased:
                    continue
                if task.state is State.READY and not self._park(task):
                    seen[task.priority] += 1
                seen[4] += task.state is State.SCHEDULED
                seen[5] += task.state is State.DEAD
            if seen != counts:
                yield f"handler {number} counts {counts}; there are {seen}"

    def _park(self, task: Task) -> int:
        """Return the park in which a ready task waits; 0 if it is in a queue of its handler."""
        park = 0 if task.told is None else task.told.park
        return park if park in self.parks else 0

    def _wrong_parks(self) -> Iterator[str]:
        leased = {task_id for task_id, _ in self.leases}
        for number, counts in self.parks.items():
            seen = [0] * 4
            for task_id, task in self.tasks.items():
                if task.state is State.READY and task_id not in leased:
                    seen[task.priority] += self._park(task) == number
            if seen != counts:
                yield f"park {number} counts {counts}; there are {seen}"

    def _wrong_payloads(self) -> Iterator[str]:
        stored = {key[1:] for key, _ in self._rows(b"p")}
        needed = {task_id for task_id, task in self.tasks.items() if task.payload_apart}
        for task_id in needed - stored:
            yield f"{task_id.hex()} has lost its payload"
        for task_id in stored - needed:
            yield f"the payload of {task_id.hex()} belongs to nobody"

    def _wrongly_told(self) -> Iterator[str]:
        leased = {task_id for task_id, _ in self.leases}
        for task_id, task in self.tasks.items():
            if task.cancelling and task_id not in leased:
                yield f"{task.state.name} {task_id.hex()} was cancelled, and no attempt has to stop"
            if task.told is not None and task.state.terminal:
                yield f"{task_id.hex()} has ended and keeps what was told of it"
