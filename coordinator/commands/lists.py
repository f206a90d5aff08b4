"""Handlers, sidecars and tasks as rows."""

import sys
from collections.abc import Sequence

from coordinator.commands.api import Api
from coordinator.commands.output import Writer, tell

PAGE = 1_000
HANDLER_COLUMNS = (
    *("name", "ready", "scheduled", "leased", "dead", "oldest_ready_ms"),
    *("in_per_second", "out_per_second", "wait_p99_ms", "run_p99_ms", "sidecars", "gate"),
)
SIDECAR_COLUMNS = (
    *("name", "service", "state", "silent_ms", "leases", "demand", "handlers"),
    *("drained_by", "drain_reason"),
)
TASK_COLUMNS = ("id", "handler", "state", "priority", "submitted_ms", "attempts", "error")


def handlers(api: Api, form: str, columns: Sequence[str]) -> None:
    """Write all handlers."""
    writer = Writer(form, HANDLER_COLUMNS, "name", columns)
    writer.write(api.get("/v1/handlers")["handlers"])
    writer.close()


def sidecars(api: Api, form: str, columns: Sequence[str]) -> None:
    """Write all sidecars."""
    writer = Writer(form, SIDECAR_COLUMNS, "name", columns)
    writer.write(api.get("/v1/sidecars")["sidecars"])
    writer.close()


def tasks(api: Api, wanted: str, limit: int, form: str, columns: Sequence[str]) -> None:
    """Write the tasks that a filter means, at most ``limit`` of them; 0 means all.

    Pages are asked for until there are enough: one that has none is no end, see the API.
    """
    writer = Writer(form, TASK_COLUMNS, "id", columns)
    found = scanned = 0
    query = {"filter": wanted}
    talks = sys.stderr.isatty()
    while True:
        query["limit"] = str(min(PAGE, limit - found) if limit else PAGE)
        page = api.get("/v1/tasks", query)
        writer.write(page["tasks"])
        found += len(page["tasks"])
        scanned += page["scanned"]
        if page["cursor"] is None or (limit and found >= limit):
            break
        query["cursor"] = page["cursor"]
        if talks:
            sys.stderr.write(f"\r{scanned:,} tasks looked at, {found:,} found ")
    if talks and "cursor" in query:
        sys.stderr.write("\r\x1b[K")
    writer.close()
    if form == "table" and page["cursor"] is not None:
        tell(f"{found} shown; there may be more: --limit N, or --limit 0 for all")
