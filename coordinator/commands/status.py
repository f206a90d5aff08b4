"""One screen: the verdict and its reasons, rates, backlog, age, sidecars, disk."""

import json
from typing import Any

from coordinator.commands.api import Api
from coordinator.commands.output import age, say, table, tame, width

_COLUMNS = (
    *("name", "ready", "scheduled", "leased", "dead", "oldest_ready_ms"),
    *("in_per_second", "out_per_second", "sidecars"),
)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def status(api: Api, form: str) -> None:
    """Write the state of a coordinator."""
    told = api.get("/v1/status")
    if form == "table":
        say(screen(told, width()))
    elif form == "json":
        say(json.dumps(told, indent=2) + "\n")
    elif form == "ndjson":
        say(json.dumps(told) + "\n")
    else:
        say(told["verdict"] + "\n")


def screen(told: dict[str, Any], columns_max: int | None) -> str:
    """Return the state as text."""
    tasks, rates, disk, sidecars = told["tasks"], told["rates"], told["disk"], told["sidecars"]
    oldest = told["oldest"]
    waits = f"{age(oldest['age_ms'])} ({oldest['handler']})" if oldest else "nothing waits"
    lines = [f"{told['verdict'].upper()}  pillion {told['software']} at {told['address']}"]
    for reason in told["reasons"]:
        lines += [f"  {reason['level']}: {tame(reason['text'])}", f"    {reason['hint']}"]
    states = ", ".join(
        f"{count} {state}" for state, count in sidecars.items() if count or state == "ready"
    )
    lines += [
        "",
        f"up        {age(told['now_ms'] - told['started_ms'])}, epoch {told['epoch']}",
        f"tasks     {tasks['ready']} ready, {tasks['scheduled']} scheduled, "
        f"{tasks['leased']} leased, {tasks['dead']} dead",
        f"rates     {rates['submitted']:g} in, {rates['finished']:g} out, {rates['dead']:g} dead "
        "a second (last minute)",
        f"oldest    {waits}",
        f"sidecars  {states}",
        f"store     {size(disk['used'])} of {size(disk['refused_from'])}, "
        f"disk {size(disk['free'])} free",
    ]
    if told["backlog"]:
        lines += ["", table(told["backlog"], _COLUMNS, columns_max).rstrip("\n")]
        more = told["handlers"] - len(told["backlog"])
        if more > 0:
            lines.append(f"and {more} more: pillion-coordinator handlers")
    return "\n".join(lines) + "\n"


def size(count: float) -> str:
    """Return a size in about three digits: ``1.5 GiB``."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.4g} {_UNITS[-1]}"
