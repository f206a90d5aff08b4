"""What becomes of leases: handed over in order, settled, timed out, revoked, left behind."""

import pytest

from protocol import messages as m
from sidecar.core import events as e
from tests.sidecar.core.driver import HANDLER, HEARTBEAT_MS, SERVICE, Driver, running
from tests.support.builders import a_granted_task, an_outcome, task_id

RETRY, RETURNED, LOST = m.OutcomeKind.RETRY, m.OutcomeKind.RETURNED, m.OutcomeKind.LOST
GRACE_MS = 5_000
SHORT_MS = 300


def kinds(outcomes: list[m.Outcome]) -> dict[int, m.OutcomeKind]:
    """Return what tasks came to, by the number that ``task_id`` made their id of."""
    return {int.from_bytes(o.id[8:], "big") & 0xFFFF: o.kind for o in outcomes}


def ids(*numbers: int) -> list[bytes]:
    return [task_id(number) for number in numbers]


# --- Handing over ------------------------------------------------------------------------------


def test_tasks_are_handed_over_in_grant_order_and_only_on_demand() -> None:
    driver = Driver()
    driver.open()
    driver.serve(total=0)
    driver.grant(a_granted_task(1), a_granted_task(2))
    driver.grant(a_granted_task(3))
    assert driver.handed() == []

    driver.demand(2)
    assert driver.handed() == ids(1, 2)

    driver.demand(3)
    assert driver.handed() == ids(3)


def test_everything_of_one_turn_leaves_in_one_message() -> None:
    driver = running(slots=8)
    driver.demand(8)

    for number in (1, 2, 3):
        grant = m.Grant(1, number, [m.Group(HANDLER, [a_granted_task(number)])])
        driver.core.step(driver.now_ms, e.FromCoordinator(grant))
    driver.flush()

    [tasks] = driver.told(m.Tasks)
    assert [task.id for group in tasks.groups for task in group.tasks] == ids(1, 2, 3)


def test_idle_slots_get_tasks_before_busy_ones() -> None:
    driver = running(1, slots=1)
    driver.demand(5)
    driver.serve(2, slots=1, total=5)

    driver.grant(a_granted_task(2))

    assert driver.handed(2) == ids(2)


def test_tasks_are_shared_evenly_among_connections() -> None:
    driver = running(slots=4)
    driver.demand(10)
    driver.serve(2, slots=4, total=10)

    driver.grant(*[a_granted_task(n) for n in range(1, 13)])

    assert (len(driver.handed(1)), len(driver.handed(2))) == (6, 6)


def test_grant_without_a_service_is_given_back() -> None:
    driver = Driver()
    driver.open()

    driver.grant(a_granted_task(1))

    assert kinds(driver.outcomes()) == {1: RETURNED}


def test_empty_group_is_nothing() -> None:
    driver = running()
    driver.grant()
    assert driver.told(m.Tasks) == []


def test_large_tasks_are_split_over_messages() -> None:
    driver = running(slots=4)
    driver.demand(4)

    driver.grant(*[a_granted_task(n, payload=bytes(1_000_000)) for n in range(1, 5)])

    messages = driver.told(m.Tasks)
    assert len(messages) == 4
    assert [t.id for x in messages for g in x.groups for t in g.tasks] == ids(1, 2, 3, 4)


# --- Outcomes ----------------------------------------------------------------------------------


def test_outcome_is_passed_on_as_the_service_told_it() -> None:
    driver = running(1)
    told = an_outcome(1, kind=m.OutcomeKind.FATAL, value=m.Failure("ValueError", "no"))

    driver.tell(told)

    assert driver.outcomes() == [told]


@pytest.mark.parametrize("connection", [SERVICE, 2])
def test_outcome_of_a_lease_that_is_not_held_there_is_dropped_and_counted(connection: int) -> None:
    driver = running(1)
    driver.attach(2)

    driver.tell(an_outcome(7), an_outcome(1, token=2), connection=connection)

    assert driver.outcomes() == []
    assert driver.facts()["outcomes_late"] == 2


def test_outcome_told_twice_counts_once() -> None:
    driver = running(1)

    driver.tell(an_outcome(1), an_outcome(1))

    assert driver.outcomes() == [an_outcome(1)]


