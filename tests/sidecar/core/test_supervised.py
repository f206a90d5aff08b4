"""What the core does where a process is supervised: causes of its end, attempts that hang."""

import pytest

from protocol import messages as m
from sidecar.core import events as e
from sidecar.core.evidence import CAUSE_MS_MAX
from tests.sidecar.core.driver import DEADLINE_MS, HANDLER, TIMEOUT_MS, Driver
from tests.support.builders import a_granted_task, an_outcome, task_id

RETRY, RETURNED, LOST = m.OutcomeKind.RETRY, m.OutcomeKind.RETURNED, m.OutcomeKind.LOST
SERVICE, PROCESS = 1, 7
SHORT_MS, GRACE_MS = 300, 5_000
MARGIN_MS = TIMEOUT_MS // 10
CAUSE = m.Failure("crash", "killed by signal 9 (SIGKILL)", "MemoryError")


class Bench(Driver):
    """A driver with words for what is supervised."""

    def supervise(self, connection: int = SERVICE, process: int = PROCESS, **slots: int) -> None:
        """Attach a service whose process is supervised."""
        self.step(e.LocalOpened(connection, process))
        count = slots.get("slots", 1)
        declared = [m.Declaration(HANDLER, {})]
        attach = m.Attach(1, 1, "email", "test", declared, [m.Limit(HANDLER, count)])
        self.local(connection, attach)
        self.demand(slots.get("total", count), connection)

    def ended(self, process: int = PROCESS, *, as_told: bool = False) -> None:
        self.step(e.ProcessEnded(process, CAUSE, as_told))

    def stuck(self) -> list[e.Stuck]:
        found = [event for event in self.of_processes if isinstance(event, e.Stuck)]
        self.of_processes.clear()
        return found


def supervised(*numbers: int, slots: int = 1, timeout_ms: int = 60_000) -> Bench:
    """Return a driver with a supervised service, and these tasks handed to it."""
    bench = Bench()
    bench.open()
    bench.supervise(slots=slots, total=max(slots, len(numbers)))
    bench.grant(*[a_granted_task(n, timeout_ms=timeout_ms) for n in numbers])
    bench.forget()
    return bench


# --- Why a process ended -----------------------------------------------------------------------


def test_lost_attempt_tells_why_its_process_ended() -> None:
    bench = supervised(1)

    bench.close(SERVICE)
    assert bench.outcomes() == []
    bench.ended()

    [outcome] = bench.outcomes()
    assert (outcome.kind, outcome.value) == (LOST, CAUSE)


def test_cause_that_is_known_before_the_connection_breaks_is_told_as_well() -> None:
    bench = supervised(1)

    bench.ended()
    bench.close(SERVICE)

    [outcome] = bench.outcomes()
    assert (outcome.kind, outcome.value) == (LOST, CAUSE)


def test_process_that_outlives_its_connection_is_ended_before_its_attempts_are_reported() -> None:
    bench = supervised(1)

    bench.close(SERVICE)
    bench.advance(CAUSE_MS_MAX - 1)
    assert bench.stuck() == []
    bench.advance(1)
    [stuck] = bench.stuck()
    assert (stuck.process, stuck.at_once) == (PROCESS, True)
    bench.keep_alive(10 * TIMEOUT_MS)
    assert bench.outcomes() == []
    bench.ended(as_told=True)

    [outcome] = bench.outcomes()
    assert (outcome.kind, outcome.value) == (LOST, CAUSE)


def test_others_of_a_process_that_outlived_a_connection_are_given_back() -> None:
    bench = supervised(1)
    bench.supervise(2)
    bench.grant(a_granted_task(2))
    bench.forget()
    bench.close(SERVICE)
    bench.advance(CAUSE_MS_MAX)

    bench.close(2)
    bench.ended(as_told=True)

    told = {o.id: o.kind for o in bench.outcomes()}
    assert told == {task_id(1): LOST, task_id(2): RETURNED}


def test_process_that_breaks_the_protocol_is_ended_before_its_attempts_are_reported() -> None:
    bench = supervised(1)

    bench.local(SERVICE, m.Welcome(1, 1, False, 1, b"s" * 16, 1, [], ""))
    assert bench.closed == [SERVICE]
    bench.advance(CAUSE_MS_MAX)

    assert [stuck.process for stuck in bench.stuck()] == [PROCESS]
    assert bench.outcomes() == []
    bench.ended(as_told=True)
    assert [o.kind for o in bench.outcomes()] == [LOST]


