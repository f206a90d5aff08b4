"""What has happened to one task, in the order in which it happened."""

import json
from typing import Any

from coordinator.commands.api import Api, segment
from coordinator.commands.output import age, say, tame
from coordinator.core.filters.times import format_time


def trace(api: Api, task_id: str, form: str) -> None:
    """Write the timeline of a task."""
    told = api.get(f"/v1/tasks/{segment(task_id)}")
    if form == "table":
        say(timeline(told))
    elif form == "id":
        say(told["task"]["id"] + "\n")
    else:
        say(json.dumps(told, indent=2 if form == "json" else None) + "\n")


def timeline(told: dict[str, Any]) -> str:
    """Return the timeline as text."""
    task = told["task"]
    submitted = task["submitted_ms"]
    lines = [f"{task['id']}  {task['handler']}  {task['state']}"]
    if told["waits_for"]:
        lines.append(f"waits for {tame(told['waits_for'])}")
    lines.append("")
    moments: list[tuple[int, str]] = [(submitted, "submitted" + _submitted_as(told))]
    moments += [(attempt["started_ms"], _attempt(attempt)) for attempt in told["history"]]
    if told["history"] and told["history"][0]["number"] > 1:
        moments.append((told["history"][0]["started_ms"], "earlier leases have left no record"))
    if told["running_since_ms"]:
        runs = f"runs at {tame(task['sidecar'])}{_progress(told)}"
        moments.append((told["running_since_ms"], runs))
    elif task["state"] == "leased":
        moments.append((told["leased_ms"], f"leased to {tame(task['sidecar'])}"))
    if task["state"] == "scheduled":
        moments.append((task["due_ms"], "due"))
    if task["finished_ms"]:
        end = f"{task['state']}: {tame(task['error'])}" if task["error"] else task["state"]
        moments.append((task["finished_ms"], end))
        moments.append((told["removed_ms"], "its record is removed"))
    elif told["expires_ms"]:
        moments.append((told["expires_ms"], "expires if it has not begun"))
    for at_ms, text in sorted(moments, key=lambda moment: moment[0]):
        since = f"+{age(at_ms - submitted)}" if at_ms > submitted else ""
        lines.append(f"{format_time(at_ms)}  {since:>8}  {text}")
    charged = f"{task['attempts']} of {task['attempts_max']} attempts charged"
    lines += ["", f"{charged}, {told['deliveries']} leases, {told['crashes']} crashes"]
    return "\n".join(lines) + "\n"


def _submitted_as(told: dict[str, Any]) -> str:
    task = told["task"]
    facts = [f"{told['payload_bytes']} bytes"] if told["payload_bytes"] else []
    if task["priority"] != "normal":
        facts.append(f"priority {task['priority']}")
    if task["collection"]:
        facts.append(f"collection {tame(task['collection'])}")
    return f" ({', '.join(facts)})" if facts else ""


def _progress(told: dict[str, Any]) -> str:
    """Return what the present attempt has told, and whether it is to stop."""
    facts = [] if told["progress"] is None else [f"{100 * told['progress']:g} % done"]
    facts += [tame(told["note"])] if told["note"] else []
    if told["checkpoint_bytes"] is not None:
        facts.append(f"a checkpoint of {told['checkpoint_bytes']} bytes")
    facts += ["told to stop, since it is cancelled"] if told["cancelling"] else []
    return f": {', '.join(facts)}" if facts else ""


def _attempt(attempt: dict[str, Any]) -> str:
    if attempt["error_type"] == "requeued":
        return f"requeued {tame(attempt['message'])}"
    text = f"attempt at {tame(attempt['sidecar']) or 'a sidecar that is gone'}"
    text += f" ran {age(attempt['run_us'] / 1000)}: {attempt['outcome']}"
    if attempt["error_type"]:
        text += f", {tame(attempt['error_type'])}"
    return text + (f": {tame(attempt['message'])}" if attempt["message"] else "")
