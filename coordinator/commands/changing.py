"""Commands that change tasks: one or several by id, or all that a filter means.

By filter, tasks are counted and shown first, and somebody has to agree. The coordinator does the
work; the command only follows it, and may leave at any time.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.commands.api import Api, Refused, Unreachable, segment
from coordinator.commands.lists import TASK_COLUMNS
from coordinator.commands.operating import Who
from coordinator.commands.output import Writer, say, table, tame, tell, width
from coordinator.commands.progress import Progress
from coordinator.commands.running import Declined, Usage
from coordinator.core.filters.times import format_time, parse_moment
from protocol.errors import InvalidId
from protocol.ids import from_text

POLL_SECONDS = 0.25
OPERATION_COLUMNS = (
    *("number", "action", "state", "changed", "expected", "skipped", "owner", "created_ms"),
    *("filter", "why"),
)
DEAD_COLUMNS = (
    *("handler", "error_type", "count", "first_ms", "last_ms", "fingerprint", "sample", "pattern"),
)
_DONE = {
    "cancel": "cancelled",
    "reschedule": "rescheduled",
    "requeue": "requeued",
    "purge": "purged",
}


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done, and how it is asked for."""

    action: str
    who: Who
    form: str
    dry_run: bool = False
    yes: bool = False
    rate: int = 0
    detach: bool = False
    when: dict[str, int] = field(default_factory=dict)
    """``at_ms`` or ``delay_ms`` of a reschedule."""

    def body(self) -> dict[str, Any]:
        """Return what every request says."""
        return {**self.who.query(), **self.when}


def when_of(at: str | None, in_: str | None) -> dict[str, int]:
    """Return when tasks become due: at a time, after a duration, or now."""
    if at and in_:
        raise Usage("say --at or --in, not both")
    text = at or in_
    if not text:
        return {}
    flag = "--at" if at else "--in"
    try:
        moment = parse_moment(text)
    except ValueError as error:
        raise Usage(f"{flag}: {error}") from None
    if bool(moment.at_ms) != bool(at):
        raise Usage("--at takes a time in UTC, --in a duration such as 10m")
    return {"at_ms": moment.at_ms} if at else {"delay_ms": moment.ago_ms}


def change(api: Api, wish: Change, ids: Sequence[str], wanted: str | None) -> None:
    """Change tasks by id or by filter."""
    if bool(ids) == (wanted is not None):
        raise Usage("name tasks by their id, or say which with -f FILTER")
    if wanted is not None:
        _change_many(api, wish, wanted)
        return
    for task_id in ids:  # Before anything is changed.
        try:
            from_text(task_id)
        except InvalidId as error:
            raise Usage(str(error)) from None
    _change_each(api, wish, ids)


def _change_each(api: Api, wish: Change, ids: Sequence[str]) -> None:
    query = {"dry_run": "1"} if wish.dry_run else None
    writer = Writer(wish.form, TASK_COLUMNS, "id")
    failed: Refused | None = None
    for task_id in ids:
        path = f"/v1/tasks/{segment(task_id)}/{wish.action}"
        try:
            told = api.send("POST", path, query=query, body=wish.body())
        except Refused as error:
            if failed is not None:
                tell(f"pillion-coordinator: {failed}")
            failed = Refused({**error.problem, "detail": f"{task_id}: {error}"})
            continue
        if wish.form == "table":
            say(_line(told, wish) + "\n")
        else:
            writer.write([told["task"]])
    if wish.form != "table":
        writer.close()
    if failed is not None:
        raise failed


def _line(told: dict[str, Any], wish: Change) -> str:
    task = told["task"]
    did = f"would {wish.action}" if told["dry_run"] else _DONE[wish.action]
    due = f" to {format_time(task['due_ms'])}" if task["state"] == "scheduled" else ""
    due = due if wish.action == "reschedule" and not told["dry_run"] else ""
    note = f": {told['note']}" if told["note"] else ""
    return f"{did} {task['id']} of {task['handler']}{due}{note}"


# By filter


def _change_many(api: Api, wish: Change, wanted: str) -> None:
    body = {"action": wish.action, "filter": wanted, "rate": wish.rate, **wish.body()}
    told = api.send("POST", "/v1/operations", query={"dry_run": "1"}, body=body)
    if wish.dry_run:
        _show_dry(told, wish)
        return
    if not told["matched"]:
        tell(f"no task is meant by {wanted}; nothing was changed")
        return
    _agree(told, wish)
    try:
        row = api.send("POST", "/v1/operations", body=body)["operation"]
    except KeyboardInterrupt:
        tell("it may have begun, and goes on then: see pillion-coordinator operations list")
        raise
    if not wish.detach:
        row = _follow(api, row, wish)
    _show(row, wish)


