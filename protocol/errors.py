"""What can go wrong between two processes, and what the receiver of an error may do about it.

    ProtocolError            what arrived breaks the protocol; the sender is at fault
      Malformed              bytes that are no message
      LimitExceeded          a message over one of ``protocol.limits``
      InvalidField           a field of a wrong type or range
    InvalidId                a text that is no task id

Each code on the wire answers three questions: whose fault is it, may the same thing be sent
again, and does the session survive. ``docs/protocol.md`` prints this table; a test compares them.
"""

from enum import Enum
from typing import NamedTuple


class Fault(Enum):
    """Whose fault an error is."""

    SENDER = "sender"
    RECEIVER = "receiver"
    NOBODY = "nobody"


class CodeFacts(NamedTuple):
    """The three facts about one error code, and a sentence for people."""

    fault: Fault
    retry: bool
    session_survives: bool
    meaning: str


class Code:
    """Error codes as they stand on the wire."""

    MALFORMED = "malformed"
    LIMIT_EXCEEDED = "limit_exceeded"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_MESSAGE = "unknown_message"
    STALE_EPOCH = "stale_epoch"
    WRONG_STORE = "wrong_store"
    INVALID_ID = "invalid_id"
    INVALID_HANDLER = "invalid_handler"
    INVALID_OPTION = "invalid_option"
    UNKNOWN_OPTION = "unknown_option"
    INVALID_PAYLOAD = "invalid_payload"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    BATCH_TOO_LARGE = "batch_too_large"
    DUE_OUT_OF_RANGE = "due_out_of_range"
    DUPLICATE_ID = "duplicate_id"
    TOO_MANY_HANDLERS = "too_many_handlers"
    TOO_MANY_WAITERS = "too_many_waiters"
    NOT_OWNER = "not_owner"
    STALE_TOKEN = "stale_token"
    UNKNOWN_TASK = "unknown_task"
    BUSY = "busy"
    STORE_FULL = "store_full"
    UNAVAILABLE = "unavailable"
    SPOOLED = "spooled"
    STOPPING = "stopping"


_SENDER, _RECEIVER, _NOBODY = Fault.SENDER, Fault.RECEIVER, Fault.NOBODY

CODES: dict[str, CodeFacts] = {
    Code.MALFORMED: CodeFacts(_SENDER, False, False, "The bytes are no message of this protocol."),
    Code.LIMIT_EXCEEDED: CodeFacts(_SENDER, False, False, "A message is over a protocol limit."),
    Code.UNSUPPORTED_VERSION: CodeFacts(
        _SENDER, False, False, "The two sides have no protocol version in common."
    ),
    Code.UNKNOWN_SESSION: CodeFacts(
        _NOBODY, True, False, "The receiver does not know this session; send HELLO."
    ),
    Code.UNKNOWN_MESSAGE: CodeFacts(_SENDER, False, True, "The message type is not known here."),
    Code.STALE_EPOCH: CodeFacts(
        _RECEIVER, True, False, "The coordinator is older than one already seen."
    ),
    Code.WRONG_STORE: CodeFacts(
        _RECEIVER, False, False, "The coordinator serves another store than the one expected."
    ),
    Code.INVALID_ID: CodeFacts(_SENDER, False, True, "A task id is not a UUIDv7 of 16 bytes."),
    Code.INVALID_HANDLER: CodeFacts(
        _SENDER, False, True, "A name does not match [a-z0-9._-]{1,64}."
    ),
    Code.INVALID_OPTION: CodeFacts(_SENDER, False, True, "An option has a wrong type or range."),
    Code.UNKNOWN_OPTION: CodeFacts(_SENDER, False, True, "An option of that name does not exist."),
    Code.INVALID_PAYLOAD: CodeFacts(_SENDER, False, True, "The payload is not a byte string."),
    Code.PAYLOAD_TOO_LARGE: CodeFacts(_SENDER, False, True, "The payload is over its limit."),
    Code.BATCH_TOO_LARGE: CodeFacts(_SENDER, False, True, "The batch holds too many tasks."),
    Code.DUE_OUT_OF_RANGE: CodeFacts(
        _SENDER, False, True, "The due time is in the past or beyond ten years."
    ),
    Code.DUPLICATE_ID: CodeFacts(
        _SENDER, False, True, "Another task has this id; the earlier one is unharmed."
    ),
    Code.TOO_MANY_HANDLERS: CodeFacts(
        _SENDER, False, True, "The coordinator keeps no more handler names."
    ),
    Code.TOO_MANY_WAITERS: CodeFacts(_SENDER, True, True, "Too many waits are open."),
    Code.NOT_OWNER: CodeFacts(
        _SENDER, False, True, "A service may declare only handlers that begin with its name."
    ),
    Code.STALE_TOKEN: CodeFacts(
        _NOBODY, False, True, "The lease is gone: a later one was granted, or the task has ended."
    ),
    Code.UNKNOWN_TASK: CodeFacts(
        _NOBODY, False, True, "No task has this id: it never existed, or its retention is over."
    ),
    Code.BUSY: CodeFacts(
        _RECEIVER, True, True, "The receiver is at a limit; wait, then send again."
    ),
    Code.STORE_FULL: CodeFacts(
        _RECEIVER, True, True, "The coordinator's store or disk is nearly full."
    ),
    Code.UNAVAILABLE: CodeFacts(
        _RECEIVER, True, True, "The coordinator did not answer; the outcome is not known."
    ),
    Code.SPOOLED: CodeFacts(
        _NOBODY, False, True, "Durable in the sidecar's spool; the coordinator accepts it later."
    ),
    Code.STOPPING: CodeFacts(_RECEIVER, True, False, "The receiver is shutting down."),
}


class ProtocolError(Exception):
    """Raised when what arrived breaks the protocol."""

    code = Code.MALFORMED

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Malformed(ProtocolError):
    """Raised when bytes are no message."""


class LimitExceeded(ProtocolError):
    """Raised when a message is over a limit."""

    code = Code.LIMIT_EXCEEDED


class InvalidField(ProtocolError):
    """Raised when a field has a wrong type or range."""


class InvalidId(ValueError):
    """Raised when a text is no task id."""

    def __init__(self, text: object) -> None:
        shown = repr(text[:60]) if isinstance(text, str) else f"of type {type(text).__name__}"
        super().__init__(
            f"{shown} is not a task id; expected a UUIDv7 such as "
            "018f2b4c-5a3e-7c10-8a44-2f1f0a9b3c5d"
        )
