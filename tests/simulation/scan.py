"""Compare the coordinator's memory and its index rows with a full scan of the store.

Only when nothing is under way: then memory, rows and records must tell the same.
"""

from typing import TYPE_CHECKING

from coordinator.core import granting, layout, ledger, ready_queue, records, timers
from coordinator.core.gates import GateKind
from coordinator.core.parks import Park
from coordinator.core.shard import Shard
from protocol.messages import Priority, State
from tests.simulation.model import Model
from tests.simulation.record import (
    COLLECTION,
    DUE,
    EXPIRES,
    FINISHED,
    HANDLER,
    PAYLOAD,
    PAYLOAD_BYTES,
    PRIORITY,
    STATE,
    park_of,
)
from tests.simulation.world import Broken

if TYPE_CHECKING:
    from tests.simulation.coordinator_process import CoordinatorProcess

Pairs = dict[bytes, bytes]
FRESH_MAX = 200
"""Timers that may be set while others are being read; they are trimmed with the next ones."""
RETURNED_MAX = 10
"""Leases that come back at one time and make a window longer than it may grow."""
MANY_LEASES = 100
"""More than sessions hold in a run."""


def check(coordinator: "CoordinatorProcess", model: Model, wall_ms: int) -> None:
    """Compare everything."""
    pairs = coordinator.pairs
    shard = coordinator.shard
    _check_rows(shard, pairs, model, wall_ms)
    _check_dead_rows(pairs, model)
    _check_payloads(pairs, model)
    _check_leases(shard, model)
    _check_counts(shard, pairs, model)
    _check_sessions(shard, pairs, model)
    _check_orders(shard, model)
    _check_nothing_stalls(shard, model)


def _rows(pairs: Pairs, letter: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in pairs.items() if key[:1] == letter]


def _check_rows(shard: Shard, pairs: Pairs, model: Model, wall_ms: int) -> None:
    """An index row may be stale, but is never missing."""
    ready = {
        (layout.handler_of(key), key[5], task_id)
        for key, value in _rows(pairs, b"r")
        for task_id in layout.split_ids(key, value)
    }
    parked = {
        (layout.number_of(key), key[9], task_id)
        for key, value in _rows(pairs, b"w")
        for task_id in layout.split_ids(key, value)
    }
    parks = _parks(shard)
    due = {timer for row in _rows(pairs, b"s") for timer in layout.split_timers(*row)}
    leased = {lease for row in _rows(pairs, b"g") for lease in layout.split_leases(*row)[1]}
    ended = {task_id for row in _rows(pairs, b"x") for task_id in layout.split_ids(*row)}
    for task_id, record in model.records.items():
        state = record[STATE]
        lease = model.leases.get(task_id)
        if lease is not None:
            missing = (task_id, lease[0]) not in leased
        elif state == State.READY and park_of(record) in parks:
            missing = (park_of(record), record[PRIORITY], task_id) not in parked
        elif state == State.READY:
            missing = (record[HANDLER], record[PRIORITY], task_id) not in ready
        elif state == State.SCHEDULED:
            missing = (record[DUE], layout.TIMER_DUE, task_id) not in due
        else:
            missing = task_id not in ended
        if missing:
            raise Broken("no index row is missing", f"{task_id.hex()} {lease} {record}")
        may_expire = lease is None and state < State.SUCCEEDED and record[EXPIRES] > wall_ms
        if may_expire and (record[EXPIRES], layout.TIMER_EXPIRE, task_id) not in due:
            raise Broken("no index row is missing", f"expiry of {task_id.hex()} {record}")


def _parks(shard: Shard) -> dict[int, Park]:
    return {n: park for h in shard._ledger.handlers.values() for n, park in h.parks.items()}


def _check_dead_rows(pairs: Pairs, model: Model) -> None:
    """Dead letters have one row each, and nothing else has."""
    rows = {key for key in pairs if key[:1] == b"d"}
    dead = {
        layout.dead_key(record[HANDLER], record[FINISHED], task_id)
        for task_id, record in model.records.items()
        if record[STATE] == State.DEAD
    }
    if rows != dead:
        raise Broken("dead letters have their rows", f"{[key.hex() for key in rows ^ dead]}")


