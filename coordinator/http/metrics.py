"""What Prometheus is told: the core's counters under the names that docs/operations.md lists.

Labels never have task ids. At most ``HANDLERS_MAX`` handlers are told by themselves, those that
were made first; the others are summed up as ``other``, so that what a scrape holds is bounded.
"""

import asyncio
import os
import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from coordinator.core import overview, scaling, sidecar_view
from coordinator.core.effects import Now
from coordinator.core.figures import BUCKETS, AttemptResult, Figures
from coordinator.core.gates import GateKind
from coordinator.core.handler import Handler
from coordinator.http.access import Access
from coordinator.http.exposition import MEDIA_TYPE, Exposition, Labels
from coordinator.http.oldest import oldest_of
from coordinator.http.routes import Request, Text
from protocol.messages import State
from protocol.version import SOFTWARE

HANDLERS_MAX = 200
OTHER = "other"
STALE_MS = 5_000
"""The store is measured again for a scrape when that was longer ago."""
MEASURE_SECONDS = 0.5
"""Longest a scrape waits for that: a disk that hangs must not hide everything else."""
_SECONDS = [2**bucket / 1_000 for bucket in range(BUCKETS)]
_COMMIT_SECONDS = [2**bucket / 1_000_000 for bucket in range(6, 24)]
_COMMIT_WRITES = [float(2**bucket - 1) for bucket in range(1, 18)]
_COUNTED = {
    "pillion_redelivered_total": ("redelivered", "Tasks ready again since their lease ended."),
    "pillion_fenced_total": ("stale_token", "Outcomes refused since a later lease was granted."),
    "pillion_sessions_expired_total": ("session_expired", "Sidecars that were heard no more."),
    "pillion_leases_expired_total": ("lease_expired", "Leases that ended with their session."),
}


