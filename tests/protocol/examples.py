"""One message of each kind with every field away from its default: what the golden bytes hold."""

from protocol import messages as m
from tests.support.builders import FIRST_MS, a_granted_task, a_submission, task_id

_STORE = bytes(range(16, 32))
_INCARNATION = bytes(range(16))
_DECLARATIONS = [
    m.Declaration("email.send", {"attempts_max": 5, "timeout_ms": 30_000}),
    m.Declaration("email.render", {}),
]
_LIMITS = [m.Limit("email.send", 128), m.Limit("email.render", 0)]
_LEASES = [m.Lease(task_id(1), 1), m.Lease(task_id(2), 2**40)]
CARRIED = {
    "key": "order 42",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=opaque",
    "baggage": "tenant=acme",
    "meta": {"tenant": "acme"},
}
_GROUPS = [
    m.Group(
        "email.send",
        [
            a_granted_task(1),
            a_granted_task(
                2,
                token=7,
                attempt=3,
                delivery=4,
                content_type="application/octet-stream",
                payload=b"\x00\xff",
                extras={
                    "collection": "welcome",
                    "priority": 1,
                    "last_error": "TimeoutError",
                    "checkpoint": b"page 7",
                    **CARRIED,
                },
            ),
        ],
    ),
    m.Group("email.render", [a_granted_task(3)]),
]
_BATCH = (
    b"\x92\x93\xc4\x10" + task_id(1) + b"\xaaemail.send\xc4\x02{}"
    b"\x93\xc4\x10" + task_id(2) + b"\xaaemail.send\xc4\x02{}"
)
_STATUS = m.Status(
    id=task_id(1),
    handler="email.send",
    state=m.State.SUCCEEDED,
    priority=m.Priority.HIGH,
    collection="welcome",
    submitted_ms=FIRST_MS,
    due_ms=FIRST_MS + 5_000,
    expires_ms=FIRST_MS + 3_600_000,
    finished_ms=FIRST_MS + 9_000,
    attempts=2,
    attempts_max=5,
    deliveries=3,
    sidecar="host-1",
    sidecars=2,
    result=m.Result(None, b'"sent"'),
    error="",
    history=[
        m.AttemptRecord(
            number=1,
            started_ms=FIRST_MS + 5_000,
            run_us=1_500,
            outcome=m.OutcomeKind.RETRY,
            sidecar="host-1",
            error_type="TimeoutError",
            message="no answer",
            detail="Traceback ...",
        )
    ],
    progress=500,
    note="half of them",
    checkpoint=b"page 7",
    cancelling=True,
    revision=2**40,
)

MESSAGES: dict[str, m.Message] = {
    "hello": m.Hello(
        version_min=1,
        version_max=1,
        sidecar="host-1",
        incarnation=_INCARNATION,
        service="email",
        software="0.1.0",
        store=_STORE,
        epoch=3,
        session=17,
        held=_LEASES,
    ),
    "hello-first": m.Hello(1, 1, "host-1", _INCARNATION, "email", "0.1.0", None, 0, 0, []),
    "handlers": m.Handlers(_DECLARATIONS),
    "demand": m.Demand(_LIMITS),
    "heartbeat": m.Heartbeat(123_456, _LIMITS, [m.Running(task_id(1), 1, 250)]),
    "welcome": m.Welcome(
        version=1,
        session=18,
        resumed=True,
        epoch=3,
        store=_STORE,
        timeout_ms=10_000,
        lost=_LEASES[1:],
        software="0.1.0",
    ),
    "grant": m.Grant(18, 1, _GROUPS),
    "recorded": m.Recorded(5, [m.Unrecorded(1, "stale_token")]),
    "beat": m.Beat(18, 123_456, 1),
    "drain": m.Drain(18, True, "ada: a new kernel"),
    "drain-over": m.Drain(18, False, ""),
    "attach": m.Attach(
        version_min=1,
        version_max=1,
        service="email",
        software="0.1.0",
        declarations=_DECLARATIONS,
        slots=[m.Limit("email.send", 16), m.Limit("email.render", 1)],
    ),
    "attach-app": m.Attach(1, 1, "", "0.1.0", [], []),
    "attached": m.Attached(1, "host-1", 4_194_304),
    "tasks": m.Tasks(_GROUPS),
    "recall": m.Recall(_LEASES),
    "validity": m.Validity(86_400_000),
    "inspect": m.Inspect(),
    "inspected": m.Inspected({"coordinator": "connected", "leases": 12}),
    "submit": m.Submit([m.Batch(9, _BATCH)]),
    "accepted": m.Accepted(
        [
            m.Verdict(
                9, None, "", 0, [m.Rejection(1, "duplicate_id", "another task has this id")], [0, 2]
            ),
            m.Verdict(10, "busy", "too many bytes wait", 500, []),
        ]
    ),
    "outcomes": m.Outcomes(
        5,
        [
            m.Outcome(task_id(1), 1, m.OutcomeKind.SUCCESS, 1_500, None),
            m.Outcome(task_id(2), 7, m.OutcomeKind.SUCCESS, 90, m.Result("text/plain", b"sent")),
            m.Outcome(
                task_id(3),
                2,
                m.OutcomeKind.RETRY,
                30_000_000,
                m.Failure("TimeoutError", "no answer", "Traceback ...", 30_000),
            ),
            m.Outcome(task_id(4), 1, m.OutcomeKind.DEFER, 10, m.Failure("Defer")),
            m.Outcome(task_id(5), 1, m.OutcomeKind.FATAL, 10, m.Failure("ValueError", "no '@'")),
            m.Outcome(task_id(6), 1, m.OutcomeKind.RETURNED, 0, None),
            m.Outcome(task_id(7), 1, m.OutcomeKind.LOST, 0, m.Failure("crash")),
        ],
    ),
    "query": m.Query([m.Question(11, task_id(1), 30_000), m.Question(12, task_id(2), 1, 2**40)]),
    "cancel": m.Cancel([m.Cancellation(13, task_id(1), "not wanted any more")]),
    "progress": m.Progress(
        [m.Update(task_id(1), 1, 500, "half of them", b"page 7"), m.Update(task_id(2), 7)]
    ),
    "answer": m.Answer([m.Reply(11, None, _STATUS), m.Reply(12, "unknown_task", None)]),
    "revoke": m.Revoke([m.Revoked(task_id(1), 1, "timeout")]),
    "refused": m.Refused("unknown_session", "send HELLO", 0),
    "goodbye": m.Goodbye("stopping"),
}

BATCHES: dict[str, list[m.Submission]] = {
    "batch": [
        a_submission(1, payload=b"{}"),
        a_submission(2, payload=b"\x00\xff", content_type="application/octet-stream"),
        a_submission(
            3,
            payload=b"{}",
            options={
                "delay_ms": 60_000,
                "priority": 0,
                "collection": "welcome",
                "expires_ms": 3_600_000,
                "attempts_max": 3,
                "timeout_ms": 5_000,
                "backoff_ms_min": 100,
                "backoff_ms_max": 10_000,
            },
        ),
        a_submission(4, payload=b"{}", options={"at_ms": FIRST_MS + 86_400_000}),
    ],
    "batch-carrying": [a_submission(1, payload=b"{}", options=CARRIED)],
}