def _check_orders(shard: Shard, model: Model) -> None:
    """Memory knows each gate and each changed policy, and has done what gates that drop want."""
    core, orders = shard._ledger, model.orders
    memory = {scope: (gate.kind, gate.owner) for scope, gate in core.gates.by_scope.items()}
    store = {scope: (gate.kind, gate.owner) for scope, gate in orders.gates.items()}
    if memory != store:
        raise Broken("gates equal the store's", f"memory {memory}, store {store}")
    for handler in core.handlers.values():
        changed = {name: override.value for name, override in handler.overrides.items()}
        if changed != orders.overrides.get(handler.name, {}):
            raise Broken("policies equal the store's", f"{handler.name}: {changed}")
    if any(gate.sweeping for gate in core.gates.by_scope.values()):
        raise Broken("what a gate drops is looked for to the end", f"{core.gates.by_scope}")
    for task_id, record in model.records.items():
        if record[STATE] != State.READY or task_id in model.leases:
            continue
        gate = orders.holder(model.names[record[HANDLER]], record[COLLECTION])
        if gate is not None and gate.kind is GateKind.DROP:
            raise Broken("what a gate drops does not stay", f"{task_id.hex()} {record} {gate}")


def _check_payloads(pairs: Pairs, model: Model) -> None:
    apart = {key[1:] for key, _ in _rows(pairs, b"p")}
    wanted = {
        task_id
        for task_id, record in model.records.items()
        if record[PAYLOAD] is None and record[PAYLOAD_BYTES]
    }
    if apart != wanted:
        differ = [task_id.hex() for task_id in apart ^ wanted]
        raise Broken("payloads apart are those of tasks", f"{differ}")


def _check_leases(shard: Shard, model: Model) -> None:
    memory = {task_id: task.token for task_id, task in shard._ledger.leased.items()}
    store = {task_id: token for task_id, (token, _) in model.leases.items()}
    if memory != store:
        raise Broken("leases equal the store's", f"memory {memory}, store {store}")


def _check_counts(shard: Shard, pairs: Pairs, model: Model) -> None:
    counted: dict[int, list[int]] = {}
    leased: dict[int, int] = {}
    parks = _parks(shard)
    parked = {number: [0] * len(Priority) for number in parks}
    for task_id, record in model.records.items():
        counts = counted.setdefault(record[HANDLER], [0] * (len(Priority) + 2))
        if task_id in model.leases:
            leased[record[HANDLER]] = leased.get(record[HANDLER], 0) + 1
        elif record[STATE] == State.READY:
            own = parked.get(park_of(record), counts)
            own[record[PRIORITY]] += 1
        elif record[STATE] == State.SCHEDULED:
            counts[-2] += 1
        elif record[STATE] == State.DEAD:
            counts[-1] += 1
    for number, handler in shard._ledger.handlers_by_number.items():
        scanned = counted.get(number, [0] * (len(Priority) + 2))
        key = layout.handler_key(number)
        stored = records.decode_list(key, pairs[key])[2]
        if not scanned == handler.counts() == stored:
            raise Broken(
                "counts equal a scan",
                f"{handler.name}: {scanned}, memory {handler.counts()}, stored {stored}",
            )
        if handler.leased != leased.get(number, 0):
            raise Broken(
                "counts equal a scan", f"{handler.name}: {handler.leased} leased, {leased}"
            )
    stored_parks = {
        layout.number_of(key): records.decode_list(key, value)[2]
        for key, value in _rows(pairs, b"k")
    }
    memory = {number: park.counts() for number, park in parks.items()}
    if not parked == memory == stored_parks:
        raise Broken(
            "counts equal a scan", f"parks: {parked}, memory {memory}, stored {stored_parks}"
        )


