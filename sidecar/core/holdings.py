"""The leases this sidecar holds: waiting here for room at a service, or handed over to one.

A lease leaves by exactly one of: an outcome (told by the service, or made here when the service
cannot tell it any more), or its end at the coordinator, after which no outcome of it counts.
"""

from collections.abc import Iterable, Iterator

from protocol.messages import (
    GrantedTask,
    Group,
    Lease,
    Limit,
    Outcome,
    OutcomeKind,
    Revoked,
    Running,
)
from sidecar.core.endings import abandoned, returned, unanswered
from sidecar.core.lane import Key, Lane, Standing
from sidecar.core.sharing import share
from sidecar.core.terms import NEVER_MS
from sidecar.core.witness import Witness

_LEASE_STANDS = (Standing.TIMED_OUT, Standing.CANCELLED)

Revocations = list[tuple[int, Revoked]]
"""Whom to tell, and what."""


class Holdings:
    """All leases held, the lanes of all connections, and the tasks that wait for room.

    Invariant: a live lease stands once: in ``_buffered``, or in the lane that ``_where`` of its
    connection names, there either in ``waiting`` or in ``begun``.
    """

    def __init__(self, cancel_grace_ms: int, witness: Witness | None = None) -> None:
        self._witness = witness or Witness()
        self._cancel_grace_ms = cancel_grace_ms
        self._lanes: dict[str, list[Lane]] = {}
        self._where: dict[int, dict[Key, Lane]] = {}
        self._buffered: dict[str, list[GrantedTask]] = {}
        self.due_ms = NEVER_MS
        """Not later than the next timeout of an attempt; an earlier value costs one look."""
        self.late = 0
        """Outcomes that came after their lease had ended."""
        self._stuck: dict[int, bool] = {}
        self._stopping = False

    # --- Connections ---------------------------------------------------------------------------

    def open(self, connection: int, slots: Iterable[Limit], *, killable: bool = False) -> None:
        """Add the lanes of a service that has attached."""
        self._where[connection] = {}
        for handler, count in slots:
            lane = Lane(connection, handler, count, killable=killable)
            self._lanes.setdefault(handler, []).append(lane)

    def lane(self, connection: int, handler: str) -> Lane | None:
        """Return the lane of a handler on a connection."""
        for lane in self._lanes.get(handler, ()):
            if lane.connection == connection:
                return lane
        return None

    def serves(self, handler: str) -> bool:
        """Tell whether any connection serves a handler."""
        return handler in self._lanes

    def close(self, now_ms: int, connection: int) -> tuple[list[Outcome], list[Outcome]]:
        """Remove a connection that has ended.

        Returns:
            The outcomes of attempts that may have begun, and those of tasks that have not.
        """
        begun: list[Outcome] = []
        unused: list[Outcome] = []
        self._stuck.pop(connection, None)
        if self._where.pop(connection, None) is None:
            return begun, unused
        for lane in [x for x in self._all_lanes() if x.connection == connection]:
            lanes = self._lanes[lane.handler]
            lanes.remove(lane)
            begun += abandoned(now_ms, lane)
            unused += [Outcome(*key, OutcomeKind.RETURNED, 0, None) for key in lane.waiting]
            if not lanes:
                del self._lanes[lane.handler]
                unused += returned(self._buffered.pop(lane.handler, ()))
        return begun, unused

    def _all_lanes(self) -> Iterator[Lane]:
        for lanes in self._lanes.values():
            yield from lanes

    # --- Tasks ---------------------------------------------------------------------------------

    def grant(self, groups: list[Group]) -> list[Outcome]:
        """Take leased tasks; return outcomes for those that no service is there for."""
        outcomes: list[Outcome] = []
        for handler, tasks in groups:
            if handler not in self._lanes:
                outcomes += returned(tasks)
            elif handler in self._buffered:
                self._buffered[handler] += tasks
            elif tasks:
                self._buffered[handler] = tasks
        return outcomes

    def dispatch(self, now_ms: int) -> list[tuple[int, Group]]:
        """Hand over what services have room for; return who gets what."""
        handed: list[tuple[int, Group]] = []
        for handler in list(self._buffered):
            tasks = self._buffered[handler]
            count = 0
            for lane, part in share(tasks, self._lanes[handler]):
                keys: list[Key] = [task[:2] for task in part]
                self._where[lane.connection].update(dict.fromkeys(keys, lane))
                self.due_ms = min(self.due_ms, lane.hand(now_ms, part, keys))
                handed.append((lane.connection, Group(handler, part)))
                count += len(part)
            if count == len(tasks):
                del self._buffered[handler]
            elif count:
                self._buffered[handler] = tasks[count:]
        return handed

    def falling(self, handler: str) -> bool:
        """Tell whether all services of a handler have lowered their demand since they raised it."""
        lanes = self._lanes.get(handler)
        return lanes is not None and all(lane.falling for lane in lanes)

    def unwanted(self) -> list[Outcome]:
        """Give back what waits for services that have lowered their demand.

        Its grant and the lower demand crossed. Nobody can say when they will want it: the only
        reader of a pull handler may have left.
        """
        outcomes: list[Outcome] = []
        for handler in [x for x in self._buffered if self.falling(x)]:
            outcomes += returned(self._buffered.pop(handler))
        return outcomes

    def settle(
        self, now_ms: int, connection: int, outcomes: list[Outcome]
    ) -> tuple[list[Outcome], list[tuple[str, int]]]:
        """Take outcomes that a service tells.

        Returns:
            The outcomes that count, and how many tasks of each handler are finished.
        """
        if self._witness.listens:
            self._witness.saw(self._began_ms([o[:2] for o in outcomes], connection))
        where = self._where[connection]
        counted = []
        touched: dict[Lane, None] = {}
        for outcome in outcomes:
            key = outcome[:2]
            lane = where.pop(key, None)
            if lane is None:
                self.late += 1
                continue
            touched[lane] = None
            lane.done += 1
            stamp = lane.begun.pop(key, None)
            if stamp is None:
                del lane.waiting[key]
            elif stamp[2]:  # Anything but LIVE, the common case.
                if stamp[2] is Standing.GONE:
                    self.late += 1
                    continue
                if stamp[2] is Standing.STOPPED and outcome[2] is not OutcomeKind.SUCCESS:
                    counted.append(Outcome(*key, OutcomeKind.RETURNED, outcome[3], None))
                    continue
            counted.append(outcome)
        for lane in touched:
            self.due_ms = min(self.due_ms, lane.begin(now_ms))
        return counted, [(lane.handler, lane.take_done()) for lane in touched]

    def _began_ms(self, keys: Iterable[Key], connection: int | None = None) -> dict[Key, int]:
        """Return when attempts began, on one connection or any: of those that go on."""
        places = self._where.values() if connection is None else (self._where[connection],)
        stamps = [(k, where[k].begun.get(k)) for where in places for k in keys if k in where]
        return {
            key: stamp.since_ms
            for key, stamp in stamps
            if stamp is not None and stamp.standing is not Standing.GONE
        }

    # --- The end of leases ---------------------------------------------------------------------

    def revoke(self, leases: Iterable[Key], reason: str, stop_by_ms: int = NEVER_MS) -> Revocations:
        """End leases that are not ours any more; return whom to tell.

        In a supervised process an attempt must have ended by ``stop_by_ms``, and by when its
        timeout and the grace have passed.
        """
        if self._witness.listens:
            leases = [(lease[0], lease[1]) for lease in leases]
            self._witness.lost(leases, self._began_ms(leases), reason)
        told: Revocations = []
        elsewhere = set()
        for lease in leases:
            key = (lease[0], lease[1])
            for connection, where in self._where.items():
                lane = where.get(key)
                if lane is not None:
                    if self._end(where, lane, key, stop_by_ms):
                        told.append((connection, Revoked(*key, reason)))
                    break
            else:
                elsewhere.add(key)
        if elsewhere:
            self._drop_buffered(elsewhere)
        return told

    def void(self, reason: str, stop_by_ms: int) -> Revocations:
        """End every lease; return whom to tell."""
        self._buffered.clear()
        held = [key for where in self._where.values() for key in where]
        return self.revoke(held, reason, stop_by_ms)

    def _end(self, where: dict[Key, Lane], lane: Lane, key: Key, stop_by_ms: int) -> bool:
        """End one lease that was handed over; return whether it had not ended before."""
        if key in lane.waiting:
            if lane.killable and lane.first_waiting == key:
                lane.end_first_waiting(stop_by_ms)
                self.due_ms = min(self.due_ms, stop_by_ms)
            else:
                # It has not begun and will not, so that no slot is taken by it.
                del lane.waiting[key], where[key]
            return True
        stamp = lane.begun[key]
        if stamp.standing is Standing.GONE:
            return False
        if lane.killable:
            stop_by_ms = min(stop_by_ms, stamp.due_ms + self._cancel_grace_ms)
            lane.end(key, stop_by_ms)
            self.due_ms = min(self.due_ms, stop_by_ms)
        else:
            lane.end(key)
        return True

    def _drop_buffered(self, keys: set[Key]) -> None:
        for handler, tasks in list(self._buffered.items()):
            kept = [task for task in tasks if task[:2] not in keys]
            if kept:
                self._buffered[handler] = kept
            else:
                del self._buffered[handler]

    def overdue(self, now_ms: int) -> tuple[Revocations, list[Outcome]]:
        """Revoke attempts whose timeout has passed; speak for those that stay silent after it."""
        told: Revocations = []
        outcomes: list[Outcome] = []
        if now_ms < self.due_ms:
            return told, outcomes
        self.due_ms = NEVER_MS
        for lane in self._all_lanes():
            for key, stamp in list(lane.begun.items()):
                if now_ms < stamp.due_ms:
                    pass
                elif stamp.standing is Standing.LIVE or (
                    stamp.standing is Standing.CANCELLED and not lane.killable
                ):
                    told.append((lane.connection, Revoked(*key, "timeout")))
                    lane.revoke(key, Standing.TIMED_OUT, now_ms + self._cancel_grace_ms)
                elif lane.killable:
                    self._condemn(lane, key)
                else:
                    outcomes.append(unanswered(now_ms, lane, key))
                    lane.end(key)
                self.due_ms = min(self.due_ms, lane.begun[key].due_ms)
        return told, outcomes

    def _condemn(self, lane: Lane, key: Key) -> None:
        """Note that a process must end, since an attempt in it does not stop.

        Nothing is told of the attempt until the process is gone. While its lease stands the others
        in the process have time to end; where leases are gone no time is left.
        """
        standing = lane.begun[key].standing
        at_once = standing not in _LEASE_STANDS or self._stopping
        lane.revoke(key, standing, NEVER_MS)
        self._stuck[lane.connection] = self._stuck.get(lane.connection, False) or at_once
        for other in self._all_lanes():
            other.condemned = other.condemned or other.connection == lane.connection

    def take_stuck(self) -> dict[int, bool]:
        """Return the connections whose processes must end, and whether at once; forget them."""
        stuck, self._stuck = self._stuck, {}
        return stuck

    # --- Cancelling ----------------------------------------------------------------------------

    def holds(self, connection: int, key: Key) -> bool:
        """Tell whether a lease is live on a connection."""
        lane = self._where[connection].get(key)
        if lane is None:
            return False
        stamp = lane.begun.get(key)
        return stamp is None or stamp.standing is not Standing.GONE

    def cancel(self, now_ms: int, keys: Iterable[Key]) -> tuple[Revocations, list[Outcome]]:
        """Stop attempts of cancelled tasks. Their leases stand until it is told what they came to.

        What has not begun by the rule of the lane may have begun in truth, since an outcome may be
        on its way: the service knows, and answers in either case.
        """
        told: Revocations = []
        outcomes: list[Outcome] = []
        for key in keys:
            for connection, where in self._where.items():
                lane = where.get(key)
                if lane is None:
                    continue
                stamp = lane.begun.get(key)
                if stamp is None or stamp.standing is Standing.LIVE:
                    told.append((connection, Revoked(*key, "cancelled")))
                if stamp is not None and stamp.standing is Standing.LIVE:
                    self._cancel(now_ms, lane, key)
                break
            else:
                outcomes += self._take_buffered(key)
        return told, outcomes

    def _cancel(self, now_ms: int, lane: Lane, key: Key) -> None:
        due_ms = lane.begun[key].due_ms
        if lane.killable:
            due_ms = min(due_ms, now_ms + self._cancel_grace_ms)
            self.due_ms = min(self.due_ms, due_ms)
        lane.revoke(key, Standing.CANCELLED, due_ms)

    def _take_buffered(self, key: Key) -> list[Outcome]:
        for tasks in self._buffered.values():
            for task in tasks:
                if task[:2] == key:
                    self._drop_buffered({key})
                    return returned([task])
        return []

    # --- Stopping ------------------------------------------------------------------------------

    def give_back(self) -> list[Outcome]:
        """Return what waits here to the coordinator."""
        outcomes = [x for tasks in self._buffered.values() for x in returned(tasks)]
        self._buffered.clear()
        return outcomes

    def recall(self) -> list[tuple[int, list[Lease]]]:
        """Return what services shall give back: all that has not begun."""
        return [
            (lane.connection, [Lease(*key) for key in lane.waiting])
            for lane in self._all_lanes()
            if lane.waiting
        ]

    def stop(self, now_ms: int, due_ms: int) -> tuple[Revocations, list[Outcome]]:
        """Revoke all attempts, which have until ``due_ms`` to say what they came to."""
        self._stopping = True
        told: Revocations = []
        outcomes: list[Outcome] = []
        for lane in self._all_lanes():
            where = self._where[lane.connection]
            for key in list(lane.waiting):
                del lane.waiting[key], where[key]
                outcomes.append(Outcome(*key, OutcomeKind.RETURNED, 0, None))
                told.append((lane.connection, Revoked(*key, "stopping")))
            for key, stamp in list(lane.begun.items()):
                if stamp.standing in (Standing.LIVE, Standing.CANCELLED):
                    lane.revoke(key, Standing.STOPPED, due_ms)
                    told.append((lane.connection, Revoked(*key, "stopping")))
                elif stamp.standing is not Standing.GONE:
                    lane.revoke(key, stamp.standing, min(stamp.due_ms, due_ms))
        self.due_ms = min(self.due_ms, due_ms)
        return told, outcomes

    # --- Facts ---------------------------------------------------------------------------------

    def leases(self) -> list[Lease]:
        """Return every lease held."""
        buffered = [Lease(t[0], t[1]) for tasks in self._buffered.values() for t in tasks]
        return buffered + [Lease(*key) for lane in self._all_lanes() for key in lane.live()]

    def begun_since(self, now_ms: int, since_ms: int) -> list[Running]:
        """Return the attempts that began at ``since_ms`` or later and go on."""
        return [
            Running(*key, now_ms - stamp.since_ms)
            for lane in self._all_lanes()
            for key, stamp in lane.begun.items()
            if stamp.since_ms >= since_ms and stamp.standing is not Standing.GONE
        ]

    def room(self, handler: str) -> int:
        """Return what services take of a handler now, less what waits here; may be negative."""
        room = sum([lane.room for lane in self._lanes.get(handler, ())])
        return room - len(self._buffered.get(handler, ()))

    def counts(self) -> dict[str, int]:
        """Return how many leases stand where."""
        lanes = list(self._all_lanes())
        gone = [1 for x in lanes for stamp in x.begun.values() if stamp.standing is Standing.GONE]
        return {
            "tasks_buffered": sum(len(tasks) for tasks in self._buffered.values()),
            "tasks_at_services": sum(len(lane.waiting) for lane in lanes),
            "tasks_running": sum(len(lane.begun) for lane in lanes) - len(gone),
            "slots_taken_by_ended_leases": len(gone),
        }

    @property
    def empty(self) -> bool:
        """Whether no lease is held."""
        return not self._buffered and not any(
            True for lane in self._all_lanes() for _ in lane.live()
        )
