"""One screen of facts, and the verdict on them: what is wrong, why, and what to do."""

from dataclasses import dataclass, replace

from coordinator.core import overview, scaling, sidecar_view
from coordinator.core.effects import Now
from coordinator.core.gates import Gate, GateKind
from coordinator.core.handler import Handler
from coordinator.core.overview import HandlerRow
from coordinator.core.sidecar_view import SidecarRow
from coordinator.http.access import Access
from coordinator.http.oldest import oldest_of
from protocol.units import format_duration_ms, format_size
from protocol.version import SOFTWARE

BACKLOG_ROWS = 10
NAMED_MAX = 3
"""Names that a reason lists before it says how many more there are."""
FULL_PERCENT = 90
LEVELS = ("ok", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is not as it should be."""

    level: str
    code: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Oldest:
    """The ready task that has been due the longest."""

    handler: str
    age_ms: int


@dataclass(frozen=True, slots=True)
class RatesNow:
    """Tasks a second over the last minute."""

    submitted: float
    finished: float
    dead: float


@dataclass(frozen=True, slots=True)
class Disk:
    """The store and its disk, in bytes."""

    used: int
    refused_from: int
    map: int
    file: int
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The state of a coordinator."""

    verdict: str
    """ok, warning or critical: that of the worst reason."""
    reasons: list[Reason]
    software: str
    store: str
    epoch: int
    started_ms: int
    now_ms: int
    address: str
    """Where sidecars connect."""
    tasks: dict[str, int]
    rates: RatesNow
    oldest: Oldest | None
    handlers: int
    backlog: list[HandlerRow]
    """The handlers with most to do."""
    sidecars: dict[str, int]
    """How many are in which state."""
    disk: Disk
    counts: dict[str, int]
    """How often each thing happened since the start."""


async def report(access: Access) -> StatusReport:
    """Return the state of a coordinator."""
    now = access.now()
    ledger, seen = access.ledger, access.observation
    handlers = list(ledger.handlers.values())
    ages = await oldest_of(access, handlers, now)
    busiest = sorted(handlers, key=lambda h: (-h.ready - h.leased - h.scheduled, h.name))
    rows = [
        replace(
            overview.handler_row(handler, seen.rates, now),
            oldest_ready_ms=ages.get(handler.number),
        )
        for handler in busiest[:BACKLOG_ROWS]
    ]
    sidecars = sidecar_view.sidecar_rows(ledger, now)
    states = dict.fromkeys(sidecar_view.STATES, 0)
    for sidecar in sidecars:
        states[sidecar.state] += 1
    unserved = [h.name for h in busiest if h.ready and not h.sessions and "" not in h.gates]
    disk = disk_of(access)
    rates = RatesNow(*seen.rates.overall(now.ms, handlers))
    reasons = _reasons(seen.refusal, disk, unserved, sidecars, rates)
    reasons += _late([h for h in busiest if scaling.serving(h)], ages)
    reasons += _gates(list(ledger.gates.by_scope.values()))
    reasons += _drained([h for h in busiest if h.ready and "" not in h.gates])
    return StatusReport(
        verdict=max([reason.level for reason in reasons], key=LEVELS.index, default="ok"),
        reasons=reasons,
        software=SOFTWARE,
        store=access.ownership.uuid.hex(),
        epoch=access.ownership.epoch,
        started_ms=seen.started_ms,
        now_ms=now.wall_ms,
        address=access.address,
        tasks=overview.totals(handlers),
        rates=rates,
        oldest=_oldest(access, ages),
        handlers=len(handlers),
        backlog=rows,
        sidecars=states,
        disk=disk,
        counts=dict(sorted(access.shard.counts.items())),
    )


def disk_of(access: Access) -> Disk:
    """Return how full the store is, as it was last measured."""
    stats = access.observation.stats
    return Disk(
        used=stats.used_bytes,
        refused_from=access.settings.store_bytes_max,
        map=stats.map_bytes,
        file=stats.file_bytes,
        free=stats.disk_free_bytes,
        total=stats.disk_total_bytes,
    )


async def handler_rows(access: Access, now: Now) -> list[HandlerRow]:
    """Return all handlers, also with ages that only the store knows."""
    ledger = access.ledger
    ages = await oldest_of(access, list(ledger.handlers.values()), now)
    return [
        replace(row, oldest_ready_ms=ages.get(ledger.handlers[row.name].number))
        for row in overview.handler_rows(ledger, access.observation.rates, now)
    ]


def _oldest(access: Access, ages: dict[int, int]) -> Oldest | None:
    if not ages:
        return None
    number = max(ages, key=lambda number: (ages[number], -number))
    return Oldest(access.ledger.handlers_by_number[number].name, ages[number])


def _reasons(
    refusal: str,
    disk: Disk,
    unserved: list[str],
    sidecars: list[SidecarRow],
    rates: RatesNow,
) -> list[Reason]:
    reasons = []
    if refusal:
        hint = "free disk, raise store_bytes_max, or shorten the retention"
        reasons.append(Reason("critical", "store_full", f"submits are refused: {refusal}", hint))
    elif disk.used * 100 > disk.refused_from * FULL_PERCENT:
        share = f"{format_size(disk.used)} of {format_size(disk.refused_from)}"
        hint = "raise store_bytes_max and store_map_size, or shorten the retention"
        text = f"the store holds {share}; submits are refused when it is full"
        reasons.append(Reason("warning", "store_nearly_full", text, hint))
    if unserved:
        text = f"tasks wait and no sidecar serves {_names(unserved)}"
        hint = "start the service and its sidecar, or check the handler's name"
        reasons.append(Reason("warning", "no_sidecar", text, hint))
    for state, hint in (
        ("silent", "look at its host: its leases run out by themselves"),
        ("away", "they were here before the coordinator's start; leases are kept for a timeout"),
    ):
        names = [sidecar.name for sidecar in sidecars if sidecar.state == state]
        if names:
            reasons.append(Reason("warning", state, f"{state}: {_names(names)}", hint))
    if rates.dead:
        text = f"tasks die: {rates.dead:g} a second over the last minute"
        hint = "pillion-coordinator tasks 'state=dead since=1m'"
        reasons.append(Reason("warning", "tasks_die", text, hint))
    return reasons


def _late(served: list[Handler], ages: dict[int, int]) -> list[Reason]:
    """Tell which handlers do not begin their tasks within their objective, the latest first."""
    late = [
        (handler, age_ms, handler.policy.start_within_ms)
        for handler in served
        if (age_ms := ages.get(handler.number, 0)) > handler.policy.start_within_ms > 0
    ]
    if not late:
        return []
    late.sort(key=lambda one: one[2] - one[1])
    named = [
        f"{handler.name} ({_in_short(age_ms)}, within {format_duration_ms(within_ms)})"
        for handler, age_ms, within_ms in late
    ]
    hint = f"/v1/scale/{late[0][0].name} tells how many sidecars it wants, and why"
    return [Reason("warning", "late", f"tasks wait longer than they should: {_names(named)}", hint)]


def _in_short(ms: int) -> str:
    return format_duration_ms(ms if ms < 1_000 else ms // 1_000 * 1_000)


def _gates(gates: list[Gate]) -> list[Reason]:
    """Tell of gates: somebody means them, and somebody may have forgotten them."""
    reasons = []
    for kind, does in ((GateKind.DROP, "drop tasks"), (GateKind.PAUSE, "hold tasks")):
        found = [str(gate.scope) for gate in gates if gate.kind is kind]
        if found:
            text = f"gates {does}: {_names(found)}"
            hint = "pillion-coordinator gates tells why; resume lifts one"
            reasons.append(Reason("warning", f"gate_{kind.value}", text, hint))
    return reasons


def _drained(waiting: list[Handler]) -> list[Reason]:
    """Tell which handlers have tasks that wait while all their sidecars are drained."""
    names = [h.name for h in waiting if sidecar_view.drains_of_all(h)]
    if not names:
        return []
    text = f"tasks wait and all that serve them are drained: {_names(names)}"
    hint = "pillion-coordinator sidecars tells why; sidecars undrain lifts a drain"
    return [Reason("warning", "drained", text, hint)]


def _names(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
