"""What a workload says in the recorder's log about what it does and what it has promised."""

from typing import Any, NamedTuple

import msgpack


class Opening(NamedTuple):
    """The store is about to be opened."""


class Opened(NamedTuple):
    """The store has been opened."""

    uuid: bytes
    epoch: int


class Begins(NamedTuple):
    """A commit is about to be made."""

    number: int
    writes: dict[bytes, bytes | None]


class Done(NamedTuple):
    """A commit has been made: all that follows may rely on it."""

    number: int


class Accepted(NamedTuple):
    """A submitter was told that its task is accepted."""

    id: bytes
    payload: bytes


class Recorded(NamedTuple):
    """A sidecar was told that its outcome is recorded."""

    id: bytes
    token: int
    kind: int


class Granted(NamedTuple):
    """A sidecar was told that it has a lease."""

    id: bytes
    token: int


Mark = Opening | Opened | Begins | Done | Accepted | Recorded | Granted
_KINDS: tuple[type[Any], ...] = (Opening, Opened, Begins, Done, Accepted, Recorded, Granted)


def encode(mark: Mark) -> bytes:
    """Return a mark as bytes."""
    data: bytes = msgpack.packb([_KINDS.index(type(mark)), *mark])
    return data


def decode(data: bytes) -> Mark:
    """Return the mark in some bytes."""
    kind, *fields = msgpack.unpackb(data, strict_map_key=False)
    mark: Mark = _KINDS[kind](*fields)
    return mark
