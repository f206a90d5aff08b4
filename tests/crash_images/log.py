"""Read the recorder's log: what happened to files, in the order in which the kernel saw it."""

import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct("=IIQQQ")
DSYNC = 1
"""Flag of a WRITE that was durable when it returned."""


class Kind(IntEnum):
    """What happened; the numbers are those of ``recorder.c``."""

    CREATE = 1
    WRITE = 2
    SYNC = 3
    SYNC_FOLDER = 4
    TRUNCATE = 5
    RENAME = 6
    UNLINK = 7
    MAKE_FOLDER = 8
    MARK = 9
    FAILED = 10
    """The first call that was made to fail; ``offset`` is the monotonic clock in nanoseconds."""
    MAPPED = 11


class Event(NamedTuple):
    """One record."""

    kind: Kind
    flags: int
    inode: int
    offset: int
    data: bytes


def read(path: Path) -> Iterator[Event]:
    """Yield the events of a log; a record that was cut by the end of its process is left out."""
    data = path.read_bytes()
    position = 0
    while len(data) - position >= _HEAD.size:
        kind, flags, inode, offset, size = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if len(data) - position < size:
            return
        yield Event(Kind(kind), flags, inode, offset, data[position : position + size])
        position += size
