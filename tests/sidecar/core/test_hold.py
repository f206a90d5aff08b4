"""An operator's drain: nothing is asked for, what has not begun goes back, the rest goes on."""

from protocol import messages as m
from sidecar.core import events as e
from tests.sidecar.core.driver import APP, HANDLER, SERVICE, Driver, running
from tests.support.builders import a_granted_task, a_lease, an_outcome, task_id

RETURNED, SUCCESS = m.OutcomeKind.RETURNED, m.OutcomeKind.SUCCESS
WHY = "ada: a new kernel"


def drain(driver: Driver, *, on: bool = True, why: str = WHY, session: int | None = None) -> None:
    number = driver.session if session is None else session
    driver.coordinator(m.Drain(number, on, why if on else ""))


def demands(driver: Driver) -> list[m.Limit]:
    return [limit for message in driver.said(m.Demand) for limit in message.limits]


def noted(driver: Driver) -> list[str]:
    return [x.name for x in driver.notes if x.name in ("drained", "undrained")]


def test_demand_is_withdrawn_and_what_waits_here_is_given_back() -> None:
    driver = running(1, slots=10)
    driver.grant(*[a_granted_task(n) for n in range(2, 12)])
    driver.serve(2, handler="email.read")
    driver.grant(a_granted_task(20), a_granted_task(21), handler="email.read")
    driver.forget()

    drain(driver)

    assert demands(driver) == [m.Limit("email.read", 2), m.Limit(HANDLER, 11)]
    assert {(o.id, o.kind) for o in driver.outcomes()} == {
        (task_id(11), RETURNED),
        (task_id(21), RETURNED),
    }


def test_services_give_back_what_has_not_begun_and_finish_what_has() -> None:
    driver = running(1, 2, 3)

    drain(driver)

    assert driver.told(m.Recall, SERVICE) == [m.Recall([a_lease(2), a_lease(3)])]
    driver.tell(an_outcome(2, kind=RETURNED), an_outcome(3, kind=RETURNED))
    driver.keep_alive(40_000)
    assert driver.revoked() == [], "an attempt was stopped"
    driver.tell(an_outcome(1, kind=SUCCESS))
    assert [o.kind for o in driver.outcomes()] == [RETURNED, RETURNED, SUCCESS]
    assert not driver.stopped()


def test_grant_that_crossed_it_is_given_back() -> None:
    driver = running(1, slots=4)
    drain(driver)

    driver.grant(a_granted_task(2))

    assert driver.handed() == []
    assert [(o.id, o.kind) for o in driver.outcomes()] == [(task_id(2), RETURNED)]


def test_no_demand_is_stated_while_it_holds_whatever_services_want() -> None:
    driver = running(1, slots=4)
    drain(driver)
    driver.forget()

    driver.tell(an_outcome(1))
    driver.demand(100)
    driver.serve(3, slots=8)
    driver.keep_alive(10_000)

    limits = demands(driver) + [x for beat in driver.said(m.Heartbeat) for x in beat.limits]
    assert {limit for limit in limits if limit.total != 1} == set()
    assert limits


def test_submitting_asking_and_heartbeats_go_on() -> None:
    driver = running(1)
    drain(driver)
    driver.attach(APP)
    driver.forget()

    driver.local(APP, m.Submit([m.Batch(1, b"tasks")]))
    driver.local(APP, m.Query([m.Question(2, task_id(9), 0)]))
    driver.keep_alive(10_000)

    assert len(driver.said(m.Submit)) == 1
    assert len(driver.said(m.Query)) == 1
    assert len(driver.said(m.Heartbeat)) == 5
    assert driver.facts()["link"] == "open"


def test_demand_is_stated_at_once_when_it_is_over() -> None:
    driver = running(1, slots=4)
    drain(driver)
    driver.forget()

    drain(driver, on=False)

    assert demands(driver) == [m.Limit(HANDLER, 4)]
    driver.grant(a_granted_task(2))
    assert driver.handed() == [task_id(2)]


def test_repeated_statement_changes_nothing() -> None:
    driver = running(1, 2, slots=1)
    drain(driver)
    driver.forget()

    drain(driver)

    assert driver.to_local == []
    assert driver.to_coordinator == []
    drain(driver, on=False)
    driver.forget()
    drain(driver, on=False)
    assert (driver.to_local, driver.to_coordinator) == ([], [])


def test_welcome_ends_it_unless_it_is_told_again() -> None:
    driver = running(slots=4)
    drain(driver)
    driver.forget()

    driver.step(e.LinkUp())
    driver.welcome(resumed=True)

    assert demands(driver) == [m.Limit(HANDLER, 4)]
    drain(driver)
    assert demands(driver) == [m.Limit(HANDLER, 0)]


def test_what_belongs_to_another_session_is_dropped() -> None:
    driver = running(slots=4)

    drain(driver, session=driver.session + 1)
    driver.step(e.LinkDown())
    drain(driver)

    assert driver.facts()["drained_by"] == ""


def test_is_told_once_when_it_begins_and_once_when_it_is_over() -> None:
    driver = running(1)
    drain(driver)
    [note] = [x for x in driver.notes if x.name == "drained"]
    assert note.facts == {"by": WHY}
    drain(driver)
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)
    drain(driver)
    driver.beat()
    assert noted(driver) == ["drained"]
    assert driver.facts()["drained_by"] == WHY

    drain(driver, on=False)

    assert noted(driver) == ["drained", "undrained"]
    assert driver.facts()["drained_by"] == ""


def test_that_it_was_lifted_meanwhile_is_told_when_the_session_is_back() -> None:
    driver = running(1)
    drain(driver)
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)
    assert noted(driver) == ["drained"]

    driver.keep_alive(4_000)

    assert noted(driver) == ["drained", "undrained"]


def test_stop_of_a_drained_sidecar_ends_as_any_other() -> None:
    driver = running(1)
    drain(driver)

    driver.step(e.Drain())
    driver.tell(an_outcome(1))
    [report] = driver.said(m.Outcomes)
    driver.coordinator(m.Recorded(report.number, []))

    assert driver.stopped()
