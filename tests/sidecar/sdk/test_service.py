"""Services served against a scripted sidecar: attempts, outcomes, order, demand, the end."""

import asyncio
import contextvars
import json
import logging
import threading
from typing import Any

import pytest

from protocol import limits
from protocol import messages as m
from protocol.ids import to_text
from sidecar import (
    Context,
    Defer,
    Fatal,
    InvalidHandler,
    NoContext,
    Refused,
    Retry,
    Service,
    current,
)
from sidecar.sdk.validity import boottime_ms
from tests.sidecar.sdk.peer import DEADLINE_S, Peer, served
from tests.support.builders import a_granted_task, a_lease, task_id


async def reached(event: asyncio.Event) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await event.wait()


def failure(outcome: m.Outcome) -> m.Failure:
    assert isinstance(outcome.value, m.Failure), outcome
    return outcome.value


async def one_outcome(peer: Peer, service: Service, task: m.GrantedTask) -> m.Outcome:
    async with served(peer, service) as connection:
        connection.hand(task)
        (outcome,) = await connection.outcomes(1)
    return outcome


async def test_service_declares_its_handlers_policies_and_slots(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler(
        timeout="5m", attempts=3, backoff_min=1, backoff_max="1h", concurrency=4, limit=9, crashes=2
    )
    async def send(to: str) -> None: ...

    @service.handler("welcome.back", deferrals=5, start_within="1m")
    def welcome() -> None: ...

    async with peer:
        serving = asyncio.create_task(service.serve())
        _, attach = await peer.attached()
        serving.cancel()
        await asyncio.wait([serving])

    assert attach.service == "email"
    assert attach.declarations == [
        m.Declaration(
            "email.send",
            {
                "attempts_max": 3,
                "backoff_ms_min": 1000,
                "backoff_ms_max": 3_600_000,
                "timeout_ms": 300_000,
                "concurrency": 9,
                "crashes_max": 2,
            },
        ),
        m.Declaration("email.welcome.back", {"deferrals_max": 5, "start_within_ms": 60_000}),
    ]
    assert attach.slots == [m.Limit("email.send", 4), m.Limit("email.welcome.back", 16)]


async def test_async_handler_gets_its_arguments_and_its_result_is_told(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str, *, copies: int = 1) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"to": to, "copies": copies}

    async with peer:
        task = a_granted_task(payload=b'{"to": "a@b.c", "copies": 2}', token=7)
        outcome = await one_outcome(peer, service, task)

    assert outcome[:3] == (task.id, 7, m.OutcomeKind.SUCCESS)
    assert isinstance(outcome.value, m.Result)
    assert outcome.value.content_type is None
    assert json.loads(outcome.value.body) == {"to": "a@b.c", "copies": 2}


async def test_sync_handler_runs_in_a_thread_of_its_own_pool(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler(concurrency=2)
    def send(to: str) -> str:
        return threading.current_thread().name

    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task())

    assert isinstance(outcome.value, m.Result)
    assert json.loads(outcome.value.body) == "email.send-1"


async def test_nothing_returned_is_no_result(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None: ...

    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task())

    assert (outcome.kind, outcome.value) == (m.OutcomeKind.SUCCESS, None)


async def test_bytes_handler_gets_the_payload_as_it_is_and_returns_bytes(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    def send(raw: bytes) -> bytes:
        return raw[::-1]

    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task(payload=b"\0{1"))

    assert outcome.value == m.Result("application/octet-stream", b"1{\0")


