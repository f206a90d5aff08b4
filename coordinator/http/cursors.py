"""Cursors of task pages as text: opaque to whoever turns the pages, checked when they come back."""

import base64
import binascii
from zlib import crc32

from coordinator.core.filters.language import Filter
from coordinator.core.listing import Cursor
from coordinator.http.problems import Problem

_HEAD = 15


def encode(cursor: Cursor, wanted: Filter) -> str:
    """Return a cursor as text; it is good for this filter only."""
    body = (
        cursor.plan.encode()
        + cursor.now_ms.to_bytes(8, "big")
        + cursor.skip.to_bytes(2, "big")
        + crc32(wanted.text.encode()).to_bytes(4, "big")
        + cursor.key
    )
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def decode(text: str, wanted: Filter) -> Cursor:
    """Return the cursor in a text.

    Raises:
        Problem: It is none, or belongs to another filter.
    """
    try:
        body = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        body = b""
    if len(body) < _HEAD or len(body) > _HEAD + 64:
        raise Problem("invalid_cursor", "it is not one that a page has named")
    if body[11:15] != crc32(wanted.text.encode()).to_bytes(4, "big"):
        raise Problem("invalid_cursor", "it belongs to another filter")
    plan = body[:1].decode("latin-1")
    skip = int.from_bytes(body[9:11], "big")
    return Cursor(plan, int.from_bytes(body[1:9], "big"), body[_HEAD:], skip)
