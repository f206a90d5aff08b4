"""Pages of tasks, and single ones."""

import asyncio
import time
from dataclasses import dataclass

from coordinator.core import layout
from coordinator.core.effects import GetMany
from coordinator.core.filters.language import FilterError, parse
from coordinator.core.listing import ForeignCursor, Listing
from coordinator.core.task_view import TaskDetail, TaskRow, task_detail, task_row
from coordinator.http import cursors
from coordinator.http.access import Access
from coordinator.http.problems import Problem
from coordinator.http.routes import Parameter, Request
from protocol import ids
from protocol.errors import InvalidId
from protocol.messages import State
from protocol.units import format_duration_ms

LIMIT_MAX = 1_000
PAGE_SECONDS = 0.05
"""How long a page is looked for: then it ends, full or not, with a cursor to go on from."""
PARAMETERS = (
    Parameter("filter", "Which tasks: handler=mail.* state=dead error~timeout since=1h"),
    Parameter("cursor", "Where the page before ended"),
    Parameter("limit", "How many tasks", int, 100, 1, LIMIT_MAX),
)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks, and where to go on."""

    filter: str
    """The filter in its canonical form."""
    tasks: list[TaskRow]
    cursor: str | None
    """Null when there are no more. A page may hold few tasks, or none, and have a cursor: it ends
    after a while, however few of the tasks that it looked at are meant."""
    scanned: int
    """How many tasks were looked at."""


async def page(access: Access, request: Request) -> TaskPage:
    """Return a page of the tasks that a filter means."""
    try:
        wanted = parse(request.query["filter"])
    except FilterError as error:
        raise Problem("invalid_filter", str(error)) from None
    given = request.query["cursor"]
    cursor = cursors.decode(given, wanted) if given else None
    now = access.now()
    try:
        listing = Listing(access.ledger, wanted, now, limit=request.query["limit"], cursor=cursor)
    except ForeignCursor as error:
        raise Problem("invalid_cursor", str(error)) from None
    began = time.monotonic()
    while reads := listing.reads():
        listing.take(list(await access.read(reads)))
        if time.monotonic() - began > PAGE_SECONDS:
            break
        await asyncio.sleep(0)  # A small read does not wait, and others must have their turn.
    at = listing.cursor
    return TaskPage(
        filter=wanted.text,
        tasks=[task_row(task, now.wall_ms) for task in listing.found],
        cursor=None if at is None else cursors.encode(at, wanted),
        scanned=listing.scanned,
    )


async def one(access: Access, request: Request) -> TaskDetail:
    """Return all that is known of a task."""
    task_id = id_of(request)
    (found,) = await access.read([GetMany([layout.task_key(task_id)])])
    ledger = access.ledger
    record = found.get(layout.task_key(task_id))
    stored = None if record is None else ledger.peek(task_id, record)
    task = ledger.leased.get(task_id) or ledger.waiting.get(task_id) or stored
    now = access.now()
    if task is None:
        raise Problem("unknown_task", why_unknown(access, task_id, now.wall_ms))
    return task_detail(task, now.wall_ms, ledger.config.retention_ms(task.state))


def id_of(request: Request) -> bytes:
    """Return the task that a path names."""
    try:
        return ids.from_text(request.path["id"])
    except InvalidId as error:
        raise Problem("invalid_parameter", str(error)) from None


def why_unknown(access: Access, task_id: bytes, now_ms: int) -> str:
    """Tell a task that was never accepted from one that may have been removed, by its id's age."""
    config = access.ledger.config
    kept_ms = min(config.retention_ms(state) for state in State if state.terminal)
    made_ms = ids.id_ms(task_id)
    if made_ms and now_ms - made_ms < kept_ms:
        return (
            "it was never accepted here: its id is younger than the time for which tasks are kept "
            f"after their end ({format_duration_ms(kept_ms)}); unless somebody has purged it, "
            "see the audit log"
        )
    return (
        "it was never accepted here, or it ended and its time was over, or somebody has purged it: "
        f"its id {_made(made_ms, now_ms)}; succeeded tasks are kept for "
        f"{format_duration_ms(config.retention_succeeded_ms)}, dead ones for "
        f"{format_duration_ms(config.retention_dead_ms)}"
    )


def _made(made_ms: int, now_ms: int) -> str:
    """Tell when an id was made; one that is made of a key does not say it."""
    if not made_ms:
        return "is made of a key and does not tell when"
    return f"was made {format_duration_ms((now_ms - made_ms) // 1000 * 1000)} ago"