async def test_context_tells_about_the_attempt(peer: Peer) -> None:
    service = Service("email", peer.path)
    seen: list[Context] = []

    @service.handler()
    async def send(to: str) -> None:
        await asyncio.sleep(0)
        seen.append(current())

    task = a_granted_task(
        9,
        token=4,
        attempt=2,
        delivery=3,
        extras={"collection": "spring", "priority": 1, "last_error": "timeout"},
    )
    async with peer:
        await one_outcome(peer, service, task)

    (context,) = seen
    assert (context.id, context.handler) == (to_text(task_id(9)), "email.send")
    assert (context.token, context.attempt, context.delivery) == (4, 2, 3)
    assert (context.attempts_max, context.collection) == (12, "spring")
    assert (context.priority, context.last_error) == ("high", "timeout")
    assert context.submitted_at.timestamp() * 1000 == task.submitted_ms
    assert 50 < context.remaining() <= 60
    assert not context.cancelled
    assert context.content_type == "application/json"
    assert context.payload == task.payload


async def test_each_attempt_has_its_own_context(peer: Peer) -> None:
    service = Service("email", peer.path)
    seen = contextvars.ContextVar("seen", default="nothing")
    found: list[tuple[str, str]] = []

    @service.handler()
    async def send(to: str) -> None:
        before = seen.get()
        seen.set(to)
        await asyncio.sleep(0)
        found.append((before, current().id))

    async with peer, served(peer, service) as connection:
        connection.hand(*[a_granted_task(i) for i in range(5)])
        await connection.outcomes(5)

    assert found == [("nothing", to_text(task_id(i))) for i in range(5)]
    assert seen.get() == "nothing"
    with pytest.raises(NoContext):
        current()


@pytest.mark.parametrize(
    ("error", "kind", "expected"),
    [
        (
            Retry("later", after="30s"),
            m.OutcomeKind.RETRY,
            m.Failure("Retry", "later", "", 30_000),
        ),
        (Retry(after=0.5), m.OutcomeKind.RETRY, m.Failure("Retry", "", "", 500)),
        (Defer(after="1m"), m.OutcomeKind.DEFER, m.Failure("Defer", "", "", 60_000)),
        (Defer("busy"), m.OutcomeKind.DEFER, m.Failure("Defer", "busy", "", None)),
        (Fatal("no address"), m.OutcomeKind.FATAL, m.Failure("Fatal", "no address", "", None)),
    ],
)
@pytest.mark.parametrize("blocks", [False, True])
async def test_handlers_decide_what_their_attempt_comes_to(
    peer: Peer, error: Exception, kind: m.OutcomeKind, expected: m.Failure, blocks: bool
) -> None:
    service = Service("email", peer.path)

    async def send_async(to: str) -> None:
        raise error

    def send_blocking(to: str) -> None:
        raise error

    if blocks:
        service.handler("send")(send_blocking)
    else:
        service.handler("send")(send_async)
    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task())

    assert (outcome.kind, outcome.value) == (kind, expected)


@pytest.mark.parametrize("blocks", [False, True])
async def test_any_other_exception_is_retried_with_a_bounded_account_of_it(
    peer: Peer, blocks: bool
) -> None:
    service = Service("email", peer.path)

    def deeper(depth: int) -> None:
        if depth:
            deeper(depth - 1)
        raise LookupError("x" * 5000 + "\ud800")

    @service.handler("a")
    async def send(to: str) -> None:
        deeper(100)

    @service.handler("b")
    def send_blocking(to: str) -> None:
        deeper(100)

    async with peer, served(peer, service) as connection:
        connection.hand(a_granted_task(), handler="email.b" if blocks else "email.a")
        (outcome,) = await connection.outcomes(1)

    assert outcome.kind is m.OutcomeKind.RETRY
    told = failure(outcome)
    assert told.error_type == "LookupError"
    assert len(told.message) == limits.ERROR_MESSAGE_CHARS_MAX
    assert len(told.detail) == limits.ERROR_DETAIL_CHARS_MAX
    assert told.retry_after_ms is None