class _Group:
    """The handlers under one label."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures = Figures()
        self.handlers: list[Handler] = []

    @property
    def alone(self) -> Handler | None:
        """The handler that it stands for, unless it is the sum of several."""
        return self.handlers[0] if len(self.handlers) == 1 else None


async def scrape(access: Access, _request: Request) -> Text:
    """Return all metrics."""
    now = access.now()
    if now.ms - access.observation.measured_ms > STALE_MS:
        await asyncio.wait({asyncio.ensure_future(access.measure())}, timeout=MEASURE_SECONDS)
    lag = await _loop_lag()
    handlers = sorted(access.ledger.handlers.values(), key=lambda handler: handler.number)
    ages = await oldest_of(access, handlers, now)
    out = Exposition()
    groups = list(_grouped(handlers))
    _tasks(out, groups)
    out.family(
        "pillion_tasks_held",
        "gauge",
        "Ready tasks that gates are known to hold.",
        [(_by(g), sum([h.held for h in g.handlers])) for g in groups],
    )
    kinds = [gate.kind for gate in access.ledger.gates.by_scope.values()]
    out.family(
        "pillion_gates",
        "gauge",
        "Gates that are set.",
        [({"kind": kind.value}, kinds.count(kind)) for kind in GateKind],
    )
    out.family(
        "pillion_oldest_ready_age_seconds",
        "gauge",
        "How long the oldest ready task that no gate holds has been due; 0 if there is none.",
        [(_by(g), max([ages.get(h.number, 0) for h in g.handlers]) / 1_000) for g in groups],
    )
    _objectives(out, groups)
    _scaling(out, access, groups, now)
    _sidecars(out, access)
    _coordinator(out, access, lag)
    _process(out)
    return Text(out.text, MEDIA_TYPE)


def _grouped(handlers: list[Handler]) -> Iterator[_Group]:
    for handler in handlers[:HANDLERS_MAX]:
        group = _Group(handler.name)
        group.figures = handler.figures
        group.handlers.append(handler)
        yield group
    if len(handlers) > HANDLERS_MAX:
        group = _Group(OTHER)
        for handler in handlers[HANDLERS_MAX:]:
            group.figures += handler.figures
            group.handlers.append(handler)
        yield group


def _by(group: _Group, **more: str) -> Labels:
    return {"handler": group.name, **more}


def _tasks(out: Exposition, groups: Iterable[_Group]) -> None:
    out.family(
        "pillion_tasks_submitted_total",
        "counter",
        "Tasks accepted.",
        [(_by(group), group.figures.submitted) for group in groups],
    )
    out.family(
        "pillion_tasks_finished_total",
        "counter",
        "Tasks that ended, by how.",
        [
            (_by(group, outcome=state.name.lower()), group.figures.finished[state])
            for group in groups
            for state in State
            if state.terminal
        ],
    )
    out.family(
        "pillion_attempts_total",
        "counter",
        "Leases that ended, by what came of them.",
        [
            (_by(group, result=result.name.lower()), group.figures.attempts[result])
            for group in groups
            for result in AttemptResult
        ],
    )
    for name, help_text in (
        ("wait", "From when a task was due until it was leased."),
        ("run", "How long handlers ran."),
        ("total", "From submission until a task ended."),
    ):
        out.histogram(
            f"pillion_task_{name}_seconds",
            help_text,
            _SECONDS,
            [(_by(g), getattr(g.figures, name), _sum_seconds(g.figures, name)) for g in groups],
        )
    out.family(
        "pillion_tasks",
        "gauge",
        "Tasks by their state.",
        [
            (_by(group, state=state), count)
            for group in groups
            for state, count in overview.totals(group.handlers).items()
        ],
    )


def _objectives(out: Exposition, groups: Sequence[_Group]) -> None:
    out.family(
        "pillion_start_objective_seconds",
        "gauge",
        "How soon after it is due a task is to be leased; absent where nothing is promised.",
        [
            (_by(group), handler.policy.start_within_ms / 1_000)
            for group in groups
            if (handler := group.alone) and handler.policy.start_within_ms
        ],
    )
    out.family(
        "pillion_slo_breach_total",
        "counter",
        "Leases that began later after their task was due than the objective.",
        [(_by(group), group.figures.late) for group in groups],
    )


def _scaling(out: Exposition, access: Access, groups: Sequence[_Group], now: Now) -> None:
    out.family(
        "pillion_handler_sidecars",
        "gauge",
        "Sidecars that serve the handler and are not drained.",
        [(_by(group), len(set().union(*map(scaling.serving, group.handlers)))) for group in groups],
    )
    rates = access.observation.rates
    out.family(
        "pillion_desired_sidecars",
        "gauge",
        "How many sidecars the handler wants, as /v1/scale tells.",
        [
            (_by(group), scaling.wanted(scaling.load_of(handler, rates, now)).desired)
            for group in groups
            if (handler := group.alone)
        ],
    )


def _sum_seconds(figures: Figures, name: str) -> float:
    return figures.run_us / 1e6 if name == "run" else getattr(figures, f"{name}_ms") / 1e3


def _sidecars(out: Exposition, access: Access) -> None:
    rows = sidecar_view.sidecar_rows(access.ledger, access.now())
    states = dict.fromkeys(sidecar_view.STATES, 0)
    slots: dict[tuple[str, str], int] = {}
    for row in rows:
        states[row.state] += 1
        if row.state == "absent":
            continue
        for state, count in (("leased", row.leases), ("free", row.demand)):
            slots[row.service, state] = slots.get((row.service, state), 0) + count
    out.family(
        "pillion_sidecars",
        "gauge",
        "Sidecars with a session, and drained names without one (absent).",
        [({"state": state}, count) for state, count in states.items()],
    )
    out.family(
        "pillion_slots",
        "gauge",
        "Tasks that sidecars hold, and how many more they would take.",
        [({"service": service, "state": state}, n) for (service, state), n in slots.items()],
    )
    out.family(
        "pillion_sidecar_silent_seconds",
        "gauge",
        "How long the sidecar that was silent the longest has not been heard.",
        [({}, max([row.silent_ms for row in rows], default=0) / 1_000)],
    )


def _coordinator(out: Exposition, access: Access, lag: float) -> None:
    seen, counts = access.observation, access.shard.counts
    for name, (counted, help_text) in _COUNTED.items():
        out.family(name, "counter", help_text, [({}, counts.get(counted, 0))])
    out.family(
        "pillion_events_total",
        "counter",
        "How often each thing happened: refusals by their code, sessions, removals.",
        [({"event": name}, count) for name, count in sorted(counts.items())],
    )
    out.histogram(
        "pillion_commit_seconds",
        "How long commits took.",
        _COMMIT_SECONDS,
        [({}, _from(seen.commits.took, 6), seen.commits.took_us / 1e6)],
    )
    out.histogram(
        "pillion_commit_batch",
        "Keys that commits changed.",
        _COMMIT_WRITES,
        [({}, _from(seen.commits.writes, 1), seen.commits.writes_sum)],
    )
    stats = seen.stats
    out.family(
        "pillion_storage_bytes",
        "gauge",
        "The store and its disk; submits are refused when used reaches limit.",
        [
            ({"kind": kind}, value)
            for kind, value in (
                ("used", stats.used_bytes),
                ("limit", access.settings.store_bytes_max),
                ("map", stats.map_bytes),
                ("file", stats.file_bytes),
                ("disk_free", stats.disk_free_bytes),
            )
        ],
    )
    out.family(
        "pillion_submits_refused", "gauge", "1 while the store is full.", [({}, bool(seen.refusal))]
    )
    out.family(
        "pillion_loop_lag_seconds", "gauge", "How long a turn of the loop took.", [({}, lag)]
    )
    labels = {"version": SOFTWARE, "epoch": str(access.ownership.epoch)}
    out.family("pillion_build_info", "gauge", "Always 1.", [(labels, 1)])


def _from(buckets: list[int], first: int) -> list[int]:
    """Return buckets with all up to the first one that is told in one."""
    return [sum(buckets[: first + 1]), *buckets[first + 1 :]]


async def _loop_lag() -> float:
    """Return how long it takes until what is due now gets its turn."""
    began = time.monotonic()
    await asyncio.sleep(0)
    return time.monotonic() - began


def _process(out: Exposition) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    page = os.sysconf("SC_PAGE_SIZE")
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
    for name, kind, help_text, value in (
        ("cpu_seconds_total", "counter", "CPU time.", usage.ru_utime + usage.ru_stime),
        ("resident_memory_bytes", "gauge", "Memory, with pages of the store.", resident),
        ("open_fds", "gauge", "Open descriptors.", len(os.listdir("/proc/self/fd"))),
        ("max_fds", "gauge", "Limit of that.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ):
        out.family(f"process_{name}", kind, help_text, [({}, value)])
