"""Outcomes are journaled while nobody can record them, and when the process leaves."""

import pytest

from protocol import messages as m
from sidecar.core import events as e
from sidecar.core.spool import REOPEN_MS_MIN
from tests.sidecar.core.driver import APP, HEARTBEAT_MS, SERVICE
from tests.sidecar.core.spooling import SPOOL_AFTER_MS, SpoolDriver, Store, away, spooled
from tests.support.builders import a_granted_task, a_lease, an_outcome, task_id

JOURNAL_AFTER_MS, JOURNAL_SILENT_MS = 500, 1_000
RECORD_MS = 5_000
DRAIN_MS = 25_000


def working(*numbers: int) -> SpoolDriver:
    """Return a driver with a session and these tasks at a service."""
    driver = SpoolDriver()
    driver.open()
    driver.serve(SERVICE, slots=max(1, len(numbers)))
    if numbers:
        driver.grant(*[a_granted_task(number) for number in numbers])
    driver.forget()
    return driver


def restarted(store: Store) -> SpoolDriver:
    """Return the next process on the same store."""
    driver = SpoolDriver(store)
    driver.commits_at_once = True
    return driver


def record(driver: SpoolDriver) -> list[m.Outcome]:
    """Record everything that was sent, and return it."""
    outcomes = []
    for message in driver.said(m.Outcomes):
        outcomes += message.outcomes
        driver.coordinator(m.Recorded(message.number, []))
    return outcomes


def test_outcome_is_journaled_after_a_while_without_a_session() -> None:
    driver = working(1, 2)
    driver.commits_at_once = True
    driver.tell(an_outcome(1))
    driver.step(e.LinkDown())

    driver.advance(JOURNAL_AFTER_MS - 1)
    assert driver.store.outcomes == {}
    driver.advance(1)
    assert list(driver.store.outcomes) == [a_lease(1)]
    driver.tell(an_outcome(2))

    assert list(driver.store.outcomes) == [a_lease(1), a_lease(2)]
    assert driver.facts()["outcomes_journaled"] == 2


def test_outcome_is_journaled_while_the_coordinator_is_silent_in_an_open_session() -> None:
    driver = working(1, 2)
    driver.commits_at_once = True
    driver.tell(an_outcome(1))

    driver.advance(JOURNAL_SILENT_MS - 1)
    assert driver.store.outcomes == {}
    driver.advance(1)
    assert list(driver.store.outcomes) == [a_lease(1)]
    driver.tell(an_outcome(2))

    assert list(driver.store.outcomes) == [a_lease(1), a_lease(2)]
    assert driver.facts()["link"] == "open"
    driver.coordinator(m.Recorded(1, []))
    driver.coordinator(m.Recorded(2, []))
    assert driver.store.outcomes == {}


def test_coordinator_that_records_slowly_is_not_silent() -> None:
    driver = working(*range(1, 11))
    for number in range(1, 11):
        driver.tell(an_outcome(number))
    for number in range(1, 8):
        driver.keep_alive(JOURNAL_SILENT_MS - 1)
        driver.coordinator(m.Recorded(number, []))

    assert driver.work is None


def test_short_break_of_the_link_journals_nothing() -> None:
    driver = working(1)
    driver.tell(an_outcome(1))
    driver.step(e.LinkDown())
    driver.advance(JOURNAL_AFTER_MS - 1)
    driver.open(resumed=True)
    record(driver)

    driver.keep_alive(10 * JOURNAL_AFTER_MS)

    assert driver.work is None


def test_recorded_outcome_leaves_the_journal_once() -> None:
    driver = working(1)
    driver.commits_at_once = True
    driver.tell(an_outcome(1))
    driver.step(e.LinkDown())
    driver.advance(JOURNAL_AFTER_MS)
    [sent_before] = driver.said(m.Outcomes)

    driver.open(resumed=True)
    [sent_again] = driver.said(m.Outcomes)
    assert sent_again == sent_before
    driver.coordinator(m.Recorded(sent_again.number, []))
    assert driver.store.outcomes == {}
    driver.coordinator(m.Recorded(sent_again.number, []))

    assert driver.work is None


