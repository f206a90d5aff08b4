"""Checks for the fields of messages: each takes what MessagePack gave and returns the value.

A check raises ``InvalidField`` that names the field. Checks for records that occur once per task
are written as one flat loop each, because they are on the path of every task.
"""

import re
from collections.abc import Callable
from typing import Any

from protocol import limits
from protocol.errors import InvalidField
from protocol.messages import (
    AttemptRecord,
    Batch,
    Cancellation,
    Declaration,
    Failure,
    GrantedTask,
    Group,
    Lease,
    Limit,
    Outcome,
    OutcomeKind,
    Question,
    Rejection,
    Reply,
    Result,
    Revoked,
    Running,
    State,
    Status,
    Unrecorded,
    Update,
    Verdict,
)

Check = Callable[[str, Any], Any]

INT_MAX = 2**63 - 1
SHOWN_CHARS_MAX = 60
"""Of a refused text, what its error repeats."""

_NAME = re.compile(r"[a-z0-9._-]{1,64}\Z")
_KINDS = tuple(OutcomeKind)
_STATES = tuple(State)


def is_name(value: object) -> bool:
    """Tell whether ``value`` may name a handler, service or collection."""
    return type(value) is str and _NAME.match(value) is not None


def fail(field: str, value: object, expected: str) -> InvalidField:
    """Return the error for one field."""
    return InvalidField(f"{field} is {shown(value)}; expected {expected}")


def shown(value: object) -> str:
    """Return a short text for a value that was refused.

    Foreign text is escaped and cut, bytes (they may be a payload) and containers (they may be deep
    or huge) are only measured.
    """
    if type(value) is str:
        return repr(value) if len(value) <= SHOWN_CHARS_MAX else f"{value[:SHOWN_CHARS_MAX]!r}..."
    if value is None or type(value) in (bool, float):
        return repr(value)
    if type(value) is int:
        return str(value) if value.bit_length() <= 64 else "a giant integer"
    if isinstance(value, bytes | list | tuple | dict):
        return f"{type(value).__name__} of length {len(value)}"
    return f"of type {type(value).__name__}"


def integer(field: str, value: Any) -> int:
    """A whole number from 0 to 2^63 - 1."""
    if type(value) is not int or not 0 <= value <= INT_MAX:
        raise fail(field, value, "an integer from 0 to 2^63-1")
    return value


def permille(field: str, value: Any) -> int:
    """A share in thousandths; -1 when it is not told."""
    if type(value) is not int or not -1 <= value <= 1000:
        raise fail(field, value, "an integer from 0 to 1000, or -1")
    return value


def revision(field: str, value: Any) -> int:
    """The revision of a status; -1 for any."""
    if type(value) is not int or not -1 <= value <= INT_MAX:
        raise fail(field, value, "an integer from 0 to 2^63-1, or -1")
    return value


