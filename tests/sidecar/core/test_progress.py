"""Progress on its way to the coordinator: merged, paced, and told again."""

from typing import Any

from protocol import messages as m
from sidecar.core import events as e
from tests.sidecar.core.driver import APP, DEADLINE_MS, SERVICE, Driver, running
from tests.support.builders import an_outcome, task_id

RETRY, FATAL = m.OutcomeKind.RETRY, m.OutcomeKind.FATAL
PACE_MS = 1_000


def update(number: int = 1, **changes: Any) -> m.Update:
    return m.Update(task_id(number), 1)._replace(**changes)


def tell(driver: Driver, *updates: m.Update, connection: int = SERVICE) -> None:
    driver.local(connection, m.Progress(list(updates)))


def sent(driver: Driver) -> list[m.Update]:
    """Return, and forget, the updates that went to the coordinator."""
    return [update for message in driver.said(m.Progress) for update in message.updates]


def test_first_update_goes_at_once_and_the_latest_of_a_second_after_it() -> None:
    driver = running(1)
    tell(driver, update(permille=100))
    assert sent(driver) == [update(permille=100)]

    for permille in (200, 300, 400):
        tell(driver, update(permille=permille))
    driver.keep_alive(PACE_MS - 1)
    assert sent(driver) == []
    driver.keep_alive(1)

    assert sent(driver) == [update(permille=400)]
    driver.keep_alive(5 * PACE_MS)
    assert sent(driver) == []


def test_what_is_told_in_one_second_is_merged() -> None:
    driver = running(1)
    tell(driver, update())
    sent(driver)

    tell(driver, update(permille=200, note="a third of it"), update(checkpoint=b"page 3"))
    tell(driver, update(permille=300))
    driver.keep_alive(PACE_MS)

    assert sent(driver) == [update(permille=300, note="a third of it", checkpoint=b"page 3")]


def test_pace_of_one_lease_does_not_hold_up_another() -> None:
    driver = running(1, 2, slots=2)
    tell(driver, update(1, permille=1))
    sent(driver)

    tell(driver, update(1, permille=2), update(2, permille=1))

    assert sent(driver) == [update(2, permille=1)]


def test_many_that_wait_for_their_second_go_soon_after_it() -> None:
    driver = running(*range(1, 51), slots=50)
    for number in range(1, 51):
        tell(driver, update(number, permille=1))
        driver.keep_alive(10)
    sent(driver)

    tell(driver, *[update(number, permille=2) for number in range(1, 51)])
    driver.keep_alive(PACE_MS + 50)

    assert len(sent(driver)) == 50


def test_checkpoint_that_waits_goes_before_the_outcome_of_its_attempt() -> None:
    driver = running(1)
    tell(driver, update(checkpoint=b"page 1"))
    driver.forget()
    tell(driver, update(checkpoint=b"page 2"))

    driver.tell(an_outcome(1, kind=RETRY, value=m.Failure("E")))

    kinds = [type(x) for x in driver.to_coordinator if isinstance(x, m.Progress | m.Outcomes)]
    assert kinds == [m.Progress, m.Outcomes]
    assert sent(driver) == [update(checkpoint=b"page 2")]


def test_checkpoint_of_an_attempt_that_crashes_is_not_lost_to_the_pace() -> None:
    driver = running(1)
    tell(driver, update(checkpoint=b"page 1"))
    tell(driver, update(checkpoint=b"page 2"))
    sent(driver)

    driver.close(SERVICE)

    assert sent(driver) == [update(checkpoint=b"page 2")]


def test_nothing_more_is_told_of_a_task_that_ends_with_its_attempt() -> None:
    driver = running(1, 2, slots=2)
    for number in (1, 2):
        tell(driver, update(number, checkpoint=b"page 1"))
        tell(driver, update(number, checkpoint=b"page 2"))
    sent(driver)

    driver.tell(an_outcome(1), an_outcome(2, kind=FATAL, value=m.Failure("E")))
    driver.keep_alive(PACE_MS)

    assert sent(driver) == []
    assert driver.facts()["progress_kept"] == 0


def test_everything_is_told_again_in_a_new_session() -> None:
    driver = running(1, 2, slots=2)
    tell(driver, update(1, permille=100, checkpoint=b"page 1"), update(2, permille=5))
    driver.keep_alive(PACE_MS)
    tell(driver, update(1, permille=200))
    sent(driver)

    driver.step(e.LinkDown())
    tell(driver, update(2, permille=6))
    assert sent(driver) == []
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)

    assert sent(driver) == [update(1, permille=200, checkpoint=b"page 1"), update(2, permille=6)]


def test_checkpoint_is_told_again_with_an_outcome_that_is_not_recorded() -> None:
    driver = running(1)
    tell(driver, update(checkpoint=b"page 1"))
    driver.tell(an_outcome(1, kind=RETRY, value=m.Failure("E")))
    [outcomes] = driver.said(m.Outcomes)
    sent(driver)

    driver.step(e.LinkDown())
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)
    assert sent(driver) == [update(checkpoint=b"page 1")]
    driver.coordinator(m.Recorded(outcomes.number, []))

    assert driver.facts()["progress_kept"] == 0


def test_progress_of_a_lease_that_was_lost_is_forgotten() -> None:
    driver = running(1)
    tell(driver, update(checkpoint=b"page 1"))
    sent(driver)

    driver.advance(DEADLINE_MS)

    assert driver.facts()["progress_kept"] == 0


def test_progress_of_other_leases_and_connections_is_dropped() -> None:
    driver = running(1)
    driver.attach(APP)

    tell(driver, update(1, permille=5), connection=APP)
    tell(driver, update(2, permille=5), update(1, permille=5, token=2))

    assert sent(driver) == []
    assert driver.closed == []
