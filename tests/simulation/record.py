"""The record of a task as the store has it: a list of values, by their places."""

from typing import Any
from zlib import crc32

STATE, HANDLER, PRIORITY, TOKEN, ATTEMPTS, DELIVERIES, CRASHES, DEFERRALS = range(8)
SUBMITTED, DUE, EXPIRES, FINISHED, CRC, COLLECTION, CONTENT_TYPE, OPTIONS = range(8, 16)
PAYLOAD_BYTES, PAYLOAD, RESULT, ERROR, HISTORY = range(16, 21)
CHECKPOINT, CANCELLED, PARK = range(21, 24)
"""Left out where nothing is told of a task."""
NEVER_CHANGE = (HANDLER, PRIORITY, SUBMITTED, CRC, COLLECTION, CONTENT_TYPE, OPTIONS)

Record = list[Any]


def cancelled_of(record: Record) -> str | None:
    """Return why a leased task is to end, or None."""
    return str(record[CANCELLED]) if len(record) > CANCELLED and record[CANCELLED] else None


def park_of(record: Record) -> int:
    """Return the number of the park in which a task waits, or 0."""
    return int(record[PARK]) if len(record) > PARK else 0


def content_crc(handler: str, payload: bytes) -> int:
    """Return what a record keeps of its content."""
    return crc32(payload, crc32(handler.encode()))
