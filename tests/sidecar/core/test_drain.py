"""The end: finish, give back, wait for the record, leave."""

from protocol import messages as m
from sidecar.core import events as e
from tests.sidecar.core.driver import APP, HANDLER, SERVICE, Driver, running
from tests.support.builders import a_granted_task, a_lease, an_attach, an_outcome, task_id

DRAIN_MS = 25_000
STOP_GRACE_MS = 2_000
RECORD_MS = 5_000
RETURNED, SUCCESS = m.OutcomeKind.RETURNED, m.OutcomeKind.SUCCESS


def record_all(driver: Driver) -> list[m.Outcome]:
    """Record what was sent, and return it."""
    outcomes = []
    while messages := driver.said(m.Outcomes):
        for message in messages:
            outcomes += message.outcomes
            driver.coordinator(m.Recorded(message.number, []))
    return outcomes


def test_sidecar_that_holds_nothing_leaves_at_once() -> None:
    driver = running()
    driver.attach(APP)
    driver.forget()

    driver.step(e.Drain())

    assert driver.stopped()
    assert driver.to_coordinator[-1] == m.Goodbye("stopping")
    assert {to for to, message in driver.to_local if isinstance(message, m.Goodbye)} == {1, 2}


def test_demand_is_withdrawn_and_what_waits_here_is_given_back() -> None:
    driver = running(1, slots=10)
    driver.serve(2, handler="email.read")
    driver.grant(a_granted_task(2), a_granted_task(3), handler="email.read")
    driver.forget()

    driver.step(e.Drain())

    [demand] = driver.said(m.Demand)
    assert demand.limits == [m.Limit("email.read", 2), m.Limit(HANDLER, 1)]
    assert [(o.id, o.kind) for o in driver.outcomes()] == [(task_id(3), RETURNED)]
    assert not driver.stopped()


def test_services_are_asked_to_give_back_what_has_not_begun() -> None:
    driver = running(1, 2, 3)

    driver.step(e.Drain())

    assert driver.told(m.Recall, SERVICE) == [m.Recall([a_lease(2), a_lease(3)])]
    driver.tell(
        an_outcome(2, kind=RETURNED), an_outcome(3, kind=RETURNED), an_outcome(1, kind=SUCCESS)
    )
    assert not driver.stopped()
    assert [o.kind for o in record_all(driver)] == [RETURNED, RETURNED, SUCCESS]
    assert driver.stopped()
    assert driver.said(m.Goodbye) == [m.Goodbye("stopping")]


def test_grant_that_crossed_the_order_to_stop_is_given_back() -> None:
    driver = running(1, slots=4)
    driver.step(e.Drain())

    driver.grant(a_granted_task(2))

    assert driver.handed() == []
    assert [(o.id, o.kind) for o in driver.outcomes()] == [(task_id(2), RETURNED)]


def test_attempts_that_outlast_the_drain_are_stopped_and_returned() -> None:
    driver = running(1, 2)
    driver.step(e.Drain())
    driver.keep_alive(DRAIN_MS - 1)
    assert driver.revoked() == []

    driver.keep_alive(1)
    assert driver.revoked() == [
        m.Revoked(task_id(2), 1, "stopping"),
        m.Revoked(task_id(1), 1, "stopping"),
    ]
    assert [o.id for o in record_all(driver)] == [task_id(2)]
    driver.keep_alive(STOP_GRACE_MS)

    assert [(o.id, o.kind) for o in record_all(driver)] == [(task_id(1), RETURNED)]
    assert driver.stopped()


def test_stopped_attempt_that_fails_is_returned_and_one_that_succeeds_counts() -> None:
    driver = running(1, 2, slots=2)
    driver.step(e.Drain())
    driver.keep_alive(DRAIN_MS)

    driver.tell(an_outcome(1, kind=m.OutcomeKind.RETRY), an_outcome(2))

    assert [o.kind for o in record_all(driver)] == [RETURNED, SUCCESS]
    assert driver.stopped()


def test_attempts_already_timed_out_or_ended_do_not_prolong_the_end() -> None:
    driver = running(1, 2, slots=2, timeout_ms=DRAIN_MS - 1_000)
    driver.keep_alive(500)
    driver.step(e.Drain())
    driver.coordinator(m.Revoke([m.Revoked(task_id(2), 1, "lease-lost")]))

    driver.keep_alive(DRAIN_MS + STOP_GRACE_MS)

    assert [o.kind for o in record_all(driver)] == [m.OutcomeKind.RETRY]
    assert driver.stopped()


def test_stopping_attempt_whose_connection_ends_is_returned() -> None:
    driver = running(1)
    driver.step(e.Drain())
    driver.keep_alive(DRAIN_MS)

    driver.close(SERVICE)

    assert [o.kind for o in record_all(driver)] == [RETURNED]


def test_end_waits_for_the_record_but_not_for_ever() -> None:
    driver = running(1)
    driver.step(e.Drain())
    driver.tell(an_outcome(1))

    driver.keep_alive(RECORD_MS - 1)
    assert not driver.stopped()
    driver.keep_alive(1)

    assert driver.stopped()
    assert driver.notes[-1] == e.Note("drain_ended", {"unrecorded": 1})


def test_end_that_uses_up_its_drain_fits_the_usual_30_seconds() -> None:
    driver = running(1)
    driver.step(e.Drain())

    driver.keep_alive(29_000 - 1)

    assert driver.notes[-1] == e.Note("drain_ended", {"unrecorded": 1})
    assert driver.stopped()


def test_what_ends_late_has_time_to_be_recorded() -> None:
    driver = running(1)
    driver.step(e.LocalOpened(3, 7))
    driver.local(
        3,
        an_attach(
            service="email", declarations=[m.Declaration(HANDLER, {})], slots=[m.Limit(HANDLER, 1)]
        ),
    )
    driver.demand(1, 3)
    driver.tell(an_outcome(1))
    record_all(driver)
    driver.grant(a_granted_task(2))
    driver.step(e.Drain())
    driver.keep_alive(DRAIN_MS + STOP_GRACE_MS + 60_000)

    driver.close(3)
    driver.step(e.ProcessEnded(7, m.Failure("crash", "killed"), True))

    assert not driver.stopped()
    assert [(o.id, o.kind) for o in record_all(driver)] == [(task_id(2), RETURNED)]
    assert driver.stopped()


def test_end_without_a_session_says_no_goodbye_to_the_coordinator() -> None:
    driver = running(1)
    driver.step(e.LinkDown())
    driver.step(e.Drain())

    driver.advance(DRAIN_MS)

    assert driver.stopped()
    assert driver.said(m.Goodbye) == []


def test_second_order_to_stop_changes_nothing_here() -> None:
    driver = running(1)
    driver.step(e.Drain())
    driver.advance(1_000)
    driver.forget()

    driver.step(e.Drain())

    assert driver.to_local == []


def test_no_service_attaches_while_it_stops_but_apps_may_still_submit() -> None:
    driver = running(1)
    driver.step(e.Drain())
    driver.forget()

    driver.serve(2)
    driver.attach(APP + 1)
    driver.local(APP + 1, m.Submit([m.Batch(1, b"tasks")]))

    [refused] = driver.told(m.Refused, 2)
    assert refused.code == "stopping"
    assert refused.retry_after_ms > 0
    assert len(driver.said(m.Submit)) == 1
