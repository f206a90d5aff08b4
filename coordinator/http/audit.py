"""What operators have done, the latest first."""

from dataclasses import dataclass

from coordinator.core import layout
from coordinator.core.audit import AuditRow, rows_of
from coordinator.core.effects import Scan
from coordinator.http.access import Access
from coordinator.http.routes import Parameter, Request, Route

LIMIT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some rows, the latest first."""

    rows: list[AuditRow]
    before: int | None
    """The number to ask on with; null when there are no more."""


async def page(access: Access, request: Request) -> AuditPage:
    """Return a page of what operators have done."""
    limit, before = request.query["limit"], request.query["before"]
    start, end = layout.range_of(b"a")
    if before:
        end = layout.audit_key(before)
    (pairs,) = await access.read([Scan(start, end, limit, reverse=True)])
    rows = rows_of(pairs)
    return AuditPage(rows, rows[-1].number if len(rows) == limit else None)


ROUTES = (
    Route(
        "/v1/audit",
        "What operators have done, the latest first",
        AuditPage,
        page,
        parameters=(
            Parameter("before", "Only rows with a smaller number", int, 0, 0, 999_999_999),
            Parameter("limit", "How many rows", int, 100, 1, LIMIT_MAX),
        ),
    ),
)
