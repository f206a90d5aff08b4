"""Valid protocol values by default: a test names only what it is about."""

from typing import Any

from protocol import messages as m
from protocol.submission import encode_batch

FIRST_MS = 1_700_000_000_000


def task_id(number: int = 1) -> bytes:
    """Return the id numbered ``number``: a UUIDv7, always the same one, growing with the number."""
    value = (FIRST_MS << 80) | (0x7 << 76) | (0b10 << 62) | number
    return value.to_bytes(16, "big")


def a_submission(number: int = 1, **changes: Any) -> m.Submission:
    """Return a task to submit."""
    made = m.Submission(id=task_id(number), handler="email.send", payload=b'{"to": "a@b.c"}')
    return made._replace(**changes)


def a_batch(*submissions: m.Submission, request: int = 1) -> m.Batch:
    """Return a batch of these submissions, or of one."""
    return m.Batch(request=request, tasks=encode_batch(list(submissions) or [a_submission()]))


def a_granted_task(number: int = 1, **changes: Any) -> m.GrantedTask:
    """Return a leased task on its first attempt."""
    made = m.GrantedTask(
        id=task_id(number),
        token=1,
        attempt=1,
        attempts_max=12,
        delivery=1,
        timeout_ms=60_000,
        submitted_ms=FIRST_MS,
        due_ms=FIRST_MS,
        content_type=None,
        payload=b'{"to": "a@b.c"}',
        extras=None,
    )
    return made._replace(**changes)


def a_lease(number: int = 1, token: int = 1) -> m.Lease:
    """Return the name of a lease."""
    return m.Lease(id=task_id(number), token=token)


def an_outcome(number: int = 1, **changes: Any) -> m.Outcome:
    """Return a success without a result."""
    made = m.Outcome(
        id=task_id(number), token=1, kind=m.OutcomeKind.SUCCESS, run_us=1_500, value=None
    )
    return made._replace(**changes)


def a_status(number: int = 1, **changes: Any) -> m.Status:
    """Return the status of a task that waits for its first attempt."""
    made = m.Status(
        id=task_id(number),
        handler="email.send",
        state=m.State.READY,
        priority=m.Priority.NORMAL,
        collection=None,
        submitted_ms=FIRST_MS,
        due_ms=FIRST_MS,
        expires_ms=0,
        finished_ms=0,
        attempts=0,
        attempts_max=12,
        deliveries=0,
        sidecar="",
        sidecars=1,
        result=None,
        error="",
        history=[],
    )
    return made._replace(**changes)


def a_hello(**changes: Any) -> m.Hello:
    """Return the HELLO of a sidecar that was never welcomed."""
    values: dict[str, Any] = {
        "version_min": 1,
        "version_max": 1,
        "sidecar": "host-1",
        "incarnation": bytes(range(16)),
        "service": "email",
        "software": "0.1.0",
        "store": None,
        "epoch": 0,
        "session": 0,
        "held": [],
    }
    return m.Hello(**values | changes)


def an_attach(**changes: Any) -> m.Attach:
    """Return the ATTACH of an app that only submits."""
    values: dict[str, Any] = {
        "version_min": 1,
        "version_max": 1,
        "service": "",
        "software": "0.1.0",
        "declarations": [],
        "slots": [],
    }
    return m.Attach(**values | changes)
