"""Gates: which there are, setting and lifting them."""

import asyncio
import time
from dataclasses import dataclass

from coordinator.core import gate_view
from coordinator.core.filters.language import parse
from coordinator.core.gate_view import GateRow
from coordinator.core.gates import Gate, GateKind, Scope
from coordinator.core.listing import Listing
from coordinator.core.operations import LiftGate, SetGate
from coordinator.http.access import Access
from coordinator.http.operating import BY, DRY_RUN, by_of, by_query, operate
from coordinator.http.problems import Problem
from coordinator.http.routes import Parameter, Request, Route
from protocol.errors import InvalidField
from protocol.fields import name as check_name

COUNT_SECONDS = 0.5
"""How long tasks are counted for one answer."""
_PAGE = 1_000
_COUNT = Parameter(
    "count", "Count the ready tasks of it, for half a second at most", bool, default=False
)


@dataclass(frozen=True, slots=True)
class GateBody:
    """A gate to be set."""

    kind: str
    """pause or drop."""
    owner: str
    """Who sets it."""
    reason: str = ""
    until_ms: int = 0
    """When it ends by itself, in milliseconds since 1970; 0: never."""


@dataclass(frozen=True, slots=True)
class GateList:
    """All gates, the widest first."""

    gates: list[GateRow]


@dataclass(frozen=True, slots=True)
class GateChange:
    """A gate, or what one would do."""

    gate: GateRow
    dry_run: bool
    """Whether nothing was changed."""
    ready: int
    """Ready tasks that it concerns."""
    counted: bool
    """Whether those are all. Tasks of a collection are counted only if that is asked for."""


async def every(access: Access, _request: Request) -> GateList:
    """Return all gates."""
    return GateList(gate_view.gate_rows(access.ledger))


async def one(access: Access, request: Request) -> GateRow:
    """Return the gate on a scope."""
    return gate_view.gate_row(access.ledger, _there(access, _scope(request)))


async def put(access: Access, request: Request) -> GateChange:
    """Set a gate."""
    scope, body = _scope(request), request.body
    by = by_of(body.owner, body.reason)
    now_ms = access.now().wall_ms
    kinds = {kind.value: kind for kind in GateKind}
    if body.kind not in kinds:
        raise Problem("invalid_body", f"kind is {body.kind!r}; expected pause or drop")
    if body.until_ms and not now_ms < body.until_ms < 1 << 48:
        raise Problem("invalid_body", "until_ms is no time to come; 0 means without end")
    ready, counted = await _count(access, scope, thoroughly=request.query["count"])
    if request.query["dry_run"]:
        gate = Gate(scope, kinds[body.kind], by.owner, by.reason, now_ms, body.until_ms)
    else:
        gate = await operate(access, SetGate(scope, kinds[body.kind], by, body.until_ms))
    row = gate_view.gate_row(access.ledger, gate)
    return GateChange(row, request.query["dry_run"], ready, counted)


async def delete(access: Access, request: Request) -> GateChange:
    """Lift a gate."""
    scope = _scope(request)
    before = gate_view.gate_row(access.ledger, _there(access, scope))
    ready, counted = await _count(access, scope, thoroughly=request.query["count"])
    if not request.query["dry_run"]:
        await operate(access, LiftGate(scope, by_query(request)))
    return GateChange(before, request.query["dry_run"], ready, counted)


def _scope(request: Request) -> Scope:
    names = {name: request.path[name] for name in ("name", "collection") if name in request.path}
    for field, value in names.items():
        try:
            check_name(field, value)
        except InvalidField as error:
            raise Problem("invalid_parameter", error.detail) from None
    return Scope(*names.values())


def _there(access: Access, scope: Scope) -> Gate:
    gate = access.ledger.gates.by_scope.get(scope)
    if gate is None:
        raise Problem("unknown_gate", f"there is no gate on {scope}")
    return gate


async def _count(access: Access, scope: Scope, *, thoroughly: bool) -> tuple[int, bool]:
    """Return how many ready tasks are in a scope, and whether that is all of them."""
    handlers = access.ledger.handlers
    if not scope.handler:
        return sum(handler.ready for handler in handlers.values()), True
    handler = handlers.get(scope.handler)
    if handler is None:
        return 0, True
    if not scope.collection:
        return handler.ready, True
    if not thoroughly:
        park = handler.park_of(scope.collection)
        return 0 if park is None else park.count, False
    wanted = parse(f"state=ready handler={scope.handler} collection={scope.collection}")
    began, found, cursor = time.monotonic(), 0, None
    while True:
        listing = Listing(access.ledger, wanted, access.now(), limit=_PAGE, cursor=cursor)
        while reads := listing.reads():
            listing.take(list(await access.read(reads)))
            await asyncio.sleep(0)
        found += len(listing.found)
        cursor = listing.cursor
        if cursor is None or time.monotonic() - began > COUNT_SECONDS:
            return found, cursor is None


_SCOPES = {
    "/v1/gates/everything": "everything",
    "/v1/gates/handlers/{name}": "a handler",
    "/v1/gates/handlers/{name}/collections/{collection}": "a collection of a handler",
}
ROUTES = (
    Route("/v1/gates", "All gates", GateList, every),
    *[
        route
        for path, what in _SCOPES.items()
        for route in (
            Route(path, f"The gate on {what}", GateRow, one, problems=("unknown_gate",)),
            Route(
                path,
                f"Set the gate on {what}",
                GateChange,
                put,
                parameters=(DRY_RUN, _COUNT),
                problems=("invalid_body", "too_many_gates", "stopping"),
                method="PUT",
                body=GateBody,
            ),
            Route(
                path,
                f"Lift the gate on {what}",
                GateChange,
                delete,
                parameters=(*BY, DRY_RUN, _COUNT),
                problems=("unknown_gate", "stopping"),
                method="DELETE",
            ),
        )
    ],
)
