"""A change of many tasks as it is kept: which tasks, what is done to them, and how far it is.

Its row is written in the commit that changes the tasks, so a start goes on exactly behind the last
of them. What is kept of one that has ended is the same.
"""

from dataclasses import dataclass, field
from typing import Any

from coordinator.core import layout, records
from coordinator.core.effects import Now
from coordinator.core.filters.language import Filter, parse
from coordinator.core.listing import Cursor
from coordinator.core.operations import Action, By

RATE, RATE_MAX = 1_000, 10_000
"""Tasks a second: what is usual, and the most."""
RUNNING = "running"
DONE = "done"
STOPPED = "stopped"
INTERRUPTED = "interrupted"
_STATES = {
    Action.CANCEL: "state=scheduled,ready,leased,running",
    Action.RESCHEDULE: "state=scheduled,ready",
    Action.REQUEUE: "state=dead",
    Action.PURGE: "state=dead",
}


@dataclass(slots=True)
class Bulk:
    """One change of many tasks."""

    number: int
    action: Action
    filter: str
    """As it was asked for; ``meant`` adds the states to which the action can be done."""
    by: By
    at_ms: int
    rate: int
    expected: int
    exact: bool
    created_ms: int
    state: str = RUNNING
    ended_ms: int = 0
    why: str = ""
    """Why it does not run any more, where that needs saying."""
    scanned: int = 0
    changed: int = 0
    skipped: int = 0
    """Tasks that were meant, but could not be changed when their turn came."""
    resumed: int = 0
    """How often a start has gone on with it."""
    cursor: Cursor | None = None
    whole: bool = False
    """Whether nothing is left behind the cursor."""
    pending: list[bytes] = field(default_factory=list)
    """Tasks before the cursor that are still to be looked at."""
    # Not in its row.
    next_ms: int = 0
    """When its next tasks may be changed, by the clock that does not step."""
    slices: int = 0


@dataclass(frozen=True, slots=True)
class OperationRow:
    """A change of many tasks."""

    number: int
    action: str
    filter: str
    state: str
    """running, done, stopped, or interrupted: it cannot go on, and why says what to do."""
    why: str
    owner: str
    reason: str
    created_ms: int
    ended_ms: int
    at_ms: int
    """To when tasks are rescheduled."""
    rate: int
    """Tasks a second, at most."""
    expected: int
    """How many tasks were meant when it was asked for."""
    exact: bool
    """Whether those were all; otherwise there were at least so many."""
    scanned: int
    """Tasks that were looked at."""
    changed: int
    skipped: int
    """Tasks that were meant, but had changed when their turn came."""
    resumed: int
    """How often a start of the coordinator has gone on with it."""


def meant(action: Action, text: str) -> Filter:
    """Return the filter of the tasks to which something can be done.

    Raises:
        FilterError: The text is no filter.
    """
    return parse(f"{text} {_STATES[action]}")


def row_of(bulk: Bulk) -> OperationRow:
    """Return what operators see."""
    return OperationRow(
        number=bulk.number,
        action=bulk.action.value,
        filter=bulk.filter,
        state=bulk.state,
        why=bulk.why,
        owner=bulk.by.owner,
        reason=bulk.by.reason,
        created_ms=bulk.created_ms,
        ended_ms=bulk.ended_ms,
        at_ms=bulk.at_ms,
        rate=bulk.rate,
        expected=bulk.expected,
        exact=bulk.exact,
        scanned=bulk.scanned,
        changed=bulk.changed,
        skipped=bulk.skipped,
        resumed=bulk.resumed,
    )


def encode(bulk: Bulk) -> tuple[bytes, bytes]:
    """Return key and value of its row."""
    at = bulk.cursor
    fields: list[Any] = [
        *(bulk.action.value, bulk.filter, bulk.by.owner, bulk.by.reason, bulk.at_ms, bulk.rate),
        *(bulk.expected, bulk.exact, bulk.created_ms, bulk.state, bulk.ended_ms, bulk.why),
        *(bulk.scanned, bulk.changed, bulk.skipped, bulk.resumed),
        None if at is None else [at.plan, at.now_ms, at.key, at.skip],
        *(bulk.whole, bulk.pending),
    ]
    key = layout.bulk_key(bulk.number)
    return key, records.encode_list(key, fields)


def decode(key: bytes, value: bytes, now: Now) -> Bulk:
    """Return the bulk in a row; one whose row is damaged is interrupted."""
    number = layout.number_of(key)
    try:
        action, text, owner, reason, *rest = records.decode_list(key, value)
        at_ms, rate, expected, exact, created_ms, state, ended_ms, why, *counts = rest
        scanned, changed, skipped, resumed, cursor, whole, pending = counts
        bulk = Bulk(
            *(number, Action(action), text, By(owner, reason), at_ms, rate, expected, exact),
            *(created_ms, state, ended_ms, why, scanned, changed, skipped, resumed),
        )
        bulk.cursor = None if cursor is None else Cursor(*cursor)
        bulk.whole, bulk.pending = whole, pending
    except (layout.Damaged, TypeError, ValueError):
        bulk = Bulk(number, Action.CANCEL, "", By(""), 0, RATE, 0, False, now.wall_ms)
        bulk.state, bulk.ended_ms = INTERRUPTED, now.wall_ms
        bulk.why = "its row was damaged: what it was, and how far it came, is not known"
    return bulk
