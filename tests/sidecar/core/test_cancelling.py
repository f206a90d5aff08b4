"""What becomes of the attempts of tasks that were cancelled, and of those who ask for it."""

from protocol import messages as m
from protocol.errors import Code
from protocol.limits import QUERY_IDS_MAX
from sidecar.core import events as e
from tests.sidecar.core.driver import APP, SERVICE, Driver, running
from tests.support.builders import a_granted_task, a_status, an_outcome, task_id

RETRY, RETURNED = m.OutcomeKind.RETRY, m.OutcomeKind.RETURNED
GRACE_MS = 5_000
TIMEOUT_MS = 10_000


def cancel(driver: Driver, *numbers: int) -> None:
    revoked = [m.Revoked(task_id(number), 1, "cancelled") for number in numbers]
    driver.coordinator(m.Revoke(revoked))


# --- Attempts ----------------------------------------------------------------------------------


def test_running_attempt_is_told_to_stop_once_and_what_it_came_to_is_passed_on() -> None:
    driver = running(1)

    cancel(driver, 1)
    cancel(driver, 1)

    assert driver.revoked() == [m.Revoked(task_id(1), 1, "cancelled")]
    failed = an_outcome(1, kind=RETRY, value=m.Failure("Cancelled"))
    driver.tell(failed)
    assert driver.outcomes() == [failed]


def test_success_of_a_cancelled_attempt_is_passed_on() -> None:
    driver = running(1)
    cancel(driver, 1)

    driver.tell(an_outcome(1))

    assert driver.outcomes() == [an_outcome(1)]


def test_lease_of_a_cancelled_attempt_is_held_until_it_has_stopped() -> None:
    driver = running(1)
    cancel(driver, 1)

    driver.step(e.LinkDown())
    driver.step(e.LinkUp())

    [hello] = driver.said(m.Hello)
    assert hello.held == [m.Lease(task_id(1), 1)]


def test_attempt_that_does_not_stop_is_ended_by_its_timeout_as_usual() -> None:
    driver = running(1, timeout_ms=20_000)
    cancel(driver, 1)
    driver.revoked()

    driver.keep_alive(20_000 - 1)
    assert (driver.revoked(), driver.outcomes()) == ([], [])
    driver.keep_alive(1)
    assert driver.revoked() == [m.Revoked(task_id(1), 1, "timeout")]
    driver.keep_alive(GRACE_MS)

    [outcome] = driver.outcomes()
    assert outcome.kind is RETRY
    assert driver.facts()["slots_taken_by_ended_leases"] == 1


def test_connection_of_a_cancelled_attempt_that_ends_gives_the_lease_back() -> None:
    driver = running(1)
    cancel(driver, 1)

    driver.close(SERVICE)

    assert [o.kind for o in driver.outcomes()] == [RETURNED]


def test_task_that_waits_here_is_given_back_and_no_other() -> None:
    driver = running(1)
    driver.grant(a_granted_task(2), a_granted_task(3))

    cancel(driver, 2)

    assert driver.outcomes() == [m.Outcome(task_id(2), 1, RETURNED, 0, None)]
    assert driver.revoked() == []
    driver.tell(an_outcome(1))
    driver.demand(3)
    assert driver.handed() == [task_id(3)]


def test_lease_of_a_task_that_waits_at_the_service_stands_until_it_has_answered() -> None:
    """It may have begun, since an outcome may be on its way."""
    driver = running(1, 2)

    cancel(driver, 2)

    assert driver.revoked() == [m.Revoked(task_id(2), 1, "cancelled")]
    assert driver.outcomes() == [], "nothing is said of it before the service has answered"
    given_back = m.Outcome(task_id(2), 1, RETURNED, 0, None)
    driver.tell(given_back)
    assert driver.outcomes() == [given_back]


def test_cancelling_what_is_gone_or_unknown_changes_nothing() -> None:
    driver = running(1)
    driver.coordinator(m.Revoke([m.Revoked(task_id(1), 1, "lease-lost")]))
    driver.revoked()

    cancel(driver, 1, 9)

    assert (driver.revoked(), driver.outcomes()) == ([], [])


def test_cancelled_attempt_is_stopped_at_the_end_of_the_drain() -> None:
    driver = running(1)
    cancel(driver, 1)
    driver.revoked()
    driver.step(e.Drain())
    driver.keep_alive(25_000)
    assert driver.revoked() == [m.Revoked(task_id(1), 1, "stopping")]

    driver.keep_alive(2_000)

    assert [o.kind for o in driver.outcomes()] == [RETURNED]


# --- Those who ask -----------------------------------------------------------------------------


def asking(**terms: int) -> Driver:
    driver = Driver(**terms)
    driver.open()
    driver.attach(APP)
    driver.forget()
    return driver


def ask(driver: Driver, request: int, number: int = 1) -> None:
    driver.local(APP, m.Cancel([m.Cancellation(request, task_id(number), "changed my mind")]))


def asked(driver: Driver) -> list[m.Cancellation]:
    return [request for message in driver.said(m.Cancel) for request in message.requests]


def test_cancellation_is_passed_on_and_its_reply_comes_back() -> None:
    driver = asking()
    ask(driver, 7)
    [passed] = asked(driver)
    assert passed[1:] == (task_id(1), "changed my mind")

    status = a_status(1, state=m.State.CANCELLED)
    driver.coordinator(m.Answer([m.Reply(passed.request, None, status)]))

    assert driver.told(m.Answer) == [m.Answer([m.Reply(7, None, status)])]


def test_cancellation_without_an_answer_is_sent_again_in_the_next_session() -> None:
    driver = asking()
    ask(driver, 7)
    [before] = asked(driver)

    driver.step(e.LinkDown())
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)

    assert asked(driver) == [before]


def test_cancellation_without_an_answer_is_given_up() -> None:
    driver = asking()
    ask(driver, 7)

    driver.keep_alive(TIMEOUT_MS)

    assert driver.told(m.Answer) == [m.Answer([m.Reply(7, Code.UNAVAILABLE, None)])]


def test_question_asked_after_a_cancellation_is_sent_after_it() -> None:
    driver = asking()
    driver.step(e.LinkDown())
    driver.local(APP, m.Query([m.Question(1, task_id(1), 0)]))
    ask(driver, 2)
    driver.local(APP, m.Query([m.Question(3, task_id(1), 0)]))

    driver.step(e.LinkUp())
    driver.welcome(resumed=True)

    sent = [x for x in driver.to_coordinator if isinstance(x, m.Cancel | m.Query)]
    assert [type(message) for message in sent] == [m.Cancel, m.Query]


def test_cancellations_count_as_questions_do_and_go_in_several_messages() -> None:
    driver = asking(questions_max=QUERY_IDS_MAX + 1)
    requests = [m.Cancellation(n, task_id(n), "") for n in range(QUERY_IDS_MAX + 2)]

    driver.local(APP, m.Cancel(requests))

    assert [len(x.requests) for x in driver.said(m.Cancel)] == [QUERY_IDS_MAX, 1]
    refused = m.Reply(QUERY_IDS_MAX + 1, Code.TOO_MANY_WAITERS, None)
    assert driver.told(m.Answer) == [m.Answer([refused])]


def test_revision_that_a_question_knows_is_passed_on() -> None:
    driver = asking()

    driver.local(APP, m.Query([m.Question(1, task_id(1), 500, 42)]))

    [query] = driver.said(m.Query)
    assert query.questions[0].revision == 42
