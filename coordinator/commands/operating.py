"""Commands that change something: say who does it and why, and ask before tasks are lost."""

import getpass
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.commands.api import Api, Refused, segment
from coordinator.commands.output import Writer, say, tame, tell
from coordinator.commands.running import Declined, Usage
from coordinator.core.filters.times import format_time, parse_moment
from protocol.units import InvalidUnit, parse_duration_ms

GATE_COLUMNS = ("scope", "kind", "owner", "reason", "created_ms", "until_ms", "held", "dropped")
AUDIT_COLUMNS = ("number", "at_ms", "owner", "action", "target", "reason", "details")
_PAGE = 1_000
NAMED_MAX = 5
"""Handlers that are named to somebody who may have meant one of them."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who does something, and why."""

    owner: str
    reason: str

    def query(self) -> dict[str, str]:
        """Return it as parameters."""
        return {"owner": self.owner, "reason": self.reason}


def who(owner: str, reason: str) -> Who:
    """Return who does something: who says so, or else whose shell it is."""
    if not owner:
        try:
            owner = os.environ.get("USER") or getpass.getuser()
        except (KeyError, OSError):
            raise Usage("it is not known who you are; say --as NAME") from None
    return Who(owner, reason)


def path_of(target: str, everything: bool) -> str:
    """Return the path of the gate on a target: HANDLER or HANDLER/COLLECTION, or everything."""
    if everything == bool(target):
        raise Usage("name a handler, a HANDLER/COLLECTION, or say --all")
    if everything:
        return "/v1/gates/everything"
    handler, slash, collection = target.partition("/")
    path = f"/v1/gates/handlers/{segment(handler)}"
    return f"{path}/collections/{segment(collection)}" if slash else path


def policy_path(handler: str) -> str:
    """Return the path of a handler's policy."""
    return f"/v1/handlers/{segment(handler)}/policy"


def until_ms(text: str | None) -> int:
    """Return the time of day at which a gate ends: after a duration, or at a time in UTC."""
    if not text:
        return 0
    try:
        moment = parse_moment(text)
    except ValueError as error:
        raise Usage(f"--until: {error}") from None
    return moment.at_ms or int(time.time() * 1000) + moment.ago_ms


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done to a gate or a policy."""

    path: str
    who: Who
    form: str
    dry_run: bool = False
    yes: bool = False

    def query(self) -> dict[str, str]:
        """Return as parameters whether it is only tried."""
        return {"dry_run": "1"} if self.dry_run else {}


def gates(api: Api, form: str, columns: Sequence[str]) -> None:
    """Write all gates."""
    writer = Writer(form, GATE_COLUMNS, "scope", columns)
    writer.write(api.get("/v1/gates")["gates"])
    writer.close()


def set_gate(api: Api, wish: Wish, kind: str, until: int) -> None:
    """Set a gate; one that drops only after its tasks were counted and somebody agreed."""
    body = {"kind": kind, "until_ms": until, **wish.who.query()}
    drops = kind == "drop"
    if drops or wish.dry_run:
        told = api.send("PUT", wish.path, body=body, query={"dry_run": "1", "count": "1"})
        if wish.dry_run:
            _show(told, wish.form, f"would {_did(told, kind)}")
            return
        _agree(told, wish)
        counted = {name: told[name] for name in ("ready", "counted")}  # Now it is ending them.
        told = api.send("PUT", wish.path, body=body) | counted
    else:
        told = api.send("PUT", wish.path, body=body)
    _show(told, wish.form, f"{kind} is set: {_did(told, kind)}")
    scope = told["gate"]["scope"]
    if scope != "everything":
        _tell_unknown(api, scope.partition("/")[0])


def _tell_unknown(api: Api, handler: str) -> None:
    """Say so if a gate is on a handler that nobody has named: it may be a slip."""
    try:
        api.get(f"/v1/handlers/{segment(handler)}")
    except Refused as error:
        from difflib import get_close_matches  # noqa: PLC0415 (seldom needed)

        names = [row["name"] for row in api.get("/v1/handlers")["handlers"]]
        near = [name for name in names if handler in name] or get_close_matches(handler, names)
        known = f"; there are {', '.join(near[:NAMED_MAX])}" if near else ""
        tell(f"nothing is held yet: {error}{known}")


def lift_gate(api: Api, wish: Wish) -> None:
    """Lift a gate."""
    query = wish.who.query() | wish.query()
    told = api.send("DELETE", wish.path, query=query)
    gate = told["gate"]
    text = f"{gate['kind']} of {gate['scope']}, set by {tame(gate['owner'])}"
    _show(told, wish.form, f"would lift the {text}" if wish.dry_run else f"lifted: the {text}")


def _did(told: dict[str, Any], kind: str) -> str:
    gate = told["gate"]
    count = f"{told['ready']:,}" if told["counted"] else f"at least {told['ready']:,}"
    what = "end" if kind == "drop" else "hold"
    end = f", until {format_time(gate['until_ms'])}" if gate["until_ms"] else ""
    return f"{what} {gate['scope']} ({count} ready tasks now){end}"


def _agree(told: dict[str, Any], wish: Wish) -> None:
    tell(f"this will {_did(told, 'drop')}, and all that becomes ready there until it is lifted")
    if wish.yes:
        return
    if not sys.stdin.isatty():
        raise Usage("tasks would be lost: say --yes, or try --dry-run")
    sys.stderr.write("Drop them? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("nothing was changed")


def _show(told: dict[str, Any], form: str, text: str) -> None:
    if form == "table":
        say(text + "\n")
    elif form == "json":
        say(json.dumps(told, indent=2) + "\n")
    else:
        writer = Writer(form, GATE_COLUMNS, "scope")
        writer.write([told["gate"]])
        writer.close()


def policy(api: Api, handler: str, form: str) -> None:
    """Write a handler's policy: what counts, what is declared, who has changed it."""
    _write_policy(api.get(f"/v1/handlers/{segment(handler)}"), form)


