"""What operators are told of a shard, taken from its memory: nothing here changes anything.

Rows are frozen values made of plain types: the HTTP side turns them into JSON, and its OpenAPI
document is made from their fields. Times of day are milliseconds since 1970, 0 where there is none.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.core.effects import Now
from coordinator.core.figures import AttemptResult, percentile_ms
from coordinator.core.gate_view import (
    GateRow,
    OverrideRow,
    gate_of_handler,
    gate_row,
    override_rows,
)
from coordinator.core.handler import Handler
from coordinator.core.ledger import Ledger
from coordinator.core.rates import Rates
from coordinator.core.scaling import load_of, wanted
from protocol.messages import Priority, State

_ENDS = tuple(state for state in State if state.terminal)


@dataclass(frozen=True, slots=True)
class HandlerRow:
    """One handler, as a list shows it."""

    name: str
    ready: int
    scheduled: int
    leased: int
    dead: int
    """Dead letters that are kept."""
    oldest_ready_ms: int | None
    """How long its oldest ready task that no gate holds has been due; null if there is none, or if
    all are in the store."""
    start_within_ms: int
    """The objective: a task is leased so soon after it is due; 0 is none."""
    late: int
    """Leases since the start that began later."""
    in_per_second: float
    out_per_second: float
    dead_per_second: float
    wait_p50_ms: int | None
    """From due to leased, over the last minute, as the upper end of a power-of-two bucket; null if
    nothing was leased."""
    wait_p99_ms: int | None
    run_p50_ms: int | None
    run_p99_ms: int | None
    sidecars: int
    """How many serve it."""
    demand: int
    """How many more tasks they would take now."""
    desired: int
    """How many sidecars it wants; see /v1/scale."""
    gate: str
    """pause or drop: of all of it; collections: of some; empty: no gate is set."""
    held: int
    """Ready tasks that gates are known to hold."""


@dataclass(frozen=True, slots=True)
class HandlerDetail:
    """All that is known of one handler."""

    handler: HandlerRow
    ready_by_priority: dict[str, int]
    submitted: int
    """Accepted since the start, as all that follows."""
    finished: dict[str, int]
    attempts: dict[str, int]
    policy: dict[str, int]
    """The policy in effect."""
    declared: dict[str, int]
    """What its owner has changed of the default policy."""
    overrides: dict[str, OverrideRow]
    """What operators have changed of it, by field."""
    gates: list[GateRow]
    """Those that hold it, or a collection of it."""
    served_by: list[str]


def handler_rows(ledger: Ledger, rates: Rates, now: Now) -> list[HandlerRow]:
    """Return all handlers, by name."""
    handlers = sorted(ledger.handlers.values(), key=lambda handler: handler.name)
    return [handler_row(handler, rates, now) for handler in handlers]


def handler_row(handler: Handler, rates: Rates, now: Now) -> HandlerRow:
    """Return one handler's row."""
    figures = handler.figures
    rate, spread = rates.of(now.ms, handler), rates.spread(now.ms, handler)
    return HandlerRow(
        name=handler.name,
        ready=handler.ready,
        scheduled=handler.scheduled,
        leased=handler.leased,
        dead=handler.dead,
        oldest_ready_ms=oldest_ready_ms(handler, now),
        start_within_ms=handler.policy.start_within_ms,
        late=figures.late,
        in_per_second=rate.submitted,
        out_per_second=rate.finished,
        dead_per_second=rate.dead,
        wait_p50_ms=percentile_ms(spread.wait, 50),
        wait_p99_ms=percentile_ms(spread.wait, 99),
        run_p50_ms=percentile_ms(spread.run, 50),
        run_p99_ms=percentile_ms(spread.run, 99),
        sidecars=len(handler.sessions),
        demand=sum(session.demand(handler) for session in handler.rotation),
        desired=wanted(load_of(handler, rates, now)).desired,
        gate=gate_of_handler(handler),
        held=handler.held,
    )


def handler_detail(ledger: Ledger, handler: Handler, rates: Rates, now: Now) -> HandlerDetail:
    """Return all that is known of one handler."""
    figures, policy = handler.figures, handler.policy
    return HandlerDetail(
        handler=handler_row(handler, rates, now),
        ready_by_priority={
            priority.name.lower(): sum(
                queue.count for queue in handler.all_queues if queue.priority == priority
            )
            for priority in Priority
        },
        submitted=figures.submitted,
        finished={state.name.lower(): figures.finished[state] for state in _ENDS},
        attempts={result.name.lower(): figures.attempts[result] for result in AttemptResult},
        policy={name: getattr(policy, name) for name in policy.__slots__},
        declared=handler.declared.changes(),
        overrides=override_rows(handler),
        gates=[
            gate_row(ledger, gate)
            for scope, gate in sorted(ledger.gates.by_scope.items())
            if scope.handler in ("", handler.name)
        ],
        served_by=sorted(session.sidecar for session in handler.sessions),
    )


def oldest_ready_ms(handler: Handler, now: Now) -> int | None:
    """Return how long the oldest ready task in memory that no gate holds has been due.

    Each queue is in the order in which tasks became ready, so its head tells. Of a queue that lies
    in the store only, as after a start, nothing is known here.
    """
    heads = [
        head for queue in handler.open_queues if queue.live and (head := queue.head()) is not None
    ]
    return max(0, now.wall_ms - min(head.due_ms for head in heads)) if heads else None


def totals(handlers: Iterable[Handler]) -> dict[str, int]:
    """Return how many tasks are in each state that is counted."""
    ready = scheduled = leased = dead = 0
    for handler in handlers:
        ready += handler.ready
        scheduled += handler.scheduled
        leased += handler.leased
        dead += handler.dead
    return {"ready": ready, "scheduled": scheduled, "leased": leased, "dead": dead}