def _check_sessions(shard: Shard, pairs: Pairs, model: Model) -> None:
    sessions = shard._ledger.sessions
    memory = set(sessions._by_incarnation)
    store = {key[1:] for key, _ in _rows(pairs, b"n")}
    if memory != store:
        raise Broken("sessions equal the store's", f"memory {memory}, store {store}")
    for session in sessions:
        if (session.drain is not None) != (session.sidecar in model.orders.drains):
            raise Broken("drains equal the store's", f"{session.sidecar}: {session.drain}")
    held: dict[bytes, int] = {}
    for task in shard._ledger.leased.values():
        if task.session is None:
            raise Broken("a lease has a session", task.id.hex())
        held[task.session.incarnation] = held.get(task.session.incarnation, 0) + 1
    for incarnation, session in sessions._by_incarnation.items():
        if session.leases != held.get(incarnation, 0):
            raise Broken("a session counts its leases", f"{session.leases}, {held}")
    waits = sum(session.waits for session in sessions._by_incarnation.values())
    if waits != shard._ledger.waits._open:
        raise Broken("sessions count their waits", f"{waits}, {shard._ledger.waits._open}")


def _check_nothing_stalls(shard: Shard, model: Model) -> None:
    """What is ready, asked for and allowed has been granted."""
    waiting: dict[int, int] = {}
    for task_id, record in model.records.items():
        if record[STATE] == State.READY and task_id not in model.leases:
            number = record[HANDLER]
            if model.orders.holder(model.names[number], record[COLLECTION]) is None:
                waiting[number] = waiting.get(number, 0) + 1
    for handler in shard._ledger.handlers.values():
        asking = [s for s in handler.sessions if s.demand(handler) > 0]
        if set(asking) != set(handler.rotation) or len(asking) != len(handler.rotation):
            raise Broken("who asks is in turn, once", f"{handler.name}")
        # A session that was full is given more at its next heartbeat.
        room = granting.HELD_LEASES_MAX > MANY_LEASES  # type: ignore[attr-defined]
        if asking and room and waiting.get(handler.number) and handler.free() > 0:
            raise Broken(
                "nothing ready waits for nothing",
                f"{handler.name}: {waiting[handler.number]} ready, {handler.live} in memory, "
                f"{len(asking)} sessions ask",
            )


def check_bounds(shard: Shard) -> None:
    """Check that memory is bounded, at each quiet moment."""
    core = shard._ledger
    if core._then or core._saved_since or shard._submissions._checking:
        raise Broken("nothing is under way", f"{core._then} {shard._submissions._checking}")
    if shard._submissions._checking_bytes:
        raise Broken("nothing is under way", f"{shard._submissions._checking_bytes} bytes")
    loaded = granting.LOAD_ROWS * layout.ROW_ENTRIES_MAX
    leases_max = 200 + len(core.leased)
    for handler in core.handlers.values():
        for queue in handler.all_queues:
            if not 0 <= queue.live <= queue.count:
                raise Broken("counts are sound", f"{handler.name} {queue.live} {queue.count}")
            if queue.live > ready_queue.WINDOW_MAX + loaded + leases_max:
                raise Broken("windows are bounded", f"{handler.name} {queue.live} live")
            gone = len(queue.window) - queue.live
            if gone > ready_queue.WINDOW_MAX + loaded + ready_queue.SLACK + RETURNED_MAX:
                raise Broken(
                    "windows are bounded",
                    f"{handler.name}: {len(queue.window)} in the window, {queue.live} live",
                )
    if len(core.waiting) != sum(
        queue.live for handler in core.handlers.values() for queue in handler.all_queues
    ):
        raise Broken("what waits in memory is in a window", f"{len(core.waiting)}")
    if len(core.waiting) > ledger.LIVE_MAX + loaded * len(core.handlers) * 4 + leases_max:
        raise Broken("windows are bounded", f"{len(core.waiting)} wait in memory")
    heap = len(core.timers._heap)
    if heap > timers.WINDOW_MAX + 2 * timers.LOAD_ROWS * layout.ROW_ENTRIES_MAX + FRESH_MAX:
        raise Broken("windows are bounded", f"{heap} timers")
