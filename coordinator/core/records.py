"""The record of a task as bytes, with a format version and a checksum.

    +--------+----------+------------------------+
    | format | CRC-32   | MessagePack list        |
    | 1 byte | 4 bytes  | of the fields below     |
    +--------+----------+------------------------+

LMDB returns a flipped bit as good data, so every record is checked when it is read. To change the
fields: raise ``FORMAT``, keep ``decode`` reading the older form, add an old record to the tests.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zlib import crc32

from coordinator.core.task import Task
from protocol import codec
from protocol.messages import AttemptRecord, Result, State

if TYPE_CHECKING:
    from coordinator.core.handler import Handler

FORMAT = 1
_FORMAT_BYTE = bytes([FORMAT])
_HEADER = 5
_STATES = tuple(State)
_pack = codec.new_packer()


class RecordCorrupt(Exception):
    """Raised when a record's checksum or form is wrong: the store's medium has changed it."""


def encode(task: Task) -> bytes:
    """Return the record of a task."""
    body = _pack(
        (
            int(task.state),
            task.handler.number,
            task.priority,
            task.token,
            task.attempts,
            task.deliveries,
            task.crashes,
            task.deferrals,
            task.submitted_ms,
            task.due_ms,
            task.expires_ms,
            task.finished_ms,
            task.content_crc,
            task.collection,
            task.content_type,
            task.options,
            task.payload_bytes,
            task.payload,
            task.result,
            task.error,
            task.history,
        )
    )
    return _FORMAT_BYTE + crc32(body).to_bytes(4, "big") + body


def decode(task_id: bytes, record: bytes, handler_of: Callable[[int], "Handler"]) -> Task:
    """Return the task in a record.

    Raises:
        RecordCorrupt: The bytes are not what was written.
    """
    fields = decode_list(record)
    try:
        return _task(task_id, fields, handler_of)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise RecordCorrupt(f"{type(error).__name__} in a record of {len(record)} bytes") from None


def _task(task_id: bytes, fields: list[Any], handler_of: Callable[[int], "Handler"]) -> Task:
    state, handler, priority, token, attempts, deliveries, crashes, deferrals, *rest = fields
    submitted, due, expires, finished, crc, collection, content_type, options, *rest = rest
    payload_bytes, payload, result, error, history = rest
    task = Task(task_id, handler_of(handler), priority, payload, payload_bytes)
    task.state = _STATES[state]
    task.token = token
    task.attempts = attempts
    task.deliveries = deliveries
    task.crashes = crashes
    task.deferrals = deferrals
    task.submitted_ms = submitted
    task.due_ms = due
    task.expires_ms = expires
    task.finished_ms = finished
    task.content_crc = crc
    task.collection = collection
    task.content_type = content_type
    task.options = options
    task.result = None if result is None else Result(*result)
    task.error = error
    task.history = [AttemptRecord(*item) for item in history]
    return task


def seal(value: Any) -> bytes:
    """Return plain values as a checked record: the form of handlers and sessions."""
    body = codec.pack(value)
    return _FORMAT_BYTE + crc32(body).to_bytes(4, "big") + body


def decode_list(record: bytes) -> list[Any]:
    """Return the fields of a record after checking it.

    Raises:
        RecordCorrupt: The bytes are not what was written.
    """
    if len(record) <= _HEADER or record[0] != FORMAT:
        raise RecordCorrupt(f"format {record[:1].hex() or 'missing'}; expected {FORMAT:02x}")
    body = record[_HEADER:]
    if crc32(body) != int.from_bytes(record[1:_HEADER], "big"):
        raise RecordCorrupt("the checksum does not match")
    value = codec.unpack_own(body)
    if type(value) is not list:
        raise RecordCorrupt("not a list")
    return value
