"""Greeting, resuming, heartbeats and the deadline, through the facade."""

import pytest

from protocol import messages as m
from protocol.errors import Code
from sidecar.core import events as e
from sidecar.core.link import BACKOFF_MS_MAX, BACKOFF_MS_MIN, PATIENCE_MS_MIN
from tests.sidecar.core.driver import (
    DEADLINE_MS,
    HANDLER,
    HEARTBEAT_MS,
    STORE,
    TIMEOUT_MS,
    Driver,
    running,
)
from tests.support.builders import a_granted_task, a_lease, an_outcome, task_id

ENDING_MS = TIMEOUT_MS // 10 + TIMEOUT_MS // 40
"""How long attempts have to end whose leases ran out."""


def names(driver: Driver) -> list[str]:
    return [note.name for note in driver.notes]


def test_hello_is_sent_when_the_connection_stands() -> None:
    driver = Driver()
    driver.flush()
    assert driver.to_coordinator == []

    driver.step(e.LinkUp())

    [hello] = driver.said(m.Hello)
    assert (hello.incarnation, hello.service, hello.session) == (b"i" * 16, "email", 0)
    assert (hello.store, hello.epoch, hello.held) == (None, 0, [])


def test_hello_names_store_epoch_session_and_what_is_held() -> None:
    driver = running(1, 2)
    driver.tell(an_outcome(1))

    driver.step(e.LinkDown())
    driver.step(e.LinkUp())

    [hello] = driver.said(m.Hello)
    assert (hello.store, hello.epoch, hello.session) == (STORE, 1, 1)
    assert sorted(hello.held) == [a_lease(1), a_lease(2)]


def test_after_welcome_everything_is_said_again_in_order() -> None:
    driver = running(1, 2, slots=2)
    driver.tell(an_outcome(1))
    driver.attach()
    driver.local(2, m.Submit([m.Batch(7, b"tasks")]))
    driver.local(2, m.Query([m.Question(8, task_id(9), 0)]))
    driver.forget()

    driver.step(e.LinkDown())
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)

    kinds = [type(message) for message in driver.to_coordinator]
    assert kinds == [m.Hello, m.Handlers, m.Demand, m.Outcomes, m.Submit, m.Query]


def test_nothing_but_hello_is_said_before_welcome() -> None:
    driver = Driver()
    driver.step(e.LinkUp())
    driver.serve()
    driver.attach()
    driver.local(2, m.Submit([m.Batch(1, b"tasks")]))

    assert [type(message) for message in driver.to_coordinator] == [m.Hello]


def test_grant_between_hello_and_welcome_is_ignored() -> None:
    driver = running(1)
    driver.step(e.LinkDown())
    driver.step(e.LinkUp())

    driver.coordinator(m.Grant(1, 2, [m.Group(HANDLER, [a_granted_task(2)])]))
    driver.welcome(resumed=True)

    assert driver.handed() == []
    assert driver.facts()["tasks_granted"] == 1


@pytest.mark.parametrize(("session", "number"), [(2, 1), (1, 0), (0, 1)])
def test_grant_of_another_session_or_number_is_ignored(session: int, number: int) -> None:
    driver = running()

    driver.coordinator(m.Grant(session, number, [m.Group(HANDLER, [a_granted_task(1)])]))

    assert driver.handed() == []
    assert driver.said(m.Hello) == []


def test_grant_that_arrives_twice_is_taken_once() -> None:
    driver = running(1, slots=4)

    driver.coordinator(m.Grant(1, 1, [m.Group(HANDLER, [a_granted_task(1)])]))

    assert driver.handed() == []


def test_gap_in_grants_makes_it_resume() -> None:
    driver = running(1, slots=4)

    driver.coordinator(m.Grant(1, 3, [m.Group(HANDLER, [a_granted_task(3)])]))

    [hello] = driver.said(m.Hello)
    assert hello.held == [a_lease(1)]
    assert "session_lost" in names(driver)