def set_policy(api: Api, changes: Sequence[str], wish: Wish) -> None:
    """Change fields of a handler's policy."""
    body = {"changes": dict(map(_change, changes)), **wish.who.query()}
    _changed(api.send("PATCH", wish.path, body=body, query=wish.query()), wish)


def _change(text: str) -> tuple[str, int]:
    """Return a field and its value; those that are times may be said as durations."""
    name, _, value = (part.strip() for part in text.partition("="))
    if value.isdigit():
        return name, int(value)
    if value and "_ms" in name:
        try:
            return name, parse_duration_ms(value)
        except InvalidUnit as error:
            raise Usage(f"{name}: {error}") from None
    raise Usage(f"{text!r}: expected FIELD=NUMBER, such as attempts_max=3 or timeout_ms=30s")


def revert_policy(api: Api, fields: Sequence[str], wish: Wish) -> None:
    """Let what the owner declares count again."""
    query = wish.who.query() | wish.query() | {"fields": ",".join(fields)}
    _changed(api.send("DELETE", wish.path, query=query), wish)


def _changed(told: dict[str, Any], wish: Wish) -> None:
    if wish.dry_run:
        tell("nothing was changed; this is how it would be")
    _write_policy(told, wish.form)


def _write_policy(told: dict[str, Any], form: str) -> None:
    overrides = told["overrides"]
    rows = [
        {
            "field": name,
            "effective": value,
            "declared": overrides[name]["declared"] if name in overrides else value,
            "owner": overrides[name]["owner"] if name in overrides else "",
            "reason": overrides[name]["reason"] if name in overrides else "",
            "set_ms": overrides[name]["set_ms"] if name in overrides else 0,
        }
        for name, value in told["policy"].items()
    ]
    writer = Writer(form, tuple(rows[0]), "field")
    writer.write(rows)
    writer.close()


def audit(api: Api, limit: int, form: str, columns: Sequence[str]) -> None:
    """Write what operators have done, the latest first."""
    writer = Writer(form, AUDIT_COLUMNS, "number", columns)
    found, before = 0, None
    while True:
        query = {"limit": str(min(_PAGE, limit - found) if limit else _PAGE)}
        if before is not None:
            query["before"] = str(before)
        page = api.get("/v1/audit", query)
        rows = page["rows"]
        if form == "table":
            rows = [row | {"details": _in_words(row["details"])} for row in rows]
        writer.write(rows)
        found, before = found + len(rows), page["before"]
        if before is None or (limit and found >= limit):
            break
    writer.close()


def _in_words(details: dict[str, Any]) -> str:
    words = []
    for name, value in details.items():
        if name == "changed":
            words += [f"{field} {was}→{now}" for field, (was, now) in value.items()]
        elif name == "until_ms":
            words += [f"until {format_time(value)}"] if value else []
        elif value != "":
            words.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)
