"""A service that lowers its demand does not leave tasks waiting here for it."""

from protocol import messages as m
from tests.sidecar.core.driver import HANDLER, Driver, running
from tests.support.builders import a_granted_task, an_outcome, task_id

RETURNED = m.OutcomeKind.RETURNED


def returned(driver: Driver) -> list[bytes]:
    return [o.id for o in driver.outcomes() if o.kind is RETURNED]


def test_task_whose_grant_crossed_a_lower_demand_is_given_back() -> None:
    driver = running(slots=2)
    driver.demand(0)

    driver.grant(a_granted_task(1))

    assert driver.handed() == []
    assert returned(driver) == [task_id(1)]


def test_task_that_waits_is_given_back_when_the_demand_falls() -> None:
    driver = running(1, slots=2)
    driver.grant(a_granted_task(2), a_granted_task(3))
    driver.forget()

    driver.demand(1)

    assert returned(driver) == [task_id(3)]


def test_what_still_fits_a_lower_demand_is_handed_over() -> None:
    driver = running(slots=4)
    driver.demand(1)

    driver.grant(a_granted_task(1), a_granted_task(2))

    assert driver.handed() == [task_id(1)]
    assert returned(driver) == [task_id(2)]


def test_other_service_that_wants_it_gets_it() -> None:
    driver = running(slots=1)
    driver.serve(2, slots=1, total=0)
    driver.demand(0)

    driver.grant(a_granted_task(1))
    assert returned(driver) == []

    driver.demand(1, connection=2)
    assert driver.handed(2) == [task_id(1)]


def test_raised_demand_lets_tasks_wait_again() -> None:
    driver = running(slots=1)
    driver.demand(0)
    driver.demand(1)

    driver.grant(a_granted_task(1), a_granted_task(2))

    assert driver.handed() == [task_id(1)]
    assert returned(driver) == []


def test_nothing_is_asked_ahead_while_the_demand_falls() -> None:
    driver = running(1, slots=2)
    driver.tell(an_outcome(1))
    driver.forget()

    driver.demand(1)

    [demand] = driver.said(m.Demand)
    assert demand.limits == [m.Limit(HANDLER, 1)]
