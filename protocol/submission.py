"""The batch of tasks a submitter makes: encoded by the client, checked by the coordinator.

The sidecar between them passes the bytes on. Each task of a batch gets its own verdict, so that a
bad one harms none beside it; only bytes that are no batch at all are refused whole.
"""

import difflib
from typing import Any

from protocol import codec, fields, limits
from protocol.errors import Code, LimitExceeded, Malformed
from protocol.ids import is_id
from protocol.messages import Priority, Rejection, Submission

OPTIONS: dict[str, tuple[int, int] | str] = {
    "delay_ms": (0, limits.DELAY_MS_MAX),
    "at_ms": (0, fields.INT_MAX),
    "priority": (int(min(Priority)), int(max(Priority))),
    "collection": "name",
    "expires_ms": (1, limits.DELAY_MS_MAX),
    "attempts_max": (1, limits.ATTEMPTS_MAX),
    "timeout_ms": (1, limits.TIMEOUT_MS_MAX),
    "backoff_ms_min": (0, limits.DAY_MS),
    "backoff_ms_max": (0, 30 * limits.DAY_MS),
}
"""Options a task may carry: integers with their range, or a name.

``delay_ms`` counts from acceptance; ``at_ms`` is a wall-clock time; they exclude each other.
``expires_ms`` counts from the due time: after it no attempt begins, and a task that waits (for its
first attempt or for another) ends as expired. An attempt that runs at that time may finish.
"""


def encode_batch(submissions: list[Submission]) -> bytes:
    """Return the bytes of a batch; trailing None fields are left out."""
    return codec.pack([_trim(s) for s in submissions])


def _trim(submission: Submission) -> tuple[Any, ...]:
    if submission[4] is not None:
        return submission
    return submission[:3] if submission[3] is None else submission[:4]


def decode_batch(data: bytes) -> list[Any]:
    """Return the raw tasks of a batch, to be checked one by one with ``check``.

    Raises:
        ProtocolError: The bytes are no batch; nothing in them can be taken.
    """
    raw = codec.unpack(data)
    if type(raw) is not list or not raw:
        raise Malformed("a batch is a list of at least one task")
    if len(raw) > limits.BATCH_TASKS_MAX:
        raise BatchTooLarge(f"{len(raw)} tasks; the limit is {limits.BATCH_TASKS_MAX}")
    return raw


class BatchTooLarge(LimitExceeded):
    """Raised when a batch holds too many tasks."""

    code = Code.BATCH_TOO_LARGE


def check(place: int, raw: Any) -> Submission | Rejection:  # noqa: PLR0911 (one per rule)
    """Return the task at one place of a batch, or why it cannot be taken."""
    if type(raw) is not list or not 3 <= len(raw) <= 5:
        return Rejection(
            place,
            Code.MALFORMED,
            "a task is a list: id, handler, payload[, content_type[, options]]",
        )
    submission = Submission(*raw)
    task_id, handler, payload, content_type, options = submission
    if not is_id(task_id):
        return Rejection(place, Code.INVALID_ID, "the id is not a UUIDv7 of 16 bytes")
    if not fields.is_name(handler):
        error = fields.fail("handler", handler, "a name of [a-z0-9._-]{1,64}")
        return Rejection(place, Code.INVALID_HANDLER, error.detail)
    if type(payload) is not bytes:
        return Rejection(
            place, Code.INVALID_PAYLOAD, f"the payload is {type(payload).__name__}; expected bytes"
        )
    if len(payload) > limits.PAYLOAD_BYTES_MAX:
        return Rejection(
            place,
            Code.PAYLOAD_TOO_LARGE,
            f"the payload has {len(payload)} bytes; the limit is {limits.PAYLOAD_BYTES_MAX}. "
            "Store it elsewhere and submit its address",
        )
    if content_type is not None and (
        type(content_type) is not str or len(content_type) > limits.CONTENT_TYPE_CHARS_MAX
    ):
        error = fields.fail("content_type", content_type, "text of at most 128 characters")
        return Rejection(place, Code.INVALID_OPTION, error.detail)
    if options is not None:
        problem = check_options(options)
        if problem is not None:
            return Rejection(place, *problem)
    return submission


def check_options(options: Any) -> tuple[str, str] | None:
    """Return None if the options may be taken, otherwise a code and what is wrong."""
    if type(options) is not dict:
        return Code.INVALID_OPTION, fields.fail("options", options, "a map").detail
    for key, value in options.items():
        expected = OPTIONS.get(key) if type(key) is str else None
        if expected is None:
            return Code.UNKNOWN_OPTION, _unknown(key)
        if isinstance(expected, str):
            if not fields.is_name(value):
                return (
                    Code.INVALID_OPTION,
                    fields.fail(key, value, "a name of [a-z0-9._-]{1,64}").detail,
                )
            continue
        low, high = expected
        if type(value) is not int or not low <= value <= high:
            due = key in ("delay_ms", "at_ms") and type(value) is int
            code = Code.DUE_OUT_OF_RANGE if due else Code.INVALID_OPTION
            return code, fields.fail(key, value, f"an integer from {low} to {high}").detail
    if "delay_ms" in options and "at_ms" in options:
        return Code.INVALID_OPTION, "delay_ms and at_ms exclude each other; give one"
    return None


def _unknown(key: object) -> str:
    near = difflib.get_close_matches(key[:64], OPTIONS, n=1) if isinstance(key, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(OPTIONS)}"
    return f"no option is called {fields.shown(key)}{hint}"