async def test_traceback_begins_in_the_handler(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None:
        raise LookupError("gone")

    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task())

    detail = failure(outcome).detail
    assert 'raise LookupError("gone")' in detail
    assert "runner.py" not in detail


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
async def test_handler_that_ends_by_more_than_an_error_harms_nobody(
    peer: Peer, error: BaseException
) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None:
        raise error

    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task())

    assert outcome.kind is m.OutcomeKind.RETRY
    assert failure(outcome).error_type == type(error).__name__


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"{}", "field 'to' is missing"),
        (b'{"to": 1}', "field 'to' is an integer; expected a string"),
        (b'{"to": "a", "cc": "b"}', "field 'cc' is not known"),
        (b'["a"]', "the payload is a list"),
        (b"not json", "the payload is not JSON"),
        (b"\xff", "the payload is not JSON"),
        (b"[" * 100_000, "the payload is not JSON"),
    ],
)
async def test_payload_that_does_not_fit_is_fatal_and_names_the_field(
    peer: Peer, payload: bytes, words: str
) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None: ...

    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task(payload=payload))

    assert outcome.kind is m.OutcomeKind.FATAL
    assert failure(outcome).error_type == "InvalidPayload"
    assert words in failure(outcome).message


@pytest.mark.parametrize(
    ("value", "words"),
    [(object(), "cannot be written as JSON"), ("x" * 300_000, "the limit is 262144")],
)
async def test_result_that_cannot_be_kept_is_fatal(peer: Peer, value: object, words: str) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> object:
        return value

    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task())

    assert outcome.kind is m.OutcomeKind.FATAL
    assert words in failure(outcome).message


@pytest.mark.parametrize("blocks", [False, True])
async def test_tasks_begin_in_the_order_they_were_handed_over(peer: Peer, blocks: bool) -> None:
    service = Service("email", peer.path)
    begun: list[str] = []

    @service.handler("a", concurrency=3)
    async def send(n: int) -> None:
        begun.append(current().id)
        await asyncio.sleep(0)

    @service.handler("b", concurrency=1)
    def send_blocking(n: int) -> None:
        begun.append(current().id)

    tasks = [a_granted_task(i, payload=b'{"n": 1}') for i in range(40)]
    async with peer, served(peer, service) as connection:
        connection.hand(*tasks, handler="email.b" if blocks else "email.a")
        await connection.outcomes(40)

    assert begun == [to_text(t.id) for t in tasks]


async def test_outcome_reaches_the_sidecar_before_its_slot_is_used_again(peer: Peer) -> None:
    """A sidecar tells by this order which attempts may have begun when a process dies."""
    service = Service("email", peer.path)
    release = [asyncio.Event() for _ in range(3)]
    begun = [asyncio.Event() for _ in range(3)]

    @service.handler(concurrency=1)
    async def send(n: int) -> bytes:
        begun[n].set()
        await release[n].wait()
        return b"x" * limits.RESULT_BYTES_MAX

    tasks = [a_granted_task(i, payload=json.dumps({"n": i}).encode()) for i in range(3)]
    async with peer, served(peer, service) as connection:
        connection.hand(*tasks)
        await reached(begun[0])
        # The peer does not read now, so that the outcome, larger than the kernel's buffer,
        # cannot have been written whole.
        connection.pause()
        release[0].set()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not begun[1].is_set()

        connection.resume()
        await connection.outcomes(1)
        await reached(begun[1])
        release[1].set()
        release[2].set()
        await connection.outcomes(2)


async def test_demand_is_received_and_free_slots(peer: Peer) -> None:
    service = Service("email", peer.path)
    release = asyncio.Event()

    @service.handler(concurrency=8)
    async def send(to: str) -> None:
        await release.wait()
        await asyncio.sleep(0.02)

    async with peer, served(peer, service) as connection:
        first = await connection.expect(m.Demand)
        connection.hand(*[a_granted_task(i) for i in range(8)])
        release.set()
        await connection.outcomes(8)
        second = await connection.expect(m.Demand)

    assert first.limits == [m.Limit("email.send", 8)]
    assert second.limits[0].total > 8
    assert second.limits[0].total <= 16, "a slow handler takes nothing ahead"