def test_outcomes_after_the_end_of_a_connection_are_dropped() -> None:
    driver = running(1)
    driver.close(SERVICE)
    driver.outcomes()

    driver.tell(an_outcome(1))

    assert driver.outcomes() == []


# --- A connection ends -------------------------------------------------------------------------


def test_first_unfinished_tasks_up_to_the_slots_are_lost_and_the_others_returned() -> None:
    driver = running(1, 2, 3, 4, 5, slots=2)
    driver.tell(an_outcome(1))
    driver.outcomes()
    driver.advance(50)

    driver.close(SERVICE)

    outcomes = driver.outcomes()
    assert kinds(outcomes) == {2: LOST, 3: LOST, 4: RETURNED, 5: RETURNED}
    lost = outcomes[0]
    assert isinstance(lost.value, m.Failure)
    assert (lost.value.error_type, lost.run_us) == ("crash", 50_000)


def test_slots_count_for_each_handler_by_itself() -> None:
    driver = running(1, 2)
    driver.serve(2, handler="email.read")
    driver.grant(a_granted_task(3), handler="email.read")

    driver.close(SERVICE)

    assert kinds(driver.outcomes()) == {1: LOST, 2: RETURNED}
    assert driver.facts()["tasks_running"] == 1


def test_tasks_that_wait_here_stay_for_the_other_connections() -> None:
    driver = running(1)
    driver.serve(2, total=0)
    driver.grant(a_granted_task(2))
    driver.forget()

    driver.close(SERVICE)
    driver.demand(1, connection=2)

    assert kinds(driver.outcomes()) == {1: LOST}
    assert driver.handed(2) == ids(2)


def test_tasks_that_wait_here_are_returned_with_the_last_connection() -> None:
    driver = running(1)
    driver.grant(a_granted_task(2))

    driver.close(SERVICE)

    assert kinds(driver.outcomes()) == {1: LOST, 2: RETURNED}


def test_task_never_written_to_a_connection_is_not_charged_with_its_end() -> None:
    driver = running()
    grant = m.Grant(1, 1, [m.Group(HANDLER, [a_granted_task(1)])])

    driver.core.step(driver.now_ms, e.FromCoordinator(grant))
    driver.close(SERVICE)

    assert kinds(driver.outcomes()) == {1: RETURNED}


# --- Timeouts ----------------------------------------------------------------------------------


def test_attempt_is_revoked_at_its_timeout_and_may_still_say_what_it_came_to() -> None:
    driver = running(1, timeout_ms=SHORT_MS)

    driver.advance(SHORT_MS - 1)
    assert driver.revoked() == []
    driver.advance(1)
    assert driver.revoked() == [m.Revoked(task_id(1), 1, "timeout")]

    driver.tell(an_outcome(1))
    assert driver.outcomes() == [an_outcome(1)]


def test_silent_attempt_is_reported_after_the_grace_and_keeps_its_slot() -> None:
    driver = running(1, 2, timeout_ms=SHORT_MS)

    driver.keep_alive(SHORT_MS + GRACE_MS)

    [outcome] = driver.outcomes()
    assert isinstance(outcome.value, m.Failure)
    assert (outcome.kind, outcome.value.error_type) == (RETRY, "timeout")
    assert driver.facts()["slots_taken_by_ended_leases"] == 1
    assert driver.facts()["tasks_at_services"] == 1

    driver.tell(an_outcome(1))
    assert driver.outcomes() == []
    assert driver.facts()["slots_taken_by_ended_leases"] == 0
    assert driver.facts()["tasks_running"] == 1


def test_timeout_counts_from_when_a_slot_became_free() -> None:
    driver = running(1, 2, timeout_ms=SHORT_MS)
    driver.advance(200)
    driver.tell(an_outcome(1))

    driver.advance(SHORT_MS - 1)
    assert driver.revoked() == []
    driver.advance(1)
    assert [r.id for r in driver.revoked()] == ids(2)


