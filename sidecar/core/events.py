"""What may happen to the core, and what it wants done.

Events come in by ``Sidecar.step``; effects go out by ``Sidecar.flush``. Connections on
``sidecar.sock`` are known by numbers that the gateway gives and never uses twice.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from protocol.errors import ProtocolError
from protocol.messages import Failure, Lease, Message, Outcome, OutcomeKind


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A fresh connection to the coordinator stands; nothing of an earlier one will arrive."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The connection to the coordinator broke."""


@dataclass(frozen=True, slots=True)
class FromCoordinator:
    """The coordinator sent a message."""

    message: Message


@dataclass(frozen=True, slots=True)
class LocalOpened:
    """An app or service connected."""

    connection: int
    process: int = 0
    """The number of the supervised process at its other end; 0 is none."""


@dataclass(frozen=True, slots=True)
class FromLocal:
    """An app or service sent a message."""

    connection: int
    message: Message


@dataclass(frozen=True, slots=True)
class LocalRefused:
    """What an app or service sent breaks the protocol; its connection is of no further use."""

    connection: int
    error: ProtocolError


@dataclass(frozen=True, slots=True)
class LocalClosed:
    """The connection of an app or service ended."""

    connection: int


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A supervised process is gone, and its whole group with it."""

    process: int
    cause: Failure
    as_told: bool = False
    """Whether it ended because the sidecar had told it to, and by nothing else."""


class SpooledBatch(NamedTuple):
    """One batch as the shell's store holds it."""

    number: int
    tasks: bytes
    age_ms: int
    """How long ago it was spooled, by the wall clock: it may be from before a restart."""
    damaged: bool = False
    """Whether the bytes are not those that were stored."""


@dataclass(frozen=True, slots=True)
class SpoolDone:
    """The shell's spool has done its work; ``loaded`` is what was to be read."""

    loaded: list[SpooledBatch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SpoolFailed:
    """The shell's spool cannot be used, until it is opened again."""

    detail: str


@dataclass(frozen=True, slots=True)
class Drain:
    """The process shall end: finish or give back what is held."""


Event = (
    LinkUp
    | LinkDown
    | FromCoordinator
    | LocalOpened
    | FromLocal
    | LocalRefused
    | LocalClosed
    | ProcessEnded
    | SpoolDone
    | SpoolFailed
    | Drain
)


@dataclass(frozen=True, slots=True)
class Serving:
    """A supervised process has attached with handlers."""

    process: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A supervised process has told outcomes."""

    process: int
    count: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """An attempt that must not go on may do so in a supervised process, which has to end."""

    process: int
    at_once: bool
    """Nothing in the process may go on; otherwise what else runs in it may end first."""
    why: str = "an attempt in it did not stop"


OfProcess = Serving | Finished | Stuck
"""What the core tells of supervised processes."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something an operator may want to read; never one per task."""

    name: str
    facts: dict[str, int | str] = field(default_factory=dict)


class Ended(NamedTuple):
    """The end of one lease, for traces."""

    id: bytes
    token: int
    kind: OutcomeKind | None
    """None: it ended without an outcome."""
    error_type: str
    """Why it did not succeed, or why it ended; empty if it did."""
    run_us: int
    """How long the attempt ran; 0 if it never began, or nobody can tell."""
    since_ms: int
    """When it began, as the sidecar counts it; -1 if it has not seen it begin."""


@dataclass(frozen=True, slots=True)
class SpoolContents:
    """What the shell found in its store at the start."""

    count: int = 0
    bytes: int = 0
    last_number: int = 0
    outcomes: tuple[Outcome, ...] = ()
    """Outcomes of an earlier process that were not recorded by its end."""


@dataclass(slots=True)
class SpoolWork:
    """One atomic change of the shell's store, and what to read after it."""

    puts: list[tuple[int, bytes]] = field(default_factory=list)
    removes: list[int] = field(default_factory=list)
    outcome_puts: list[Outcome] = field(default_factory=list)
    outcome_removes: list[Lease] = field(default_factory=list)
    load_after: int | None = None
    """Read batches behind this number."""
    load_bytes_max: int = 0
    """Stop reading once there are so many bytes."""
    reopen: bool = False
    """Open the store again, which has failed; the change may be nothing but the proof of it."""

    @property
    def changes(self) -> bool:
        """Whether anything is to be written."""
        written = self.puts or self.removes or self.outcome_puts or self.outcome_removes
        return bool(written or self.reopen)

    def __bool__(self) -> bool:
        return self.changes or self.load_after is not None


@dataclass(slots=True)
class Effects:
    """What the shell shall do now, in the order of these fields."""

    notes: list[Note] = field(default_factory=list)
    reconnect: bool = False
    """Replace the connection to the coordinator by a fresh one."""
    to_coordinator: list[Message] = field(default_factory=list)
    to_local: list[tuple[int, Message]] = field(default_factory=list)
    spool: SpoolWork | None = None
    """Change the spool; ``SpoolDone`` or ``SpoolFailed`` tells the end. One at a time."""
    close: list[int] = field(default_factory=list)
    """Connections to close once what stands before them in ``to_local`` is written."""
    processes: list[OfProcess] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    """What attempts came to, if ``Terms.attempts_told``."""
    stopped: bool = False
    """The drain is over: send what is above, then exit."""