def test_outcome_recorded_while_its_journaling_is_under_way_leaves_after_it() -> None:
    driver = working(1)
    driver.tell(an_outcome(1))
    driver.step(e.LinkDown())
    driver.advance(JOURNAL_AFTER_MS)
    assert driver.work is not None
    driver.open(resumed=True)

    record(driver)
    driver.commit()

    assert driver.store.outcomes == {}


def test_outcomes_that_come_during_a_commit_go_into_the_next_together() -> None:
    driver = working(1, 2, 3)
    driver.step(e.LinkDown())
    driver.advance(JOURNAL_AFTER_MS)
    driver.tell(an_outcome(1))
    assert driver.work is not None
    driver.tell(an_outcome(2))
    driver.tell(an_outcome(3))
    driver.advance(JOURNAL_AFTER_MS)

    assert driver.work.outcome_puts == [an_outcome(1)]
    driver.commit_one()

    assert driver.work is not None
    assert driver.work.outcome_puts == [an_outcome(2), an_outcome(3)]


def test_next_process_sends_what_an_earlier_one_has_journaled() -> None:
    driver = working(1)
    driver.commits_at_once = True
    failure = m.Failure("ValueError", "no", "traceback")
    told = an_outcome(1, kind=m.OutcomeKind.FATAL, value=failure)
    driver.tell(told)
    driver.step(e.LinkDown())
    driver.advance(JOURNAL_AFTER_MS)

    after = restarted(driver.store)
    after.open()

    [hello] = after.said(m.Hello)
    assert hello.held == [a_lease(1)]
    assert after.facts()["outcomes_journaled"] == 1
    assert record(after) == [told]
    assert after.store.outcomes == {}
    assert after.facts()["outcomes_journaled"] == 0


def test_restored_outcome_is_not_journaled_again() -> None:
    driver = working(1)
    driver.commits_at_once = True
    driver.tell(an_outcome(1))
    driver.step(e.LinkDown())
    driver.advance(JOURNAL_AFTER_MS)

    after = SpoolDriver(driver.store)
    after.advance(10 * JOURNAL_AFTER_MS)

    assert after.work is None
    assert list(after.store.outcomes) == [a_lease(1)]


def test_nothing_is_journaled_without_a_spool_or_after_its_failure() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)
    driver.fail()
    driver.open()
    driver.serve(SERVICE)
    driver.grant(a_granted_task(1))
    driver.tell(an_outcome(1))
    driver.step(e.LinkDown())

    driver.advance(REOPEN_MS_MIN - 1)

    assert driver.work is None


@pytest.mark.parametrize("after_commit", [True, False])
def test_outcomes_are_journaled_again_when_a_failed_store_is_open_again(after_commit: bool) -> None:
    driver = working(1, 2, 3)
    driver.tell(an_outcome(1), an_outcome(2))
    driver.step(e.LinkDown())
    driver.advance(JOURNAL_AFTER_MS)
    driver.fail(after_commit=after_commit)
    driver.tell(an_outcome(3))
    driver.forget()
    driver.open(resumed=True)
    [sent, _] = driver.said(m.Outcomes)
    driver.coordinator(m.Recorded(sent.number, []))
    driver.step(e.LinkDown())

    driver.advance(REOPEN_MS_MIN)
    driver.commit()

    assert [outcome.id for outcome in sent.outcomes] == [task_id(1), task_id(2)]
    assert list(driver.store.outcomes) == [a_lease(3)]
    assert driver.facts()["outcomes_journaled"] == 1


def test_end_without_a_session_waits_for_the_journal_and_for_nothing_else() -> None:
    driver = working(1)
    driver.tell(an_outcome(1))
    driver.step(e.LinkDown())

    driver.step(e.Drain())
    assert not driver.stopped()
    driver.commit()

    assert driver.stopped()
    assert list(driver.store.outcomes) == [a_lease(1)]