def test_process_that_closes_with_nothing_begun_is_left_alone() -> None:
    bench = supervised()
    bench.close(SERVICE)
    bench.advance(TIMEOUT_MS)

    assert bench.stuck() == []


def test_what_had_not_begun_waits_for_no_cause() -> None:
    bench = supervised(1, 2, 3)

    bench.close(SERVICE)

    assert [(o.id, o.kind) for o in bench.outcomes()] == [
        (task_id(2), RETURNED),
        (task_id(3), RETURNED),
    ]


def test_connection_that_is_not_supervised_waits_for_nothing() -> None:
    bench = Bench()
    bench.open()
    bench.serve()
    bench.grant(a_granted_task(1))

    bench.close(SERVICE)

    assert [o.kind for o in bench.outcomes()] == [LOST]


def test_lease_whose_outcome_waits_for_its_cause_is_still_held() -> None:
    bench = supervised(1)
    bench.close(SERVICE)

    bench.step(e.LinkDown())
    bench.step(e.LinkUp())

    [hello] = bench.said(m.Hello)
    assert [lease.id for lease in hello.held] == [task_id(1)]


def test_drain_waits_for_the_outcome_that_waits_for_its_cause() -> None:
    bench = supervised(1)
    bench.close(SERVICE)

    bench.step(e.Drain())
    assert not bench.stopped()
    bench.ended()
    [message] = bench.said(m.Outcomes)
    bench.coordinator(m.Recorded(message.number, []))

    assert bench.stopped()


def test_each_of_several_connections_of_a_process_gets_the_cause() -> None:
    bench = supervised(1)
    bench.supervise(2)
    bench.grant(a_granted_task(2))
    bench.forget()

    bench.close(SERVICE)
    bench.ended()
    bench.close(2)

    assert [o.value for o in bench.outcomes()] == [CAUSE, CAUSE]


# --- An attempt that does not stop -------------------------------------------------------------


def test_attempt_that_hangs_condemns_its_process_after_the_grace() -> None:
    bench = supervised(1, timeout_ms=SHORT_MS)

    bench.advance(SHORT_MS)
    assert [r.reason for r in bench.revoked()] == ["timeout"]
    bench.keep_alive(GRACE_MS - 1)
    assert bench.stuck() == []
    bench.advance(1)

    assert bench.stuck() == [e.Stuck(PROCESS, at_once=False)]


def test_attempt_that_hangs_is_reported_only_when_its_process_is_gone() -> None:
    bench = supervised(1, 2, slots=2, timeout_ms=SHORT_MS)
    bench.keep_alive(SHORT_MS + GRACE_MS + 60_000)
    assert bench.outcomes() == []

    bench.close(SERVICE)
    bench.keep_alive(10 * CAUSE_MS_MAX)
    assert bench.outcomes() == []
    bench.ended()

    values = [(o.kind, o.value.error_type) for o in bench.outcomes() if o.value]  # type: ignore[union-attr]
    assert values == [(RETRY, "timeout"), (RETRY, "timeout")]


@pytest.mark.parametrize("closes_first", [True, False])
def test_others_in_a_process_that_ends_as_told_are_given_back_uncharged(closes_first: bool) -> None:
    bench = supervised(slots=2)
    bench.grant(a_granted_task(1, timeout_ms=SHORT_MS), a_granted_task(2))
    bench.keep_alive(SHORT_MS + GRACE_MS)

    if closes_first:
        bench.close(SERVICE)
    bench.ended(as_told=True)
    if not closes_first:
        bench.close(SERVICE)

    told = {o.id: (o.kind, o.value) for o in bench.outcomes()}
    assert told[task_id(2)] == (RETURNED, None)
    assert told[task_id(1)][0] is RETRY


def test_others_in_a_condemned_process_that_crashes_by_itself_are_charged() -> None:
    bench = supervised(slots=2)
    bench.grant(a_granted_task(1, timeout_ms=SHORT_MS), a_granted_task(2))
    bench.keep_alive(SHORT_MS + GRACE_MS)

    bench.close(SERVICE)
    bench.ended()

    told = {o.id: (o.kind, o.value) for o in bench.outcomes()}
    assert told[task_id(2)] == (LOST, CAUSE)
    assert told[task_id(1)][0] is RETRY


def test_attempt_that_stops_after_all_is_told_as_usual() -> None:
    bench = supervised(1, timeout_ms=SHORT_MS)
    bench.keep_alive(SHORT_MS + GRACE_MS)

    bench.tell(an_outcome(1))

    assert bench.outcomes() == [an_outcome(1)]


