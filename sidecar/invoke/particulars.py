"""What a handler is told of its attempt, by the same names on every transport.

Over HTTP each is a header, to a command each is a variable of its environment.

Pure: no I/O, no clock.
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from protocol.ids import to_text
from protocol.messages import GrantedTask

JSON = "application/json"
_TRACE = ("traceparent", "tracestate", "baggage")
_PRINTABLE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")
Pairs = list[tuple[str, str]]


class Envelope(NamedTuple):
    """Whether, and as what, tasks are CloudEvents as well."""

    source: str


def particulars(
    handler: str, task: GrantedTask, now_ms: int, envelope: Envelope | None = None
) -> Pairs:
    """Return the names and values of what a handler is told, all printable ASCII.

    Args:
        handler: Its name.
        task: As it was granted.
        now_ms: Wall clock.
        envelope: Adds the attributes of CloudEvents.
    """
    task_id = to_text(task.id)
    extras = task.extras
    key = extras.get("key", task_id) if extras else task_id
    pairs = [
        ("Content-Type", _plain(task.content_type) if task.content_type else JSON),
        ("Task-Id", task_id),
        ("Task-Handler", handler),
        ("Task-Attempt", str(task.attempt)),
        ("Task-Max-Attempts", str(task.attempts_max)),
        ("Task-Delivery", str(task.delivery)),
        ("Task-Timeout-Ms", str(task.timeout_ms)),
        ("Task-Deadline", str(now_ms + task.timeout_ms)),
        ("Task-Token", str(task.token)),
        ("Idempotency-Key", _quoted(key)),
        ("Task-Enqueued-At", str(task.submitted_ms)),
        ("Task-Scheduled-At", str(task.due_ms)),
    ]
    if extras:
        pairs += _extras(extras)
    if envelope is not None:
        pairs += _event(handler, task, envelope)
    return pairs


def _extras(extras: dict[str, Any]) -> Pairs:
    pairs = [(name, _plain(extras[name])) for name in _TRACE if name in extras]
    if "collection" in extras:
        pairs.append(("Task-Collection", _plain(extras["collection"])))
    if "last_error" in extras:
        pairs.append(("Task-Last-Error", encoded(extras["last_error"])))
    if "checkpoint" in extras:
        pairs.append(("Task-Checkpoint", urlsafe_b64encode(extras["checkpoint"]).decode()))
    pairs += [(f"Task-Meta-{name}", encoded(text)) for name, text in extras.get("meta", {}).items()]
    return pairs


def _event(handler: str, task: GrantedTask, envelope: Envelope) -> Pairs:
    when = datetime.fromtimestamp(task.submitted_ms / 1000, UTC)
    return [
        ("ce-specversion", "1.0"),
        ("ce-id", to_text(task.id)),
        ("ce-source", envelope.source),
        ("ce-type", handler),
        ("ce-time", when.isoformat(timespec="milliseconds").replace("+00:00", "Z")),
    ]


def as_headers(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the pairs as lines of an HTTP head."""
    return "".join([f"{name}: {value}\r\n" for name, value in pairs])


def as_environment(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the pairs as variables: ``TASK_ID``, ``TASK_IDEMPOTENCY_KEY``, ``TRACEPARENT``."""
    made = {}
    for name, value in pairs:
        variable = name.upper().replace("-", "_").replace(".", "_")
        if name not in _TRACE and not variable.startswith(("TASK_", "CE_")):
            variable = f"TASK_{variable}"
        made[variable] = value
    return made


def encoded(text: str) -> str:
    """Return text that may hold anything; what is not printable ASCII is percent-encoded."""
    if text.isascii() and text.isprintable() and "%" not in text:
        return text
    return quote(text, safe=_PRINTABLE)


def _plain(text: str) -> str:
    """Return text that should be printable ASCII, with everything else in it replaced."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _quoted(text: str) -> str:
    """Return a string of a structured field (RFC 9651)."""
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{encoded(text)}"'