def test_each_attempt_has_its_own_timeout() -> None:
    driver = running(slots=3)
    driver.grant(*[a_granted_task(n, timeout_ms=1_000 * (4 - n)) for n in (1, 2, 3)])

    driver.keep_alive(1_500)
    assert [r.id for r in driver.revoked()] == ids(3)
    driver.keep_alive(1_000)
    assert [r.id for r in driver.revoked()] == ids(2)


def test_timed_out_attempt_whose_connection_ends_is_a_timeout_and_no_crash() -> None:
    driver = running(1, timeout_ms=SHORT_MS)
    driver.advance(SHORT_MS)

    driver.close(SERVICE)

    assert kinds(driver.outcomes()) == {1: RETRY}


def test_ended_lease_has_no_second_outcome_when_its_connection_ends() -> None:
    driver = running(1, timeout_ms=SHORT_MS)
    driver.keep_alive(SHORT_MS + GRACE_MS)
    driver.outcomes()

    driver.close(SERVICE)

    assert driver.outcomes() == []


# --- Revoked by the coordinator ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "told"), [(1, True), (2, True), (3, False)], ids=["running", "waiting", "buffered"]
)
def test_revoked_lease_is_gone_wherever_it_stands(number: int, told: bool) -> None:
    driver = running(1, 2)
    driver.grant(a_granted_task(3))

    driver.coordinator(m.Revoke([m.Revoked(task_id(number), 1, "lease-lost")]))

    assert driver.revoked() == ([m.Revoked(task_id(number), 1, "lease-lost")] if told else [])
    driver.tell(an_outcome(number))
    assert driver.outcomes() == []
    driver.step(e.LinkDown())
    driver.step(e.LinkUp())
    [hello] = driver.said(m.Hello)
    assert task_id(number) not in [lease.id for lease in hello.held]


def test_revoked_task_that_had_not_begun_takes_no_slot() -> None:
    driver = running(1, 2, 3)
    driver.coordinator(m.Revoke([m.Revoked(task_id(2), 1, "lease-lost")]))

    driver.tell(an_outcome(1))

    assert driver.facts()["tasks_running"] == 1
    driver.close(SERVICE)
    assert kinds(driver.outcomes()) == {1: m.OutcomeKind.SUCCESS, 3: LOST}


def test_revoking_what_is_gone_or_unknown_changes_nothing() -> None:
    driver = running(1)
    gone = [m.Revoked(task_id(1), 1, "lease-lost"), m.Revoked(task_id(9), 1, "cancelled")]
    driver.coordinator(m.Revoke(gone))
    driver.revoked()

    driver.coordinator(m.Revoke(gone))

    assert driver.revoked() == []


def test_revoked_buffered_task_leaves_those_beside_it() -> None:
    driver = running(1)
    driver.grant(a_granted_task(2), a_granted_task(3))

    driver.coordinator(m.Revoke([m.Revoked(task_id(2), 1, "lease-lost")]))
    driver.tell(an_outcome(1))
    driver.demand(3)

    assert driver.handed() == ids(3)


def test_next_lease_of_a_task_lives_beside_its_revoked_attempt() -> None:
    driver = running(1, slots=2)
    driver.demand(2)
    driver.coordinator(m.Revoke([m.Revoked(task_id(1), 1, "lease-lost")]))

    driver.grant(a_granted_task(1, token=2))
    driver.tell(an_outcome(1, token=1), an_outcome(1, token=2))

    assert driver.outcomes() == [an_outcome(1, token=2)]


# --- Facts -------------------------------------------------------------------------------------


def test_heartbeat_tells_what_began_since_the_last_one() -> None:
    driver = running(1, 2)
    driver.advance(HEARTBEAT_MS)
    driver.said(m.Heartbeat)
    driver.advance(500)
    driver.tell(an_outcome(1))

    driver.advance(HEARTBEAT_MS - 500)

    [heartbeat] = driver.said(m.Heartbeat)
    assert heartbeat.running == [m.Running(task_id(2), 1, HEARTBEAT_MS - 500)]


def test_facts_count_leases_where_they_stand() -> None:
    driver = running(1, 2, 3)
    driver.grant(a_granted_task(4))

    facts = driver.facts()

    assert facts["tasks_running"] == 1
    assert facts["tasks_at_services"] == 2
    assert facts["tasks_buffered"] == 1
    assert facts["link"] == "open"
