"""What the core tells its shell to do: write, read, send, and note for the log.

The order is fixed and is the whole of durability: commit ``writes``, then perform ``reads``, then
send ``messages``. Nothing of one ``Effects`` leaves before its commit, and an ``Effects`` is
carried out only when the one before it has been.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from protocol.messages import Message


class Now(NamedTuple):
    """The two clocks of the coordinator, in milliseconds."""

    ms: int
    """Elapsed time that never steps: sessions and waits are measured on it."""
    wall_ms: int
    """Time of day since 1970: due times, expiry and retention are measured on it."""


class GetMany(NamedTuple):
    """Read the values of some keys; the result maps the keys that exist to their values."""

    keys: Sequence[bytes]


class Scan(NamedTuple):
    """Read pairs in key order; the result is a list of (key, value)."""

    start: bytes
    """First key, inclusive."""
    end: bytes
    """Last key, exclusive."""
    limit: int
    reverse: bool = False
    """Whether to begin with the last of them."""


Read = GetMany | Scan


class Ask(NamedTuple):
    """A read, and the number under which the shell hands its result back to the core."""

    number: int
    read: Read


class Outgoing(NamedTuple):
    """A message for one peer."""

    peer: bytes
    """Routing id of the connection."""
    message: Message
    payloads: Mapping[bytes, int] = MappingProxyType({})
    """Tasks of a GRANT whose payload is stored apart, and the checksum of what each was submitted
    with; the shell reads the payloads and puts them in (``core.payloads``)."""


class Note(NamedTuple):
    """Something an operator should read; rare, never one per task."""

    event: str
    """A stable name in the past tense."""
    fields: dict[str, Any]


@dataclass(slots=True)
class Effects:
    """What one flush of the core asks for."""

    writes: dict[bytes, bytes | None] = field(default_factory=dict)
    """Keys to set, or to remove where the value is None; one atomic commit."""
    reads: list[Ask] = field(default_factory=list)
    messages: list[Outgoing] = field(default_factory=list)
    results: list[tuple[int, Any]] = field(default_factory=list)
    """Answers to operations, by their number; as messages, once everything is durable."""
    notes: list[Note] = field(default_factory=list)
    events: list[Note] = field(default_factory=list)
    """For those who watch, not for the log: there may be one per task."""

    def __bool__(self) -> bool:
        return bool(self.writes or self.reads or self.messages or self.results or self.notes)
