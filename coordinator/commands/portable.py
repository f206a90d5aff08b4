"""A task as one line of JSON: what ``export`` writes and ``import`` reads.

    {"id": "018f...", "handler": "mail.send", "state": "ready", "priority": "normal",
     "payload": {"to": "a@b.c"}, "submitted_ms": 1764000000000, "due_ms": 1764000000000, ...}

A payload stands as JSON if writing it in the shortest form gives its bytes again, and as
``payload_base64`` otherwise. What is not set is left out. States that have ended, attempts and
errors are told for people, and mean nothing when the line is read: a task begins anew.
"""

import base64
import json
from typing import Any

from coordinator.core.effects import Now
from coordinator.core.task import Task
from protocol import ids, options
from protocol.errors import InvalidId
from protocol.messages import Priority, State, Submission

ENDED = frozenset(state.name.lower() for state in State if state.terminal)
_TOLD = frozenset({"state", "submitted_ms", "finished_ms", "attempts", "crashes", "error"})
_READ = frozenset(
    {"id", "handler", "priority", "collection", "content_type", "payload", "payload_base64"}
    | {"due_ms", "expires_ms", "options"}
)


class Unreadable(Exception):
    """Raised when a line is no task; says what is wrong with it."""


def to_line(task: Task, payload: bytes | None) -> str:
    """Return a task as a line."""
    fields: dict[str, Any] = {
        "id": ids.to_text(task.id),
        "handler": task.handler.name,
        "state": task.state.name.lower(),
        "priority": Priority(task.priority).name.lower(),
        "collection": task.collection,
        "content_type": task.content_type,
        "submitted_ms": task.submitted_ms,
        "due_ms": task.due_ms,
        "expires_ms": task.expires_ms,
        "finished_ms": task.finished_ms,
        "attempts": task.attempts,
        "crashes": task.crashes,
        "error": task.error,
        "options": task.options,
    }
    fields = {name: value for name, value in fields.items() if value}
    if payload is not None:
        fields |= _payload(payload)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"


def _payload(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
        if _encode(value) == payload:
            return {"payload": value}
    except (ValueError, RecursionError):
        pass
    return {"payload_base64": base64.b64encode(payload).decode()}


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def read(line: bytes) -> dict[str, Any]:
    """Return the fields of a line.

    Raises:
        Unreadable: It is no object, or has a field that no line has.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON ({error})") from None
    if not isinstance(fields, dict):
        raise Unreadable("it is no JSON object")
    unknown = sorted(fields.keys() - _TOLD - _READ)
    if unknown:
        raise Unreadable(f"there is no field {unknown[0]!r}")
    return fields


def to_submission(fields: dict[str, Any], now: Now) -> Submission:
    """Return a task to be submitted; what it holds is checked as of any other.

    Raises:
        Unreadable: A field is not what it must be.
    """
    try:
        task_id = ids.from_text(fields["id"])
        chosen = dict(fields.get("options") or {})
        for name in chosen:
            if name not in options.OPTIONS:
                raise Unreadable(f"there is no option {name!r}")
        chosen["priority"] = int(Priority[fields.get("priority", "normal").upper()])
        if fields.get("collection"):
            chosen["collection"] = fields["collection"]
        due_ms, expires_ms = int(fields.get("due_ms", 0)), int(fields.get("expires_ms", 0))
        if due_ms > now.wall_ms:
            chosen["at_ms"] = due_ms
        if expires_ms:
            chosen["expires_ms"] = max(1, expires_ms - max(due_ms, now.wall_ms))
        return Submission(
            task_id,
            fields["handler"],
            _bytes(fields),
            fields.get("content_type"),
            chosen,
        )
    except KeyError as error:
        raise Unreadable(f"{error} is missing, or is not known") from None
    except (InvalidId, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise Unreadable(str(error)) from None


def _bytes(fields: dict[str, Any]) -> bytes:
    if "payload_base64" in fields:
        return base64.b64decode(fields["payload_base64"], validate=True)
    if "payload" not in fields:
        raise Unreadable("it has no payload; a task whose payload was damaged has none")
    return _encode(fields["payload"])
