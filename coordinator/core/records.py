"""The record of a task as bytes, with a format version and a checksum.

    +----------+--------+------------------------+
    | CRC-32   | format | MessagePack list        |
    | 4 bytes  | 1 byte | of the fields below     |
    +----------+--------+------------------------+

The checksum is that of all values (``layout.seal``) and is checked whenever a record is read. What
is told of a task (``Told``) is left out where there is nothing, which is of most tasks. To change
the fields: raise ``FORMAT``, keep ``decode`` reading the older form, add an old record to the
tests.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zlib import crc32

from coordinator.core.layout import Damaged, seal, unseal
from coordinator.core.task import Task, Told
from protocol import codec
from protocol.messages import AttemptRecord, Result, State

if TYPE_CHECKING:
    from coordinator.core.handler import Handler

FORMAT = 2
_FORMAT_BYTE = bytes([FORMAT])
_TASK_CRC = crc32(b"t")
_STATES = tuple(State)
_pack = codec.new_packer()


def encode(task: Task) -> bytes:
    """Return the record of a task."""
    fields: tuple[Any, ...] = (
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
    if task.told is not None:
        fields = (*fields, task.told.checkpoint, task.told.cancelled, task.told.park)
    body = _FORMAT_BYTE + _pack(fields)
    # As ``layout.seal`` would, without making the key.
    return crc32(body, crc32(task.id, _TASK_CRC)).to_bytes(4, "big") + body


def encode_before_lease(task: Task) -> bytes:
    """Return the record of a leased task as it was before its lease.

    The store never says of a task that it is leased: the row of the grant does.
    """
    kept = task.state, task.token, task.deliveries
    task.state, task.token, task.deliveries = State.READY, task.token - 1, task.deliveries - 1
    record = encode(task)
    task.state, task.token, task.deliveries = kept
    return record


def decode(task_id: bytes, record: bytes, handler_of: Callable[[int], "Handler"]) -> Task:
    """Return the task in a record.

    Raises:
        Damaged: The bytes are not what was written.
    """
    fields = decode_list(b"t" + task_id, record)
    try:
        return _task(task_id, fields, handler_of)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise Damaged(f"{type(error).__name__} in a record of {len(record)} bytes") from None


def _task(task_id: bytes, fields: list[Any], handler_of: Callable[[int], "Handler"]) -> Task:
    state, handler, priority, token, attempts, deliveries, crashes, deferrals, *rest = fields
    submitted, due, expires, finished, crc, collection, content_type, options, *rest = rest
    payload_bytes, payload, result, error, history, *told = rest
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
    if told:
        task.told = Told(*told)
    return task


def encode_list(key: bytes, value: Any) -> bytes:
    """Return plain values as a record: the form of handlers and sessions."""
    return seal(key, _FORMAT_BYTE + codec.pack(value))


def decode_list(key: bytes, record: bytes) -> list[Any]:
    """Return the fields of a record after checking it.

    Raises:
        Damaged: The bytes are not what was written.
    """
    body = unseal(key, record)
    if body[0] != FORMAT:
        raise Damaged(f"format {body[:1].hex()}; expected {FORMAT:02x}")
    value = codec.unpack_own(body[1:])
    if type(value) is not list:
        raise Damaged("not a list")
    return value
