"""Sidecars: which there are, draining them and lifting that."""

from dataclasses import dataclass

from coordinator.core import sidecar_view
from coordinator.core.drains import Drain
from coordinator.core.operations import DrainSidecar, UndrainSidecar
from coordinator.core.sidecar_view import DrainRow, SidecarRow
from coordinator.http.access import Access
from coordinator.http.operating import BY, DRY_RUN, by_of, by_query, operate
from coordinator.http.problems import Problem
from coordinator.http.routes import Request, Route
from protocol.limits import ERROR_TYPE_CHARS_MAX

NAME_CHARS_MAX = ERROR_TYPE_CHARS_MAX
"""The name in HELLO is a label."""
NAME_BYTES_MAX = 500
"""It is a key of the store, and LMDB bounds those."""
_DRAIN = "/v1/sidecars/{name}/drain"


@dataclass(frozen=True, slots=True)
class SidecarList:
    """All sidecars with a session, and drained names without one, by name."""

    sidecars: list[SidecarRow]


@dataclass(frozen=True, slots=True)
class DrainBody:
    """Who drains sidecars, and why."""

    owner: str
    """Who does it."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DrainChange:
    """A drain that was set or lifted, or would be."""

    drain: DrainRow
    dry_run: bool
    """Whether nothing was changed."""


async def every(access: Access, _request: Request) -> SidecarList:
    """Return all sidecars."""
    return SidecarList(sidecar_view.sidecar_rows(access.ledger, access.now()))


async def one(access: Access, request: Request) -> DrainRow:
    """Return the drain of a name, and what its sidecars still hold."""
    return sidecar_view.drain_row(access.ledger, _there(access, _name(request)))


async def put(access: Access, request: Request) -> DrainChange:
    """Drain all sidecars of a name."""
    name, body, dry_run = _name(request), request.body, request.query["dry_run"]
    by = by_of(body.owner, body.reason)
    if dry_run:
        drain = Drain(name, by.owner, by.reason, access.now().wall_ms)
    else:
        drain = await operate(access, DrainSidecar(name, by))
    return DrainChange(sidecar_view.drain_row(access.ledger, drain), dry_run)


async def delete(access: Access, request: Request) -> DrainChange:
    """Lift a drain."""
    name, by, dry_run = _name(request), by_query(request), request.query["dry_run"]
    drain = _there(access, name)
    if not dry_run:
        drain = await operate(access, UndrainSidecar(name, by))
    return DrainChange(sidecar_view.drain_row(access.ledger, drain), dry_run)


def _name(request: Request) -> str:
    name = request.path["name"]
    if not name.isprintable() or len(name) > NAME_CHARS_MAX:
        detail = f"name: expected 1 to {NAME_CHARS_MAX} printable characters"
        raise Problem("invalid_parameter", detail)
    if len(name.encode()) > NAME_BYTES_MAX:
        raise Problem("invalid_parameter", f"name: it may have {NAME_BYTES_MAX} bytes of UTF-8")
    return name


def _there(access: Access, name: str) -> Drain:
    drain = access.ledger.drains.get(name)
    if drain is None:
        raise Problem("unknown_drain", f"no sidecar {name!r} is drained")
    return drain


ROUTES = (
    Route("/v1/sidecars", "All sidecars", SidecarList, every),
    Route(
        _DRAIN,
        "The drain of the sidecars of a name, and what they still hold",
        DrainRow,
        one,
        problems=("unknown_drain",),
    ),
    Route(
        _DRAIN,
        "Grant nothing to the sidecars of a name, until that is lifted",
        DrainChange,
        put,
        parameters=(DRY_RUN,),
        problems=("invalid_body", "too_many_drains", "stopping"),
        method="PUT",
        body=DrainBody,
    ),
    Route(
        _DRAIN,
        "Lift the drain of the sidecars of a name",
        DrainChange,
        delete,
        parameters=(*BY, DRY_RUN),
        problems=("unknown_drain", "stopping"),
        method="DELETE",
    ),
)