def test_beat_that_names_an_unseen_grant_makes_it_resume() -> None:
    driver = running(1)

    driver.beat(grant_number=2)

    assert len(driver.said(m.Hello)) == 1


def test_heartbeat_goes_every_fifth_of_the_timeout() -> None:
    driver = running(1)

    driver.advance(2 * HEARTBEAT_MS)

    heartbeats = driver.said(m.Heartbeat)
    assert [h.clock_ms for h in heartbeats] == [1_000 + HEARTBEAT_MS, 1_000 + 2 * HEARTBEAT_MS]
    assert [len(h.running) for h in heartbeats] == [1, 0]
    assert heartbeats[0].limits == [m.Limit(HANDLER, 1)]


def test_leases_are_void_at_the_deadline_after_the_sending_of_what_was_answered() -> None:
    driver = running(1)
    driver.advance(HEARTBEAT_MS)
    sent_ms = driver.now_ms
    driver.advance(1_500)
    driver.beat(clock_ms=sent_ms)
    driver.forget()

    driver.advance(sent_ms + DEADLINE_MS - 1 - driver.now_ms)
    assert driver.revoked() == []

    driver.advance(1)
    assert driver.revoked() == [m.Revoked(task_id(1), 1, "lease-lost")]
    assert "leases_lost" in names(driver)
    assert driver.outcomes() == []


def test_paused_process_finds_its_leases_void_before_anything_else() -> None:
    driver = running(1)

    driver.jump(DEADLINE_MS)
    driver.tell(an_outcome(1))

    assert driver.outcomes() == []
    assert driver.facts()["outcomes_late"] == 1


def test_nothing_is_handed_over_after_the_deadline() -> None:
    driver = Driver()
    driver.open()
    driver.serve(total=0)
    driver.grant(a_granted_task(1))
    driver.forget()

    driver.jump(DEADLINE_MS)
    driver.demand(5)

    assert driver.handed() == []


@pytest.mark.parametrize(
    "beat",
    [m.Beat(2, 1_000 + HEARTBEAT_MS, 1), m.Beat(1, 10**9, 1)],
    ids=["of another session", "with a clock that is ahead"],
)
def test_beat_that_cannot_be_its_own_renews_nothing(beat: m.Beat) -> None:
    driver = running(1)
    driver.advance(HEARTBEAT_MS)

    driver.coordinator(beat)

    driver.advance(DEADLINE_MS - HEARTBEAT_MS)
    assert len(driver.revoked()) == 1


def test_silence_asks_for_a_fresh_connection_while_leases_stand() -> None:
    driver = running(1)

    driver.advance(3 * HEARTBEAT_MS)

    assert driver.reconnects == 1
    assert driver.revoked() == []
    assert "session_lost" in names(driver)
    assert not driver.core.session_open


def test_leases_run_out_in_an_open_session_whose_beats_come_too_late() -> None:
    """Each beat shows the coordinator alive and renews less than has passed since."""
    driver = running(1)
    began_ms = driver.now_ms
    for clock_ms, arrives_ms in [(2_000, 5_900), (4_000, 9_800)]:
        driver.advance(began_ms + arrives_ms - driver.now_ms)
        driver.beat(clock_ms=began_ms + clock_ms)
    driver.forget()

    driver.advance(began_ms + 4_000 + DEADLINE_MS - driver.now_ms)

    assert len(driver.revoked()) == 1
    assert driver.reconnects == 1
    assert not driver.core.session_open


def test_resumed_session_goes_on_with_what_it_held() -> None:
    driver = running(1, 2, slots=2)
    driver.advance(3 * HEARTBEAT_MS)
    driver.step(e.LinkUp())

    driver.welcome(resumed=True, lost=[a_lease(2)])

    assert driver.revoked() == [m.Revoked(task_id(2), 1, "lease-lost")]
    driver.tell(an_outcome(1), an_outcome(2))
    assert driver.outcomes() == [an_outcome(1)]


