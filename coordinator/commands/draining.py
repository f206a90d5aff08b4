"""Drain sidecars and lift that; wait until a drained one holds nothing more."""

import json
import time
from typing import Any

from coordinator.commands.api import Api, Refused, Unreachable, segment
from coordinator.commands.operating import Wish
from coordinator.commands.output import Writer, say, tame, tell
from coordinator.commands.progress import Progress
from coordinator.commands.running import TimedOut

POLL_SECONDS = 0.25
DRAIN_COLUMNS = ("sidecar", "owner", "reason", "created_ms", "sessions", "leases")


def path_of(name: str) -> str:
    """Return the path of the drain of a name."""
    return f"/v1/sidecars/{segment(name)}/drain"


def drain(api: Api, wish: Wish, wait_ms: int | None) -> None:
    """Drain all sidecars of a name; wait, if that is wanted, until they hold nothing."""
    told = api.send("PUT", wish.path, query=wish.query(), body=wish.who.query())
    name = tame(told["drain"]["sidecar"])
    try:
        if wish.form == "table":
            say(f"{'would drain' if wish.dry_run else 'drained'}: {_holds(told['drain'])}\n")
        if wait_ms is not None and not wish.dry_run:
            told["drain"] = _wait(api, wish.path, told["drain"], wait_ms)
            if wish.form == "table":
                say(f"{name} holds no leases\n")
    except KeyboardInterrupt:
        tell(f"the drain of {name} goes on; pillion-coordinator sidecars tells of it")
        raise
    if wish.form != "table":
        _write(told, wish.form)


def undrain(api: Api, wish: Wish) -> None:
    """Lift a drain."""
    told = api.send("DELETE", wish.path, query=wish.who.query() | wish.query())
    if wish.form != "table":
        _write(told, wish.form)
        return
    row = told["drain"]
    why = f" ({tame(row['reason'])})" if row["reason"] else ""
    text = f"drain of {tame(row['sidecar'])}, set by {tame(row['owner'])}{why}"
    say(f"would lift the {text}\n" if wish.dry_run else f"lifted: the {text}\n")


def _holds(row: dict[str, Any]) -> str:
    name, count = tame(row["sidecar"]), row["sessions"]
    if not count:
        return f"{name}, of which no sidecar is there now; one that comes gets no tasks"
    those = "1 sidecar" if count == 1 else f"{count} sidecars"
    return f"{name} ({those}, {_leases(row['leases'])} to go)"


def _leases(count: int) -> str:
    return "1 lease" if count == 1 else f"{count:,} leases"


def _wait(api: Api, path: str, row: dict[str, Any], wait_ms: int) -> dict[str, Any]:
    """Wait until nothing is held, and return the row of then.

    Raises:
        TimedOut: Something still is.
    """
    name, total = tame(row["sidecar"]), row["leases"]
    until = time.monotonic() + wait_ms / 1000
    progress = Progress(f"draining {name}", total, f"of {_leases(total)} ended")
    try:
        while row["leases"]:
            left = until - time.monotonic()
            if left <= 0:
                held = f"{name} still holds {_leases(row['leases'])}"
                raise TimedOut(f"{held}; the drain goes on")
            time.sleep(min(POLL_SECONDS, left))
            row = api.get(path)
            progress(max(0, total - row["leases"]))
    except Unreachable:
        progress.close()
        tell(f"the drain of {name} goes on when the coordinator is back")
        raise
    except Refused as error:
        if error.code == "unknown_drain":
            tell("somebody has lifted it meanwhile")
        raise
    finally:
        progress.close()
    return row


def _write(told: dict[str, Any], form: str) -> None:
    if form == "json":
        say(json.dumps(told, indent=2) + "\n")
        return
    writer = Writer(form, DRAIN_COLUMNS, "sidecar")
    writer.write([told["drain"]])
    writer.close()
