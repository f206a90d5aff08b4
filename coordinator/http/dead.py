"""Dead letters in groups: by handler, kind of error and what its messages have in common."""

import asyncio
import time
from dataclasses import dataclass

from coordinator.core import layout, records
from coordinator.core.effects import Scan
from coordinator.core.filters.fields import Operator
from coordinator.core.filters.language import Filter, FilterError, Term, parse
from coordinator.core.filters.predicate import handler_names
from coordinator.core.fingerprints import fingerprint
from coordinator.core.operations import MendRow
from coordinator.http.access import Access
from coordinator.http.problems import Problem
from coordinator.http.routes import Parameter, Request, Route
from protocol.ids import to_text

GROUP_SECONDS = 1.0
"""How long dead letters are looked at for one answer, the latest of each handler first."""
GROUPS_MAX = 10_000
_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """Dead letters of one handler and one kind of failure."""

    handler: str
    error_type: str
    fingerprint: str
    pattern: str
    """The message without what differs from task to task."""
    count: int
    first_ms: int
    """When the first of them died."""
    last_ms: int
    sample: str
    """The latest of them."""
    filter: str
    """What means these tasks."""


@dataclass(frozen=True, slots=True)
class DeadGroups:
    """All groups, the largest first."""

    groups: list[DeadGroup]
    scanned: int
    complete: bool
    """Whether all dead letters were looked at; otherwise there are at least so many."""


_Place = tuple[str, str, str]
"""Handler, error type, pattern."""


@dataclass(slots=True)
class _Count:
    last_ms: int
    sample: bytes
    first_ms: int = 0
    count: int = 0


async def groups(access: Access, request: Request) -> DeadGroups:
    """Group the dead letters."""
    found: dict[_Place, _Count] = {}
    began, scanned, complete = time.monotonic(), 0, True
    for name, start, last in _ranges(access, request.query["handler"]):
        end = last
        while complete:
            (rows,) = await access.read([Scan(start, end, _ROWS, reverse=True)])
            for key, value in rows:
                await _take(access, found, name, key, value)
            scanned += len(rows)
            if len(rows) < _ROWS:
                break
            end = rows[-1][0]
            late = time.monotonic() - began > GROUP_SECONDS
            complete = not late and len(found) < GROUPS_MAX
            await asyncio.sleep(0)  # A small read does not wait, and others must have their turn.
    made = [_group(place, count) for place, count in found.items()]
    made.sort(key=lambda group: (-group.count, -group.last_ms))
    return DeadGroups(made[: request.query["limit"]], scanned, complete)


def _ranges(access: Access, pattern: str) -> list[tuple[str, bytes, bytes]]:
    try:
        fits = handler_names(parse(f"handler={pattern}") if pattern else Filter())
    except FilterError as error:
        raise Problem("invalid_filter", str(error)) from None
    handlers = access.ledger.handlers
    return [
        (name, *layout.dead_range(handlers[name].number))
        for name in sorted(handlers)
        if handlers[name].dead and fits(name)
    ]


async def _take(
    access: Access, found: dict[_Place, _Count], name: str, key: bytes, row: bytes
) -> None:
    try:
        error_type, pattern = records.decode_list(key, row)
    except (layout.Damaged, ValueError):
        await access.operate(MendRow(key))
        error_type, pattern = "", "its row in the store was damaged"
    at_ms, task_id = layout.dead_of(key)
    count = found.setdefault((name, error_type, pattern), _Count(at_ms, task_id))
    count.first_ms = at_ms
    count.count += 1


def _group(place: _Place, count: _Count) -> DeadGroup:
    name, error_type, pattern = place
    mark = fingerprint(error_type, pattern)
    terms = (
        Term("handler", Operator.IS, (name,)),
        Term("state", Operator.IS, ("dead",)),
        Term("fingerprint", Operator.IS, (mark,)),
    )
    return DeadGroup(
        *(name, error_type, mark, pattern, count.count, count.first_ms, count.last_ms),
        to_text(count.sample),
        Filter(terms).text,
    )


ROUTES = (
    Route(
        "/v1/dead",
        "Dead letters in groups",
        DeadGroups,
        groups,
        parameters=(
            Parameter("handler", "Only of these handlers; * stands for anything"),
            Parameter("limit", "How many groups", int, 100, 1, 1_000),
        ),
        problems=("invalid_filter",),
    ),
)