def test_session_that_is_not_resumed_voids_what_was_held() -> None:
    driver = running(1, 2)
    driver.step(e.LinkDown())
    driver.step(e.LinkUp())

    driver.welcome(resumed=False)

    assert {r.id for r in driver.revoked()} == {task_id(1), task_id(2)}
    assert driver.outcomes() == []


def test_welcome_to_a_hello_whose_leases_ran_out_is_not_used() -> None:
    """The coordinator would believe them held for as long as the session lives."""
    driver = running(1)
    driver.advance(DEADLINE_MS - 100)
    driver.step(e.LinkUp())
    [hello] = driver.said(m.Hello)
    assert hello.held == [a_lease(1)]

    driver.advance(200)
    driver.welcome(resumed=True)
    assert not driver.core.session_open
    assert driver.said(m.Hello) == []

    driver.advance(ENDING_MS)
    [hello] = driver.said(m.Hello)
    assert hello.held == []
    driver.welcome(resumed=True)
    assert driver.core.session_open


@pytest.mark.parametrize("after_ms", [0, ENDING_MS - 1])
def test_hello_waits_until_what_ran_out_has_had_time_to_end(after_ms: int) -> None:
    """What it does not name is granted again at once; found by the simulator."""
    driver = running(1)
    driver.step(e.LinkDown())
    driver.advance(DEADLINE_MS)
    assert [revoked.reason for revoked in driver.revoked()] == ["lease-lost"]

    driver.advance(after_ms)
    driver.step(e.LinkUp())
    assert driver.said(m.Hello) == []

    driver.advance(ENDING_MS - after_ms)
    [hello] = driver.said(m.Hello)
    assert hello.held == []