def test_end_without_a_session_waits_for_the_record_if_the_journal_fails() -> None:
    """Seed 47 of the simulation: a sidecar left at once, with an outcome that it had nowhere."""
    driver = working(1)
    driver.tell(an_outcome(1))
    driver.step(e.LinkDown())
    driver.advance(JOURNAL_AFTER_MS)
    driver.fail()

    driver.step(e.Drain())
    driver.advance(RECORD_MS - 1)
    assert not driver.stopped()
    driver.open()
    record(driver)

    assert driver.stopped()


def test_end_with_a_session_journals_at_once_and_waits_for_the_record() -> None:
    driver = working(1)
    driver.tell(an_outcome(1))

    driver.step(e.Drain())
    driver.commit()
    assert list(driver.store.outcomes) == [a_lease(1)]
    assert not driver.stopped()
    record(driver)
    assert not driver.stopped()
    driver.commit()

    assert driver.stopped()
    assert driver.store.outcomes == {}


def test_end_without_a_record_leaves_the_outcome_in_the_journal() -> None:
    driver = working(1)
    driver.commits_at_once = True
    driver.tell(an_outcome(1))
    driver.step(e.Drain())

    driver.keep_alive(RECORD_MS)

    assert driver.stopped()
    assert list(driver.store.outcomes) == [a_lease(1)]


def test_end_waits_for_a_commit_under_way() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)

    driver.step(e.Drain())
    assert not driver.stopped()
    driver.commit()

    assert driver.stopped()
    assert driver.verdicts() == [(1, "spooled")]


def test_end_with_a_session_hands_the_spool_over_first() -> None:
    driver = spooled(*range(1, 11), spool_window_bytes=500)
    driver.open()

    driver.step(e.Drain())
    while sent := driver.sent():
        assert not driver.stopped()
        driver.accept(*[request for request, _ in sent])

    assert driver.stopped()
    assert driver.store.batches == {}


def test_coordinator_without_room_for_the_spool_does_not_hold_the_end_up_for_ever() -> None:
    driver = spooled(1)
    driver.open()
    driver.step(e.Drain())
    driver.accept(*[request for request, _ in driver.sent()], code="store_full")

    driver.keep_alive(RECORD_MS - 1)
    assert not driver.stopped()
    driver.keep_alive(1)

    assert driver.stopped()
    assert len(driver.store.batches) == 1


def test_end_without_a_session_does_not_wait_for_the_spool_to_be_replayed() -> None:
    driver = spooled(1, 2)

    driver.step(e.Drain())

    assert driver.stopped()
    assert len(driver.store.batches) == 2


def test_end_with_an_attempt_that_runs_on_journals_its_outcome() -> None:
    driver = working(1)
    driver.commits_at_once = True
    driver.step(e.LinkDown())
    driver.step(e.Drain())
    assert not driver.stopped()

    driver.tell(an_outcome(1))

    assert driver.stopped()
    assert list(driver.store.outcomes) == [a_lease(1)]


def test_store_that_hangs_does_not_hold_the_end_up_for_ever() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)
    driver.step(e.Drain())

    driver.advance(RECORD_MS)

    assert driver.stopped()


def test_idle_sidecar_without_a_session_asks_for_nothing() -> None:
    driver = away()
    driver.advance(10_000)

    assert driver.core.next_due_ms() is None


def test_due_times_pass_with_an_effect_each() -> None:
    """A driver fails when the core asks to be called at once; here everything waits for time."""
    driver = spooled(1, 2)
    driver.serve(SERVICE, slots=2)
    driver.open()
    driver.accept(*[request for request, _ in driver.sent()], code="busy")
    driver.grant(a_granted_task(8), a_granted_task(9))
    driver.commits_at_once = False
    driver.submit(3)
    driver.insist(4)
    driver.tell(an_outcome(8))
    driver.local(APP, m.Query([m.Question(1, task_id(1), 0)]))

    for _ in range(4):
        driver.advance(3 * HEARTBEAT_MS)
    driver.step(e.LinkDown())
    driver.tell(an_outcome(9))
    driver.step(e.Drain())
    driver.advance(DRAIN_MS + RECORD_MS)

    assert driver.stopped()
