"""The batch of tasks a submitter makes: encoded by the client, checked by the coordinator.

The sidecar between them passes the bytes on. Each task of a batch gets its own verdict, so that a
bad one harms none beside it; only bytes that are no batch at all are refused whole.
"""

from typing import Any

from protocol import codec, fields, limits
from protocol.errors import Code, LimitExceeded, Malformed
from protocol.ids import is_id
from protocol.messages import Rejection, Submission
from protocol.options import check_options


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