def test_welcome_that_comes_after_its_own_deadline_is_not_used() -> None:
    driver = Driver()
    for patience_ms in (PATIENCE_MS_MIN, 2 * PATIENCE_MS_MIN):
        driver.step(e.LinkUp())
        driver.advance(patience_ms)
    driver.step(e.LinkUp())
    driver.said(m.Hello)

    driver.advance(DEADLINE_MS)
    driver.welcome()

    assert not driver.core.session_open
    driver.advance(TIMEOUT_MS // 10)
    assert len(driver.said(m.Hello)) == 1


def test_late_welcome_is_followed_by_a_heartbeat_at_once() -> None:
    driver = Driver()
    driver.step(e.LinkUp())

    driver.advance(PATIENCE_MS_MIN - 1)
    driver.welcome()
    driver.advance(1)

    assert driver.core.session_open
    assert driver.reconnects == 0
    assert len(driver.said(m.Heartbeat)) == 1


def test_welcome_nobody_asked_for_is_ignored() -> None:
    driver = running(1)

    driver.coordinator(m.Welcome(1, 9, False, 1, STORE, TIMEOUT_MS, [], "0.1.0"))

    assert driver.revoked() == []
    driver.advance(HEARTBEAT_MS)
    driver.beat()
    assert driver.facts()["session"] == 1


def test_unanswered_hello_ends_in_a_fresh_connection_with_growing_patience() -> None:
    driver = Driver()
    driver.step(e.LinkUp())

    driver.advance(PATIENCE_MS_MIN - 1)
    assert driver.reconnects == 0
    driver.advance(1)
    assert driver.reconnects == 1

    driver.step(e.LinkUp())
    driver.advance(2 * PATIENCE_MS_MIN - 1)
    assert driver.reconnects == 1
    driver.advance(1)
    assert driver.reconnects == 2


@pytest.mark.parametrize("code", [Code.BUSY, Code.WRONG_STORE, "of_the_future"])
def test_refused_hello_is_repeated_later_and_later(code: str) -> None:
    driver = Driver()
    driver.step(e.LinkUp())
    driver.said(m.Hello)
    waits = []

    for _ in range(7):
        driver.coordinator(m.Refused(code, "no", 0))
        began_ms = driver.now_ms
        due_ms = driver.core.next_due_ms()
        assert due_ms is not None
        driver.advance(due_ms - driver.now_ms)
        assert len(driver.said(m.Hello)) == 1
        waits.append(driver.now_ms - began_ms)

    assert waits[:3] == [BACKOFF_MS_MIN, 2 * BACKOFF_MS_MIN, 4 * BACKOFF_MS_MIN]
    assert waits[-1] == BACKOFF_MS_MAX
    assert names(driver).count("refused") == 7


def test_refusal_that_names_a_wait_is_heeded() -> None:
    driver = Driver()
    driver.step(e.LinkUp())
    driver.said(m.Hello)

    driver.coordinator(m.Refused(Code.BUSY, "later", 3_000))

    driver.advance(2_999)
    assert driver.said(m.Hello) == []
    driver.advance(1)
    assert len(driver.said(m.Hello)) == 1


def test_unknown_session_makes_it_greet_once() -> None:
    driver = running(1)

    driver.coordinator(m.Refused(Code.UNKNOWN_SESSION, "who?", 0))
    driver.coordinator(m.Refused(Code.UNKNOWN_SESSION, "who?", 0))

    assert len(driver.said(m.Hello)) == 1
    driver.welcome(resumed=True)
    assert driver.core.session_open


@pytest.mark.parametrize(
    ("code", "open_after"),
    [(Code.INVALID_OPTION, True), (Code.MALFORMED, False), ("of_the_future", False)],
)
def test_refusal_ends_the_session_when_its_code_says_so(code: str, open_after: bool) -> None:
    driver = running(1)

    driver.coordinator(m.Refused(code, "no", 0))

    assert driver.core.session_open is open_after
    assert "refused" in names(driver)


def test_refusal_without_a_session_or_greeting_is_ignored() -> None:
    driver = running(1)
    driver.step(e.LinkDown())
    driver.forget()

    driver.coordinator(m.Refused(Code.MALFORMED, "no", 0))

    assert names(driver) == []


@pytest.mark.parametrize("changes", [{"version": 2}, {"epoch": 4}], ids=["version", "epoch"])
def test_welcome_that_is_not_fit_is_refused(changes: dict[str, int]) -> None:
    driver = Driver()
    driver.open(epoch=5)
    driver.step(e.LinkDown())
    driver.step(e.LinkUp())

    driver.welcome(**{"epoch": 5} | changes)

    assert not driver.core.session_open
    assert "welcome_refused" in names(driver)


def test_messages_only_sidecars_send_are_noted_and_harm_nothing() -> None:
    driver = running(1)

    driver.coordinator(m.Inspect())
    driver.coordinator(m.Goodbye("stopping"))

    assert names(driver) == ["unexpected_message", "coordinator_leaves"]
    assert driver.core.session_open


def test_idle_core_without_a_connection_has_nothing_due() -> None:
    driver = Driver()
    driver.flush()

    assert driver.core.next_due_ms() is None


def test_first_heartbeat_of_a_session_tells_of_all_that_runs_and_the_next_of_nothing() -> None:
    """A coordinator that was restarted knows of nothing that runs, and a crash would not count."""
    driver = running(1)
    driver.advance(HEARTBEAT_MS)
    driver.beat()
    driver.forget()

    driver.step(e.LinkDown())
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)
    driver.advance(HEARTBEAT_MS)
    driver.beat()
    driver.advance(HEARTBEAT_MS)

    first, second = driver.said(m.Heartbeat)
    assert [r.id for r in first.running] == [task_id(1)]
    assert second.running == []


def test_why_there_is_no_session_is_told_until_there_is_one() -> None:
    driver = Driver()
    assert "nothing answers" in str(driver.facts()["link_trouble"])

    driver.step(e.LinkUp())
    driver.coordinator(m.Refused(Code.WRONG_STORE, "another store than before", 0))
    assert driver.facts()["link_trouble"] == "wrong_store: another store than before"

    driver.advance(BACKOFF_MS_MIN)
    driver.welcome()
    assert driver.facts()["link_trouble"] == ""
    driver.step(e.LinkDown())
    assert "nothing answers" in str(driver.facts()["link_trouble"])
