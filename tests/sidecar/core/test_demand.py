"""How much is asked for, and when it is worth a message."""

from protocol import messages as m
from sidecar.core import events as e
from sidecar.core.demand import AHEAD_MAX, MORE_MAX, Demand, Pace
from tests.sidecar.core.driver import HANDLER, SERVICE, Driver, running
from tests.support.builders import a_granted_task, an_outcome


def asked(driver: Driver) -> list[int]:
    """Return, and forget, the totals asked for."""
    return [limit.total for message in driver.said(m.Demand) for limit in message.limits]


def test_first_demand_is_the_room_at_services() -> None:
    driver = Driver()
    driver.open()

    driver.serve(slots=4)
    driver.serve(2, slots=2)

    assert asked(driver) == [4, 6]


def test_slow_handler_is_asked_for_nothing_ahead() -> None:
    driver = running(1)

    driver.keep_alive(10_000)
    driver.tell(an_outcome(1))
    driver.demand(2)

    assert asked(driver) == [2]


def test_buffered_tasks_count_against_the_room() -> None:
    driver = running(1)
    driver.grant(a_granted_task(2), a_granted_task(3))
    driver.tell(an_outcome(1))

    driver.demand(2)

    assert driver.facts()["tasks_buffered"] == 1
    assert asked(driver) == []


def test_demand_that_rose_a_little_waits_while_more_is_on_its_way() -> None:
    driver = running(slots=100)
    driver.demand(110)
    assert asked(driver) == []

    driver.demand(140)
    assert asked(driver) == [140]


def test_demand_that_rose_is_stated_at_once_when_nothing_is_on_its_way() -> None:
    driver = running(*range(1, 101), slots=100)

    driver.demand(101)

    assert asked(driver) == [101]


def test_demand_of_a_service_that_left_is_withdrawn() -> None:
    driver = running(1, slots=10)

    driver.close(SERVICE)

    assert asked(driver) == [1]
    assert driver.said(m.Handlers) == [m.Handlers([])]


def test_totals_begin_again_with_every_welcome() -> None:
    driver = running(1, 2, slots=4)
    driver.step(e.LinkDown())
    driver.step(e.LinkUp())

    driver.welcome(resumed=True)

    assert asked(driver) == [2]


def test_demand_is_bounded_whatever_services_say() -> None:
    driver = running()

    driver.demand(10**12)

    assert asked(driver) == [MORE_MAX]


def test_fast_handler_is_asked_for_enough_to_cover_the_round_trip() -> None:
    demand = Demand()
    for _ in range(50):
        demand.took(10)
    for now_ms in range(0, 1_000, 10):
        demand.finished(now_ms, HANDLER, 200)
        demand.total(now_ms, HANDLER, 0)

    total = demand.total(995, HANDLER, 0)

    assert 290 <= total <= 310  # 20 in a millisecond, for 10 ms, and half as many again.


def test_what_is_asked_for_ahead_is_bounded() -> None:
    demand = Demand()
    demand.took(1_000)
    for now_ms in range(0, 1_000, 10):
        demand.finished(now_ms, HANDLER, 1_000)
        demand.total(now_ms, HANDLER, 0)

    assert demand.total(1_000, HANDLER, 0) == AHEAD_MAX


def test_forgotten_handler_starts_without_a_pace() -> None:
    demand = Demand()
    demand.took(100)
    demand.finished(0, HANDLER, 1_000)
    assert demand.total(50, HANDLER, 0) > 0

    demand.forget(HANDLER)

    assert demand.total(50, HANDLER, 0) == 0


def test_pace_of_an_idle_handler_decays() -> None:
    pace = Pace(0)
    pace.add(1_000)
    busy = pace.per_ms(50)

    assert busy > 5
    assert pace.per_ms(55) == busy
    assert pace.per_ms(500) < 0.01


def test_nothing_is_asked_for_when_nothing_is_taken() -> None:
    demand = Demand()
    demand.granted(HANDLER, 3)

    assert demand.nothing_more(HANDLER) == 3