async def test_fast_handler_takes_tasks_ahead(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler(concurrency=8)
    async def send(to: str) -> None: ...

    number = stated = 0
    async with peer, served(peer, service) as connection:
        while stated - number <= 20 and number < 50_000:
            stated = max(stated, (await connection.expect(m.Demand)).limits[0].total)
            connection.hand(*[a_granted_task(i) for i in range(number, stated)])
            await connection.outcomes(stated - number)
            number, stated = stated, max(stated, connection.last_demand())

    assert stated - number > 20


async def test_demand_does_not_ask_for_more_while_tasks_wait(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun, release = asyncio.Event(), asyncio.Event()

    @service.handler(concurrency=2)
    async def send(to: str) -> None:
        begun.set()
        await release.wait()

    async with peer, served(peer, service) as connection:
        await connection.demanded(2)
        connection.hand(*[a_granted_task(i) for i in range(6)])
        await reached(begun)
        connection.send(m.Recall([]), m.Revoke([]))
        release.set()
        await connection.outcomes(6)

        assert connection.last_demand() <= 8 + 6


async def test_overrun_async_attempt_is_cancelled_and_retried(peer: Peer) -> None:
    service = Service("email", peer.path)
    ended = asyncio.Event()

    @service.handler()
    async def send(to: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task(timeout_ms=50))

    assert ended.is_set()
    assert outcome.kind is m.OutcomeKind.RETRY
    assert failure(outcome).error_type == "timeout"
    assert outcome.run_us >= 50_000


async def test_overrun_attempt_that_was_waiting_is_stopped_on_its_own_time(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler(concurrency=1)
    async def send(to: str) -> None:
        await asyncio.Event().wait()

    async with peer, served(peer, service) as connection:
        connection.hand(a_granted_task(1, timeout_ms=60), a_granted_task(2, timeout_ms=20))
        first, second = await connection.outcomes(2)

    assert [first.id, second.id] == [task_id(1), task_id(2)]
    assert failure(second).error_type == "timeout"
    assert 20_000 <= second.run_us < 5_000_000


async def test_overrun_sync_attempt_sees_it_and_what_it_returns_is_not_taken(peer: Peer) -> None:
    service = Service("email", peer.path)
    reasons: list[str | None] = []

    @service.handler()
    def send(to: str) -> str:
        assert current().wait_cancelled(DEADLINE_S)
        reasons.append(current().reason)
        return "half done"

    async with peer:
        outcome = await one_outcome(peer, service, a_granted_task(timeout_ms=50))

    assert reasons == ["timeout"]
    assert (outcome.kind, failure(outcome).error_type) == (m.OutcomeKind.RETRY, "timeout")


async def test_revoked_attempt_is_cancelled_with_the_reason_in_its_context(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun = asyncio.Event()
    reasons: list[str | None] = []

    @service.handler()
    async def send(to: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reasons.append(current().reason)
            raise

    async with peer, served(peer, service) as connection:
        connection.hand(a_granted_task())
        await reached(begun)
        connection.send(m.Revoke([m.Revoked(task_id(), 1, "lease-lost")]))
        (outcome,) = await connection.outcomes(1)

    assert reasons == ["lease-lost"]
    assert failure(outcome).error_type == "lease-lost"


async def test_attempts_stop_by_themselves_when_the_sidecar_falls_silent(peer: Peer) -> None:
    service = Service("email", peer.path)
    reasons: list[str | None] = []

    @service.handler()
    async def send(to: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reasons.append(current().reason)
            raise

    async with peer, served(peer, service) as connection:
        connection.send(m.Validity(boottime_ms() + 100))
        connection.hand(a_granted_task())
        connection.send(m.Validity(boottime_ms() + 200))
        (outcome,) = await connection.outcomes(1)

    assert reasons == ["lease-lost"]
    assert failure(outcome).error_type == "lease-lost"
    assert outcome.run_us >= 150_000, "the later validity counted"


async def test_revoked_attempt_that_swallows_the_cancellation_is_no_success(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun = asyncio.Event()

    @service.handler()
    async def send(to: str) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "fine"
        return "never"

    async with peer, served(peer, service) as connection:
        connection.hand(a_granted_task())
        await reached(begun)
        connection.send(m.Revoke([m.Revoked(task_id(), 1, "cancelled")]))
        (outcome,) = await connection.outcomes(1)

    assert (outcome.kind, failure(outcome).error_type) == (m.OutcomeKind.RETRY, "cancelled")


async def test_attempt_revoked_before_its_first_step_never_enters_the_handler(peer: Peer) -> None:
    service = Service("email", peer.path)
    entered: list[str] = []

    @service.handler()
    async def send(to: str) -> None:
        entered.append(current().id)

    async with peer, served(peer, service) as connection:
        connection.send(
            m.Tasks([m.Group("email.send", [a_granted_task()])]),
            m.Revoke([m.Revoked(task_id(), 1, "cancelled")]),
        )
        (outcome,) = await connection.outcomes(1)

    assert entered == []
    assert failure(outcome).error_type == "cancelled"


@pytest.mark.parametrize("heeds", [False, True])
async def test_cancelled_sync_attempt_that_never_looked_has_succeeded(
    peer: Peer, heeds: bool
) -> None:
    service = Service("email", peer.path)
    begun, release = threading.Event(), threading.Event()

    @service.handler()
    def send(to: str) -> str | None:
        begun.set()
        assert release.wait(DEADLINE_S)
        return None if heeds and current().cancelled else "done"

    @service.handler()
    async def ping(to: str) -> None: ...

    async with peer, served(peer, service) as connection:
        connection.hand(a_granted_task())
        await asyncio.to_thread(begun.wait, DEADLINE_S)
        connection.send(m.Revoke([m.Revoked(task_id(), 1, "cancelled")]))
        connection.hand(a_granted_task(2), handler="email.ping")
        await connection.outcomes(1)  # So the order before it has been taken.
        release.set()
        (outcome,) = await connection.outcomes(1)

    if heeds:
        assert failure(outcome).error_type == "cancelled"
    else:
        assert outcome.kind is m.OutcomeKind.SUCCESS


async def test_revoked_sync_attempt_sees_it(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun = threading.Event()

    @service.handler()
    def send(to: str) -> None:
        begun.set()
        assert current().wait_cancelled(DEADLINE_S)
        current().raise_if_cancelled()

    async with peer, served(peer, service) as connection:
        connection.hand(a_granted_task())
        await asyncio.to_thread(begun.wait, DEADLINE_S)
        connection.send(m.Revoke([m.Revoked(task_id(), 1, "lease-lost")]))
        (outcome,) = await connection.outcomes(1)

    assert failure(outcome).error_type == "lease-lost"


@pytest.mark.parametrize("order", ["recall", "revoke"])
async def test_what_has_not_begun_is_given_back_unused(peer: Peer, order: str) -> None:
    service = Service("email", peer.path)
    begun, release = asyncio.Event(), asyncio.Event()

    @service.handler(concurrency=1)
    async def send(to: str) -> None:
        begun.set()
        await release.wait()

    async with peer, served(peer, service) as connection:
        connection.hand(*[a_granted_task(i) for i in range(4)])
        await reached(begun)
        if order == "recall":
            connection.send(m.Recall([a_lease(i) for i in (0, 1, 2, 99)]))
        else:
            connection.send(m.Revoke([m.Revoked(task_id(i), 1, "cancelled") for i in (1, 2)]))
        returned = await connection.outcomes(2)
        release.set()
        rest = await connection.outcomes(2)

    assert [(o.id, o.kind) for o in returned] == [
        (task_id(1), m.OutcomeKind.RETURNED),
        (task_id(2), m.OutcomeKind.RETURNED),
    ]
    assert [(o.id, o.kind) for o in rest] == [
        (task_id(0), m.OutcomeKind.SUCCESS),
        (task_id(3), m.OutcomeKind.SUCCESS),
    ]


async def test_broken_connection_stops_attempts_and_nothing_of_them_is_told(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun, stopped = asyncio.Event(), asyncio.Event()
    in_thread, reasons = threading.Event(), []

    @service.handler("a", concurrency=2)
    async def send(to: str) -> None:
        begun.set()
        try:
            if not stopped.is_set():
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            reasons.append(current().reason)
            stopped.set()
            raise

    @service.handler("b", concurrency=2)
    def send_blocking(to: str) -> None:
        in_thread.set()
        assert current().wait_cancelled(DEADLINE_S)
        reasons.append(current().reason)

    async with peer:
        serving = asyncio.create_task(service.serve())
        connection, _ = await peer.attached()
        connection.hand(a_granted_task(1), handler="email.a")
        connection.hand(a_granted_task(2), handler="email.b")
        await reached(begun)
        await asyncio.to_thread(in_thread.wait, DEADLINE_S)
        connection.cut()
        await reached(stopped)

        connection, attach = await peer.attached()
        connection.hand(a_granted_task(3), handler="email.a")
        (outcome,) = await connection.outcomes(1)
        await connection.demanded(2, "email.b")
        serving.cancel()
        await asyncio.wait([serving])

    assert reasons == ["disconnected"] * 2
    assert outcome[:3] == (task_id(3), 1, m.OutcomeKind.SUCCESS)
    assert attach.slots == [m.Limit("email.a", 2), m.Limit("email.b", 2)]


async def test_attempts_of_a_lost_connection_keep_their_slots_until_they_end(peer: Peer) -> None:
    service = Service("email", peer.path)
    release, begun = threading.Event(), threading.Event()

    @service.handler(concurrency=3)
    def send(to: str) -> None:
        begun.set()
        release.wait(DEADLINE_S)

    async with peer:
        serving = asyncio.create_task(service.serve())
        connection, _ = await peer.attached()
        connection.hand(a_granted_task(1))
        await asyncio.to_thread(begun.wait, DEADLINE_S)
        connection.cut()
        connection, _ = await peer.attached()
        before = await connection.expect(m.Demand)
        release.set()
        await connection.demanded(3)
        serving.cancel()
        await asyncio.wait([serving])

    assert before.limits == [m.Limit("email.send", 2)]


async def test_stop_finishes_what_runs_and_returns_the_rest(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun, release = asyncio.Event(), asyncio.Event()

    @service.handler(concurrency=1)
    async def send(to: str) -> str:
        begun.set()
        await release.wait()
        return "done"

    async with peer:
        serving = asyncio.create_task(service.serve(drain="5s"))
        connection, _ = await peer.attached()
        connection.hand(a_granted_task(1), a_granted_task(2))
        await reached(begun)
        service.stop()
        (returned,) = await connection.outcomes(1)
        await connection.expect(m.Inspect)
        nothing_more = connection.last_demand()
        connection.hand(a_granted_task(3))  # It was on its way.
        connection.send(m.Inspected({}))
        (crossed,) = await connection.outcomes(1)
        release.set()
        (finished,) = await connection.outcomes(1)
        await connection.ended()
        await serving

    assert (returned.id, returned.kind) == (task_id(2), m.OutcomeKind.RETURNED)
    assert nothing_more == 2
    assert (crossed.id, crossed.kind) == (task_id(3), m.OutcomeKind.RETURNED)
    assert (finished.id, finished.kind) == (task_id(1), m.OutcomeKind.SUCCESS)


async def test_attempts_that_outlast_the_drain_are_stopped_uncharged(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun = asyncio.Event()

    @service.handler()
    async def send(to: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with peer:
        serving = asyncio.create_task(service.serve(drain=0.05))
        connection, _ = await peer.attached()
        connection.hand(a_granted_task())
        await reached(begun)
        service.stop()
        await connection.expect(m.Inspect)
        connection.send(m.Inspected({}))
        (outcome,) = await connection.outcomes(1)
        await serving

    assert (outcome.kind, failure(outcome).error_type) == (m.OutcomeKind.DEFER, "stopping")


async def test_second_stop_does_not_wait_for_what_runs(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun = asyncio.Event()

    @service.handler()
    async def send(to: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with peer:
        serving = asyncio.create_task(service.serve(drain="1h"))
        connection, _ = await peer.attached()
        connection.hand(a_granted_task())
        await reached(begun)
        service.stop()
        await connection.expect(m.Inspect)
        connection.send(m.Inspected({}))
        service.stop()
        (outcome,) = await connection.outcomes(1)
        await serving

    assert outcome.kind is m.OutcomeKind.DEFER


async def test_service_waits_for_its_sidecar_and_says_so(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None: ...

    said = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            loop.call_soon_threadsafe(said.set)

    listener = Listener()
    logging.getLogger("pillion").addHandler(listener)
    serving = asyncio.create_task(service.serve())
    await reached(said)
    async with peer:
        connection, _ = await peer.attached()
        await connection.demanded(16)
        serving.cancel()
        await asyncio.wait([serving])
    logging.getLogger("pillion").removeHandler(listener)

    assert f"service email: waiting for the sidecar at {peer.path}" in caplog.text
    assert "is the sidecar running?" in caplog.text
    assert "attached to the sidecar after" in caplog.text


async def test_refused_service_fails_with_the_reason(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None: ...

    async with peer:
        serving = asyncio.create_task(service.serve())
        connection = await peer.dialled()
        await connection.expect(m.Attach)
        connection.send(m.Refused("not_owner", "this sidecar is of 'invoice'", 0))

        with pytest.raises(Refused, match="of 'invoice'"):
            await serving


async def test_task_of_an_undeclared_handler_is_given_back(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None: ...

    async with peer, served(peer, service) as connection:
        connection.hand(a_granted_task(), handler="email.other")
        (outcome,) = await connection.outcomes(1)

    assert outcome.kind is m.OutcomeKind.RETURNED


async def test_large_outcomes_are_told_in_several_messages(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler(concurrency=40)
    async def send(to: str) -> bytes:
        return b"x" * limits.RESULT_BYTES_MAX

    async with peer, served(peer, service) as connection:
        connection.hand(*[a_granted_task(i) for i in range(40)])
        outcomes = await connection.outcomes(40)

    assert [o.id for o in outcomes] == [task_id(i) for i in range(40)]


async def test_attempt_may_submit_further_tasks(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> str:
        return (await send.options(delay="1m").submit("next@b.c")).id

    async with peer, served(peer, service) as connection:
        connection.hand(a_granted_task())
        submitter, attach = await peer.attached()
        batch, tasks = await submitter.submitted()
        submitter.accept(batch.request)
        (outcome,) = await connection.outcomes(1)

    assert attach.service == ""
    assert tasks[0][1:] == ["email.send", b'{"to":"next@b.c"}', None, {"delay_ms": 60_000}]
    assert isinstance(outcome.value, m.Result)
    assert json.loads(outcome.value.body) == to_text(tasks[0][0])


async def test_service_is_served_once_at_a_time(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None: ...

    async with peer, served(peer, service):
        with pytest.raises(RuntimeError, match="being served already"):
            await service.serve()
        with pytest.raises(InvalidHandler, match="before the service is served"):
            service.handler("late")(lambda: None)


async def test_connection_that_breaks_during_the_drain_does_not_hold_it_up(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun = asyncio.Event()

    @service.handler()
    async def send(to: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with peer:
        serving = asyncio.create_task(service.serve(drain="1h"))
        connection, _ = await peer.attached()
        connection.hand(a_granted_task())
        await reached(begun)
        service.stop()
        await connection.expect(m.Inspect)
        connection.cut()
        async with asyncio.timeout(DEADLINE_S):
            await serving


async def test_stop_before_the_sidecar_is_there_ends_at_once(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None: ...

    serving = asyncio.create_task(service.serve())
    await asyncio.sleep(0)
    service.stop()
    async with asyncio.timeout(DEADLINE_S):
        await serving
