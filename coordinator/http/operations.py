"""Changes of many tasks by filter: count them first, begin, look how far they are, stop."""

import asyncio
import time
from dataclasses import dataclass

from coordinator.core import bulk
from coordinator.core.bulk import OperationRow
from coordinator.core.filters.language import Filter, FilterError, parse
from coordinator.core.listing import Listing
from coordinator.core.operations import Action, StartBulk, StopBulk
from coordinator.core.task_view import TaskRow, task_row
from coordinator.http.access import Access
from coordinator.http.changes import ChangeBody, at_ms_of
from coordinator.http.operating import DRY_RUN, by_of, operate
from coordinator.http.problems import Problem
from coordinator.http.routes import Request, Route

COUNT_SECONDS = 0.5
"""How long tasks are counted for one answer."""
SAMPLE = 5
_PAGE = 1_000
_ACTIONS = {action.value: action for action in Action}


@dataclass(frozen=True, slots=True)
class OperationBody:
    """What is to be done to which tasks."""

    action: str
    """cancel, reschedule, requeue or purge."""
    filter: str
    """Which tasks, as of /v1/tasks; handler=* means all. Only those to which it can be done."""
    owner: str
    """Who does it."""
    reason: str = ""
    rate: int = 0
    """Tasks a second, at most; 0 means 1000."""
    at_ms: int = 0
    """To when they are rescheduled."""
    delay_ms: int = 0
    """The same, from now on."""


@dataclass(frozen=True, slots=True)
class OperationStart:
    """An operation that has begun, or what it would do."""

    dry_run: bool
    """Whether nothing was changed."""
    matched: int
    """Tasks that are meant now."""
    exact: bool
    """Whether those are all; otherwise there are at least so many."""
    sample: list[TaskRow]
    """A few of them."""
    operation: OperationRow | None
    """Null after a dry run."""


@dataclass(frozen=True, slots=True)
class OperationList:
    """Operations that are under way, and the latest that have ended; the latest first."""

    operations: list[OperationRow]


async def start(access: Access, request: Request) -> OperationStart:
    """Count tasks, and begin to change them."""
    body, now = request.body, access.now()
    by = by_of(body.owner, body.reason)
    action = _ACTIONS.get(body.action)
    if action is None:
        expected = ", ".join(_ACTIONS)
        raise Problem("invalid_body", f"action is {body.action!r}; expected one of {expected}")
    if not 0 <= body.rate <= bulk.RATE_MAX:
        raise Problem("invalid_body", f"rate must be from 1 to {bulk.RATE_MAX} tasks a second")
    at_ms = 0
    if action is Action.RESCHEDULE:
        at_ms = at_ms_of(now.wall_ms, body.at_ms, body.delay_ms)
    elif body.at_ms or body.delay_ms:
        raise Problem("invalid_body", "at_ms and delay_ms are for reschedule")
    text, wanted = _filter(action, body.filter)
    matched, exact, sample = await _count(access, wanted)
    operation = None
    if not request.query["dry_run"]:
        operation = await operate(
            access,
            StartBulk(action, text, by, at_ms, body.rate or bulk.RATE, matched, exact),
        )
    return OperationStart(request.query["dry_run"], matched, exact, sample, operation)


async def every(access: Access, _request: Request) -> OperationList:
    """Return all operations."""
    bulks = access.ledger.bulks
    return OperationList([bulk.row_of(bulks[number]) for number in sorted(bulks, reverse=True)])


async def one(access: Access, request: Request) -> OperationRow:
    """Return one operation."""
    number = _number(request)
    found = access.ledger.bulks.get(number)
    if found is None:
        raise Problem("unknown_operation", f"there is no operation {number}")
    return bulk.row_of(found)


async def stop(access: Access, request: Request) -> OperationRow:
    """Stop an operation where it is."""
    by = by_of(request.body.owner, request.body.reason)
    row: OperationRow = await operate(access, StopBulk(_number(request), by))
    return row


def _number(request: Request) -> int:
    text = request.path["number"]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem("invalid_parameter", f"{text!r} is no number of an operation")
    return int(text)


def _filter(action: Action, text: str) -> tuple[str, Filter]:
    """Return a filter in its canonical form, and that of the tasks that are meant."""
    try:
        asked = parse(text)
        if not asked.terms:
            raise Problem("invalid_filter", "say which tasks; handler=* means all")
        return asked.text, bulk.meant(action, asked.text)
    except FilterError as error:
        raise Problem("invalid_filter", str(error)) from None


async def _count(access: Access, wanted: Filter) -> tuple[int, bool, list[TaskRow]]:
    """Return how many tasks are meant, whether that is all of them, and a few."""
    began, found, cursor, now = time.monotonic(), 0, None, access.now()
    sample: list[TaskRow] = []
    while True:
        listing = Listing(access.ledger, wanted, now, limit=_PAGE, cursor=cursor)
        while reads := listing.reads():
            listing.take(list(await access.read(reads)))
            await asyncio.sleep(0)  # A small read does not wait, and others must have their turn.
        few = listing.found[: SAMPLE - len(sample)]
        sample += [task_row(task, now.wall_ms) for task in few]
        found += len(listing.found)
        cursor = listing.cursor
        if cursor is None or time.monotonic() - began > COUNT_SECONDS:
            return found, cursor is None, sample


_UNKNOWN = ("unknown_operation",)
ROUTES = (
    Route("/v1/operations", "Changes of many tasks", OperationList, every),
    Route(
        "/v1/operations",
        "Change all tasks that a filter means",
        OperationStart,
        start,
        parameters=(DRY_RUN,),
        problems=(
            *("invalid_body", "invalid_filter", "same_operation", "conflicting_operation"),
            *("too_many_operations", "stopping"),
        ),
        method="POST",
        body=OperationBody,
    ),
    Route(
        "/v1/operations/{number}", "One change of many tasks", OperationRow, one, problems=_UNKNOWN
    ),
    Route(
        "/v1/operations/{number}/stop",
        "Stop it where it is",
        OperationRow,
        stop,
        problems=("invalid_body", *_UNKNOWN, "wrong_state", "stopping"),
        method="POST",
        body=ChangeBody,
    ),
)