def _count(told: dict[str, Any]) -> str:
    count = f"{told['matched']:,}" if told["exact"] else f"at least {told['matched']:,}"
    return f"{count} task{'' if told['matched'] == 1 and told['exact'] else 's'}"


def _show_dry(told: dict[str, Any], wish: Change) -> None:
    if wish.form == "table":
        say(f"would {wish.action} {_count(told)}\n")
        if told["sample"]:
            say(table(told["sample"], TASK_COLUMNS, width()))
    elif wish.form == "json":
        say(json.dumps(told, indent=2) + "\n")
    else:
        writer = Writer(wish.form, TASK_COLUMNS, "id")
        writer.write(told["sample"])
        writer.close()


def _agree(told: dict[str, Any], wish: Change) -> None:
    tell(f"this will {wish.action} {_count(told)}, such as")
    tell(table(told["sample"], TASK_COLUMNS, width()).rstrip("\n"))
    if not wish.yes and not _asked(f"{wish.action.capitalize()} them?"):
        raise Declined("nothing was changed")


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        raise Usage("nobody can be asked here: say --yes, or try --dry-run")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _follow(api: Api, row: dict[str, Any], wish: Change) -> dict[str, Any]:
    """Follow an operation to its end; whoever interrupts may stop it, or leave it to itself."""
    number = row["number"]
    path = f"/v1/operations/{number}"
    progress = Progress(f"operation {number}", row["expected"], f"tasks {_DONE[wish.action]}")
    try:
        tell(f"operation {number} has begun")
        while row["state"] == "running":
            time.sleep(POLL_SECONDS)
            row = api.get(path)
            progress(row["changed"])
    except KeyboardInterrupt:
        progress.close()
        _interrupted(api, path, number, wish)
        raise
    except Unreachable:
        progress.close()
        tell(f"operation {number} goes on when the coordinator is back: operations show {number}")
        raise
    progress.close()
    return row


def _interrupted(api: Api, path: str, number: int, wish: Change) -> None:
    try:
        stops = sys.stdin.isatty() and _asked(f"\nStop operation {number}?")
    except KeyboardInterrupt:
        stops = False
    if stops:
        row = api.send("POST", f"{path}/stop", body=wish.who.query())
        tell(f"operation {number} is stopped: {row['changed']:,} {_DONE[wish.action]}")
    else:
        tell(
            f"operation {number} goes on; follow it with pillion-coordinator operations show "
            f"{number}, stop it with operations stop {number}"
        )


def _show(row: dict[str, Any], wish: Change) -> None:
    if wish.form == "table":
        say(_sentence(row) + "\n")
    else:
        _write_operations([row], wish.form)
    if row["state"] in ("stopped", "interrupted"):
        raise Declined(f"operation {row['number']} was not finished: {tame(row['why'])}")


def _sentence(row: dict[str, Any]) -> str:
    skipped = f", {row['skipped']:,} skipped: they had changed" if row["skipped"] else ""
    counts = f"{row['changed']:,} {_DONE[row['action']]}{skipped}"
    return f"operation {row['number']} is {row['state']}: {counts}"


def _write_operations(rows: Sequence[dict[str, Any]], form: str) -> None:
    writer = Writer(form, OPERATION_COLUMNS, "number")
    writer.write(rows)
    writer.close()


# Looking


def operations(api: Api, form: str, columns: Sequence[str]) -> None:
    """Write all operations."""
    writer = Writer(form, OPERATION_COLUMNS, "number", columns)
    writer.write(api.get("/v1/operations")["operations"])
    writer.close()


def operation(api: Api, number: str, form: str) -> None:
    """Write one operation."""
    _write_operations([api.get(f"/v1/operations/{segment(number)}")], form)


def stop(api: Api, number: str, who: Who, form: str) -> None:
    """Stop an operation where it is."""
    row = api.send("POST", f"/v1/operations/{segment(number)}/stop", body=who.query())
    if form == "table":
        say(_sentence(row) + "\n")
    else:
        _write_operations([row], form)


def dead(api: Api, handler: str, limit: int, form: str, columns: Sequence[str]) -> None:
    """Write the groups of dead letters."""
    writer = Writer(form, DEAD_COLUMNS, "sample", columns)
    told = api.get("/v1/dead", {"handler": handler, "limit": str(limit)})
    writer.write(told["groups"])
    writer.close()
    if form == "table" and not told["complete"]:
        tell(f"{told['scanned']:,} dead letters looked at, there are more; name a handler")
