"""A task before it is submitted: what the user says, checked and put into the protocol's words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from protocol import submission
from protocol.errors import Code, InvalidId
from protocol.ids import from_text, keyed_id
from protocol.messages import Priority, Rejection
from sidecar.sdk.context import CURRENT, Context
from sidecar.sdk.errors import Rejected
from sidecar.sdk.times import Duration, Instant, duration_ms, instant_ms

__all__ = ["Backoff", "NewTask", "Options"]

OCTETS = "application/octet-stream"
Backoff = Duration | tuple[Duration, Duration]
"""The longest wait before the next attempt: one that stays, or where growing begins and ends."""

Draft = tuple[bytes | None, str, bytes, str | None, dict[str, Any] | None]
"""A submission whose id may still be due: id, handler, payload, content type, options."""

_PRIORITIES = {p.name.lower(): int(p) for p in Priority}
_SOME_ID = b"\0\0\0\0\0\0\x70\0\x80\0\0\0\0\0\0\0"
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Options(TypedDict, total=False):
    """What may be said about a task beside its handler and payload; see ``NewTask``."""

    id: str | None
    delay: Duration | None
    at: Instant | None
    priority: str
    collection: str | None
    expires: Duration | None
    attempts: int | None
    timeout: Duration | None
    backoff: Backoff | None
    content_type: str | None
    key: str | None
    meta: Mapping[str, str] | None
    traceparent: str | None
    tracestate: str | None
    baggage: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """One task to submit.

    Attributes:
        handler: ``service.name``.
        payload: Bytes pass as they are; anything else becomes JSON. A JSON object is the
            handler's keyword arguments.
        id: Makes submitting it again harmless; made by the client when it is not given.
        delay: Not to begin before this time has passed since it was accepted.
        at: Not to begin before this instant. Excludes ``delay``.
        priority: ``critical``, ``high``, ``normal`` or ``low``.
        collection: A label by which an operator can hold several tasks as one.
        expires: Not to begin later than this after it was due.
        attempts: How many attempts at most, in place of the handler's policy.
        timeout: Longest run of one attempt, in place of the handler's policy.
        backoff: Wait between attempts, in place of the handler's policy.
        content_type: Of the payload; told from its type when it is not given.
        key: An idempotency key: of the handler's tasks, no second one is made with it as long as
            the first is kept. Makes the id; the handler sees it.
        meta: Texts for the handler beside the payload: at most 16, named as handlers are.
        traceparent: W3C trace context for the handler. Without it, a task that is submitted in an
            attempt inherits that of the attempt's task, with ``tracestate`` and ``baggage``.
        tracestate: What belongs to ``traceparent``.
        baggage: W3C baggage for the handler.
    """

    handler: str
    payload: Any = b""
    id: str | None = None
    delay: Duration | None = None
    at: Instant | None = None
    priority: str = "normal"
    collection: str | None = None
    expires: Duration | None = None
    attempts: int | None = None
    timeout: Duration | None = None
    backoff: Backoff | None = None
    content_type: str | None = None
    key: str | None = None
    meta: Mapping[str, str] | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    baggage: str | None = None


def draft(task: NewTask) -> Draft:
    """Return the task in the protocol's words.

    Raises:
        Rejected: Something in it cannot be taken, with the code the coordinator would give.
    """
    payload, content_type = encode_payload(task.payload)
    try:
        task_id = None if task.id is None else from_text(task.id)
    except InvalidId as error:
        raise Rejected(Code.INVALID_ID, str(error)) from None
    content_type = task.content_type or content_type
    made = (task_id, task.handler, payload, content_type, _options(task))
    if task.key is not None:
        if task_id is not None:
            raise Rejected(Code.INVALID_OPTION, "the key makes the id; give one of the two")
        made = (_keyed(task), *made[1:])
    found = submission.check(0, [task_id or _SOME_ID, *made[1:]])
    if isinstance(found, Rejection):
        raise Rejected(found.code, found.detail)
    return made


def encode_payload(payload: Any) -> tuple[bytes, str | None]:
    """Return a payload's bytes and its content type; None stands for JSON.

    Raises:
        Rejected: The payload cannot be written as JSON.
    """
    if isinstance(payload, bytes):
        return payload, OCTETS
    try:
        return _encode(payload).encode(), None
    except (TypeError, ValueError, RecursionError) as error:
        raise Rejected(
            Code.INVALID_PAYLOAD, f"the payload cannot be written as JSON: {error}"
        ) from None


def backoff_ms(value: Backoff) -> tuple[int, int]:
    """Return the shortest and the longest wait.

    Raises:
        ValueError: Not a duration, nor two of them.
    """
    if not isinstance(value, tuple):
        return (one := duration_ms("backoff", value)), one
    if len(value) != 2:
        raise ValueError(f"backoff is {value!r}; expected a duration, or (first, longest)")
    return duration_ms("backoff", value[0]), duration_ms("backoff", value[1])


def _options(task: NewTask) -> dict[str, Any] | None:
    made: dict[str, Any] = {}
    try:
        if task.priority != "normal":
            made["priority"] = _priority(task.priority)
        if task.delay is not None:
            made["delay_ms"] = duration_ms("delay", task.delay)
        if task.at is not None:
            made["at_ms"] = instant_ms("at", task.at)
        if task.collection is not None:
            made["collection"] = task.collection
        if task.expires is not None:
            made["expires_ms"] = duration_ms("expires", task.expires)
        if task.attempts is not None:
            made["attempts_max"] = task.attempts
        if task.timeout is not None:
            made["timeout_ms"] = duration_ms("timeout", task.timeout)
        if task.backoff is not None:
            made["backoff_ms_min"], made["backoff_ms_max"] = backoff_ms(task.backoff)
        if task.key is not None:
            made["key"] = task.key
        if task.meta is not None:
            made["meta"] = dict(task.meta)
        _add_trace(made, task)
    except ValueError as error:
        raise Rejected(Code.INVALID_OPTION, str(error)) from None
    return made or None


def _add_trace(made: dict[str, Any], task: NewTask) -> None:
    """Add the trace context that is given, or else that of the attempt that runs here."""
    trace: NewTask | Context = task
    if task.traceparent is None:
        trace = CURRENT.get(None) or task
    for name in ("traceparent", "tracestate", "baggage"):
        value = getattr(task, name)
        value = getattr(trace, name) if value is None else value
        if value is not None:
            made[name] = value


def _keyed(task: NewTask) -> bytes | None:
    """Return the id that a key makes; what is wrong with either is found by the check."""
    if isinstance(task.key, str) and isinstance(task.handler, str):
        return keyed_id(task.handler, task.key)
    return None


def _priority(name: str) -> int:
    number = _PRIORITIES.get(name) if isinstance(name, str) else None
    if number is None:
        raise ValueError(f"priority is {name!r}; expected one of {', '.join(_PRIORITIES)}")
    return number