def test_condemned_process_gets_no_more_tasks() -> None:
    bench = supervised(slots=2)
    bench.grant(a_granted_task(1, timeout_ms=SHORT_MS))
    bench.keep_alive(SHORT_MS + GRACE_MS)

    bench.demand(10)
    bench.grant(a_granted_task(2))

    assert bench.handed() == [task_id(1)]
    assert bench.facts()["tasks_buffered"] == 1


def test_attempt_without_a_supervised_process_is_reported_after_the_grace() -> None:
    bench = Bench()
    bench.open()
    bench.serve()
    bench.grant(a_granted_task(1, timeout_ms=SHORT_MS))

    bench.keep_alive(SHORT_MS + GRACE_MS)

    assert [o.kind for o in bench.outcomes()] == [RETRY]
    assert bench.stuck() == []


def test_attempt_that_outlives_its_lease_is_ended_before_the_next_may_begin() -> None:
    bench = supervised(1)
    sent_ms = bench.now_ms

    bench.advance(DEADLINE_MS)
    assert [r.reason for r in bench.revoked()] == ["lease-lost"]
    bench.advance(MARGIN_MS)

    assert bench.stuck() == [e.Stuck(PROCESS, at_once=True)]
    assert bench.now_ms - sent_ms < TIMEOUT_MS + MARGIN_MS


def test_attempt_that_ends_with_its_lease_condemns_nothing() -> None:
    bench = supervised(1)
    bench.advance(DEADLINE_MS)

    bench.tell(an_outcome(1))
    bench.advance(10 * MARGIN_MS)

    assert bench.stuck() == []


def test_attempt_that_begins_while_its_lease_ends_is_ended_before_the_next_may_begin() -> None:
    bench = supervised(1, 2, 3)

    bench.advance(DEADLINE_MS)
    bench.tell(an_outcome(1))  # It was on its way, and the second has begun since.
    bench.tell(an_outcome(3, kind=RETURNED))
    bench.advance(MARGIN_MS)

    assert bench.stuck() == [e.Stuck(PROCESS, at_once=True)]


def test_tasks_that_are_given_back_as_their_leases_end_condemn_nothing_and_take_no_slot() -> None:
    bench = supervised(1, 2, 3)
    bench.advance(DEADLINE_MS)

    for number in (2, 3, 1):
        bench.tell(an_outcome(number, kind=RETURNED))
    bench.advance(10 * MARGIN_MS)

    assert bench.stuck() == []
    assert bench.core.facts(bench.now_ms)["slots_taken_by_ended_leases"] == 0


def test_process_of_a_cancelled_attempt_that_does_not_stop_is_ended_and_the_lease_given_back() -> (
    None
):
    bench = supervised(1, timeout_ms=20_000)
    bench.coordinator(m.Revoke([m.Revoked(task_id(1), 1, "cancelled")]))

    bench.keep_alive(GRACE_MS - 1)
    assert bench.stuck() == []
    bench.advance(1)

    assert bench.stuck() == [e.Stuck(PROCESS, at_once=False)]
    assert bench.outcomes() == []
    bench.close(SERVICE)
    bench.ended()
    assert [o.kind for o in bench.outcomes()] == [RETURNED]


def test_attempt_that_outlives_the_drain_is_ended_at_once_and_returned() -> None:
    bench = supervised(1)
    bench.step(e.Drain())
    bench.keep_alive(25_000)
    assert [r.reason for r in bench.revoked()] == ["stopping"]

    bench.keep_alive(2_000)
    assert bench.stuck() == [e.Stuck(PROCESS, at_once=True)]
    assert bench.outcomes() == []
    bench.close(SERVICE)
    bench.ended()

    assert [o.kind for o in bench.outcomes()] == [RETURNED]


# --- What the fleet is told --------------------------------------------------------------------


@pytest.mark.parametrize("handlers", [True, False])
def test_process_serves_once_it_has_attached_with_handlers(handlers: bool) -> None:
    bench = Bench()
    bench.open()
    if handlers:
        bench.supervise()
    else:
        bench.step(e.LocalOpened(SERVICE, PROCESS))
        bench.local(SERVICE, m.Attach(1, 1, "", "test", [], []))

    assert bench.of_processes == ([e.Serving(PROCESS)] if handlers else [])


def test_finished_tasks_are_counted_for_their_process() -> None:
    bench = supervised(1, 2, slots=2)
    bench.of_processes.clear()

    bench.tell(an_outcome(1), an_outcome(2))

    assert bench.of_processes == [e.Finished(PROCESS, 2)]