def boolean(field: str, value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise fail(field, value, "true or false")
    return value


def text_to(chars_max: int) -> Check:
    """Make a check for text of bounded length."""

    def text(field: str, value: Any) -> str:
        if type(value) is not str or len(value) > chars_max:
            raise fail(field, value, f"text of at most {chars_max} characters")
        return value

    return text


text = text_to(limits.ERROR_DETAIL_CHARS_MAX)
message = text_to(limits.ERROR_MESSAGE_CHARS_MAX)
label = text_to(limits.ERROR_TYPE_CHARS_MAX)
note = text_to(limits.NOTE_CHARS_MAX)
reason = text_to(limits.REASON_CHARS_MAX)


def optional(check: Check) -> Check:
    """Make a check that also takes nil."""

    def check_optional(field: str, value: Any) -> Any:
        return None if value is None else check(field, value)

    return check_optional


def name(field: str, value: Any) -> str:
    """A name: ``[a-z0-9._-]{1,64}``."""
    if not is_name(value):
        raise fail(field, value, "a name of [a-z0-9._-]{1,64}")
    return str(value)


def name_or_empty(field: str, value: Any) -> str:
    """A name, or the empty text."""
    return "" if value == "" else name(field, value)


def id16(field: str, value: Any) -> bytes:
    """Sixteen bytes."""
    if type(value) is not bytes or len(value) != limits.ID_BYTES:
        raise fail(field, value, "16 bytes")
    return value


def binary(field: str, value: Any) -> bytes:
    """A byte string; the frame bounds its length."""
    if type(value) is not bytes:
        raise fail(field, value, "a byte string")
    return value


def checkpoint(field: str, value: Any) -> bytes:
    """What an attempt leaves to the next one."""
    if type(value) is not bytes or len(value) > limits.CHECKPOINT_BYTES_MAX:
        raise fail(field, value, f"at most {limits.CHECKPOINT_BYTES_MAX} bytes")
    return value


def sequence(field: str, value: Any) -> list[Any]:
    """A list."""
    if type(value) is not list:
        raise fail(field, value, "a list")
    return value


def integers(field: str, value: Any) -> list[int]:
    """A list of whole numbers."""
    for item in sequence(field, value):
        integer(field, item)
    made: list[int] = value
    return made


def list_of(record: Callable[..., Any], *checks: tuple[str, Check]) -> Check:
    """Make a check for a list of records, each given as a list with these fields."""
    count = len(checks)

    def records(field: str, value: Any) -> list[Any]:
        made = []
        for item in sequence(field, value):
            if type(item) is not list or len(item) != count:
                raise fail(field, item, f"a list of {count} fields")
            made.append(
                record(
                    *[
                        check(f"{field}.{name}", part)
                        for (name, check), part in zip(checks, item, strict=True)
                    ]
                )
            )
        return made

    return records


def policy(field: str, value: Any) -> dict[str, int]:
    """A map of policy changes; fields are checked where the policy is made."""
    if type(value) is not dict or len(value) > limits.OPTIONS_MAX:
        raise fail(field, value, "a map of policy fields")
    return {label(field, k): integer(f"{field}.{k}", v) for k, v in value.items()}


def facts(field: str, value: Any) -> dict[str, int | str]:
    """A map of names to numbers or texts."""
    if type(value) is not dict or len(value) > limits.MAP_ITEMS_MAX:
        raise fail(field, value, "a map of facts")
    return {
        label(field, k): text(field, v) if type(v) is str else integer(f"{field}.{k}", v)
        for k, v in value.items()
    }


def meta(field: str, value: Any) -> dict[str, str]:
    """A map of names to short texts, which its submitter gave a task."""
    if type(value) is not dict or len(value) > limits.META_ENTRIES_MAX:
        raise fail(field, value, f"a map of at most {limits.META_ENTRIES_MAX} texts")
    for key, part in value.items():
        name(f"{field}'s name", key)
        if (
            type(part) is not str
            or len(part) > limits.META_TEXT_CHARS_MAX
            or not part.isprintable()
        ):
            expected = f"printable text of at most {limits.META_TEXT_CHARS_MAX} characters"
            raise fail(f"{field}.{key}", part, expected)
    return value


def _extras(field: str, value: Any) -> dict[str, Any]:
    """What a leased task carries beside the usual: facts, and two of other types."""
    if type(value) is not dict or len(value) > limits.MAP_ITEMS_MAX:
        raise fail(field, value, "a map of extras")
    for key, part in value.items():
        where = f"{field}.{label(field, key)}"
        if key == "checkpoint":
            checkpoint(where, part)
        elif key == "meta":
            meta(where, part)
        elif type(part) is str:
            text(where, part)
        else:
            integer(where, part)
    return value


def failure(field: str, value: Any) -> Failure:
    """A failure: type, message, detail, wait asked for."""
    if type(value) is not list or len(value) != 4:
        raise fail(field, value, "a failure of 4 fields")
    wait = value[3]
    return Failure(
        label(f"{field}.error_type", value[0]),
        message(f"{field}.message", value[1]),
        text(f"{field}.detail", value[2]),
        None
        if wait is None
        else min(integer(f"{field}.retry_after_ms", wait), limits.DELAY_MS_MAX),
    )


def result(field: str, value: Any) -> Result:
    """A result: content type and body."""
    if (
        type(value) is not list
        or len(value) != 2
        or type(value[1]) is not bytes
        or len(value[1]) > limits.RESULT_BYTES_MAX
    ):
        raise fail(field, value, f"a result of at most {limits.RESULT_BYTES_MAX} bytes")
    return Result(optional(label)(f"{field}.content_type", value[0]), value[1])


def outcomes(field: str, value: Any) -> list[Outcome]:
    """A list of outcomes."""
    made = []
    for item in sequence(field, value):
        if type(item) is not list or len(item) != 5:
            raise fail(field, item, "an outcome of 5 fields")
        task_id, token, kind, run_us, carried = item
        if (
            type(task_id) is not bytes
            or len(task_id) != 16
            or type(token) is not int
            or not 0 <= token <= INT_MAX
            or type(kind) is not int
            or not 0 <= kind < len(_KINDS)
            or type(run_us) is not int
            or not 0 <= run_us <= INT_MAX
        ):
            raise fail(field, item, "id, token, kind, run_us, value")
        if carried is not None:
            carried = (failure if kind else result)(f"{field}.value", carried)
        made.append(Outcome(task_id, token, _KINDS[kind], run_us, carried))
    return made


def groups(field: str, value: Any) -> list[Group]:
    """Leased tasks, grouped by handler."""
    made = []
    for item in sequence(field, value):
        if type(item) is not list or len(item) != 2:
            raise fail(field, item, "handler and tasks")
        tasks = []
        for task in sequence(f"{field}.tasks", item[1]):
            if type(task) is not list or len(task) != 11:
                raise fail(f"{field}.tasks", task, "a task of 11 fields")
            task_id, a, b, c, d, e, f, g, content_type, payload, extras = task
            if type(task_id) is not bytes or len(task_id) != limits.ID_BYTES:
                raise fail(f"{field}.id", task_id, "16 bytes")
            # One test for seven bounds: the union of the bits is over or under if any number is.
            if (
                not (
                    type(a) is type(b) is type(c) is type(d) is type(e) is type(f) is type(g) is int
                )
                or not 0 <= a | b | c | d | e | f | g <= INT_MAX
            ):
                raise fail(f"{field}.tasks", task, "seven integers from 0 to 2^63-1 behind the id")
            if content_type is not None:
                label(f"{field}.content_type", content_type)
            if type(payload) is not bytes or len(payload) > limits.PAYLOAD_BYTES_MAX:
                raise fail(f"{field}.payload", payload, f"at most {limits.PAYLOAD_BYTES_MAX} bytes")
            if extras is not None:
                _extras(f"{field}.extras", extras)
            tasks.append(GrantedTask(*task))
        made.append(Group(name(f"{field}.handler", item[0]), tasks))
    return made


limits_ = list_of(Limit, ("handler", name), ("total", integer))
leases = list_of(Lease, ("id", id16), ("token", integer))
declarations = list_of(Declaration, ("handler", name), ("policy", policy))
batches = list_of(Batch, ("request", integer), ("tasks", binary), ("spool", boolean))
running = list_of(Running, ("id", id16), ("token", integer), ("since_ms", integer))
questions = list_of(
    Question, ("request", integer), ("id", id16), ("wait_ms", integer), ("revision", revision)
)
updates = list_of(
    Update,
    ("id", id16),
    ("token", integer),
    ("permille", permille),
    ("note", note),
    ("checkpoint", optional(checkpoint)),
)
cancellations = list_of(Cancellation, ("request", integer), ("id", id16), ("reason", reason))
revoked = list_of(Revoked, ("id", id16), ("token", integer), ("reason", label))
unrecorded = list_of(Unrecorded, ("place", integer), ("code", label))
rejections = list_of(Rejection, ("place", integer), ("code", label), ("detail", text))
verdicts = list_of(
    Verdict,
    ("request", integer),
    ("code", optional(label)),
    ("detail", text),
    ("retry_after_ms", integer),
    ("rejections", rejections),
    ("duplicates", integers),
)
history = list_of(
    AttemptRecord,
    ("number", integer),
    ("started_ms", integer),
    ("run_us", integer),
    ("outcome", integer),
    ("sidecar", label),
    ("error_type", label),
    ("message", message),
    ("detail", text),
)


def state(field: str, value: Any) -> State:
    """The number of a state."""
    if type(value) is not int or not 0 <= value < len(_STATES):
        raise fail(field, value, "the number of a state")
    return _STATES[value]


_STATUS: tuple[tuple[str, Check], ...] = (
    ("id", id16),
    ("handler", name),
    ("state", state),
    ("priority", integer),
    ("collection", optional(name)),
    ("submitted_ms", integer),
    ("due_ms", integer),
    ("expires_ms", integer),
    ("finished_ms", integer),
    ("attempts", integer),
    ("attempts_max", integer),
    ("deliveries", integer),
    ("sidecar", label),
    ("sidecars", integer),
    ("result", optional(result)),
    ("error", text),
    ("history", history),
    ("progress", permille),
    ("note", note),
    ("checkpoint", optional(checkpoint)),
    ("cancelling", boolean),
    ("revision", integer),
)


def status(field: str, value: Any) -> Status:
    """The status of one task."""
    made: list[Status] = list_of(Status, *_STATUS)(field, [value])
    return made[0]


replies = list_of(
    Reply, ("request", integer), ("code", optional(label)), ("status", optional(status))
)
