"""What the core tells of the ends of attempts, where somebody makes traces of them."""

from protocol import messages as m
from sidecar.core import events as e
from tests.sidecar.core.driver import DEADLINE_MS, SERVICE, Driver
from tests.support.builders import a_granted_task, a_lease, an_outcome, task_id

GRACE_MS = 5_000
SHORT_MS = 300
SUCCESS, RETRY, LOST = m.OutcomeKind.SUCCESS, m.OutcomeKind.RETRY, m.OutcomeKind.LOST
RETURNED = m.OutcomeKind.RETURNED


class Listening(Driver):
    """A driver that keeps what is told of the ends of attempts."""

    def __init__(self, *, told: bool = True) -> None:
        super().__init__(attempts_told=told)
        self.ended: list[e.Ended] = []

    def took(self, effects: e.Effects) -> None:
        self.ended += effects.ended


def running(*numbers: int, slots: int = 1, **changes: int) -> Listening:
    driver = Listening()
    driver.open()
    driver.serve(slots=slots, total=len(numbers))
    driver.grant(*[a_granted_task(number, **changes) for number in numbers])
    return driver


def test_end_is_told_with_when_the_attempt_began() -> None:
    driver = running(1)
    began_ms = driver.now_ms

    driver.advance(40)
    driver.tell(an_outcome(1, run_us=30_000))

    assert driver.ended == [e.Ended(task_id(1), 1, SUCCESS, "", 30_000, began_ms)]


def test_nothing_is_told_where_nobody_listens() -> None:
    driver = Listening(told=False)
    driver.open()
    driver.serve()
    driver.grant(a_granted_task(1))

    driver.tell(an_outcome(1))

    assert driver.outcomes()
    assert driver.ended == []


def test_attempt_that_waited_for_a_slot_begins_when_one_is_free() -> None:
    driver = running(1, 2)
    driver.advance(40)
    driver.tell(an_outcome(1))
    freed_ms = driver.now_ms
    driver.advance(10)

    driver.tell(an_outcome(2))

    assert [end.since_ms for end in driver.ended] == [freed_ms - 40, freed_ms]


def test_attempts_told_at_one_time_may_not_have_been_seen_to_begin() -> None:
    driver = running(1, 2)

    driver.tell(an_outcome(1), an_outcome(2, run_us=700))

    assert [end.run_us for end in driver.ended] == [1_500, 700]
    assert driver.ended[1].since_ms == -1


def test_failure_is_told_by_its_type_alone() -> None:
    driver = running(1)

    failure = m.Failure("SmtpError", "secret", "more secrets")
    driver.tell(an_outcome(1, kind=RETRY, value=failure))

    [end] = driver.ended
    assert (end.kind, end.error_type) == (RETRY, "SmtpError")
    assert "secret" not in str(end)


def test_timeout_and_crash_are_told_though_no_service_does() -> None:
    driver = running(1, timeout_ms=SHORT_MS)
    driver.advance(SHORT_MS + GRACE_MS)
    crashed = running(2)
    crashed.advance(70)
    crashed.close(SERVICE)

    assert [(end.kind, end.error_type) for end in driver.ended] == [(RETRY, "timeout")]
    assert driver.ended[0].run_us == 1000 * (SHORT_MS + GRACE_MS)
    assert [(x.kind, x.error_type, x.run_us) for x in crashed.ended] == [(LOST, "crash", 70_000)]


def test_lost_lease_is_told_once_and_not_what_comes_after_it() -> None:
    driver = running(1, 2)
    began_ms = driver.now_ms

    driver.coordinator(m.Revoke([m.Revoked(*a_lease(1), "lease-lost")]))
    driver.tell(an_outcome(1))

    assert driver.ended == [e.Ended(task_id(1), 1, None, "lease-lost", 0, began_ms)]


def test_all_leases_are_told_when_the_session_is_lost() -> None:
    driver = running(1, 2)

    driver.advance(DEADLINE_MS)

    assert {(end.id, end.kind) for end in driver.ended} == {(task_id(1), None), (task_id(2), None)}
    assert [end.since_ms >= 0 for end in driver.ended if end.id == task_id(2)] == [False]


def test_task_given_back_unused_never_ran() -> None:
    driver = running(1, 2)

    driver.close(SERVICE)

    [_, unused] = driver.ended
    assert (unused.kind, unused.run_us, unused.since_ms) == (RETURNED, 0, -1)
