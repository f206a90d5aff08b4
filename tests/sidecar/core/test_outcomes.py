"""Outcomes are kept until they are recorded, and few messages of them are in flight."""

from protocol import messages as m
from sidecar.core import events as e
from sidecar.core.outcomes import IN_FLIGHT_MAX, Unrecorded
from tests.sidecar.core.driver import running
from tests.support.builders import a_lease, an_outcome


def test_outcome_is_sent_again_under_its_number_until_recorded() -> None:
    driver = running(1)
    driver.tell(an_outcome(1))
    [first] = driver.said(m.Outcomes)

    driver.step(e.LinkDown())
    driver.step(e.LinkUp())
    driver.welcome(resumed=False)

    assert driver.said(m.Outcomes) == [first]
    driver.coordinator(m.Recorded(first.number, []))
    driver.step(e.LinkDown())
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)
    assert driver.said(m.Outcomes) == []


def test_few_messages_are_in_flight_and_the_rest_gathers() -> None:
    kept = Unrecorded()
    for number in range(IN_FLIGHT_MAX):
        kept.add([an_outcome(number)])
        assert len(kept.outgoing(0)) == 1

    kept.add([an_outcome(10)])
    kept.add([an_outcome(11)])
    assert kept.outgoing(0) == []

    kept.record(5, m.Recorded(2, []))
    assert kept.outgoing(5) == [m.Outcomes(5, [an_outcome(10), an_outcome(11)])]


def test_large_outcomes_fill_no_more_messages_than_may_be_in_flight() -> None:
    kept = Unrecorded()
    large = m.Result(None, bytes(200_000))
    kept.add([an_outcome(n, value=large) for n in range(50)])

    messages = kept.outgoing(0)

    assert len(messages) == IN_FLIGHT_MAX
    sent = sum(len(message.outcomes) for message in messages)
    assert (sent, len(kept), len(kept.leases())) == (28, 50, 50)


def test_record_of_a_number_never_sent_or_recorded_before_changes_nothing() -> None:
    kept = Unrecorded()
    kept.add([an_outcome(1)])
    kept.outgoing(0)

    assert kept.record(1, m.Recorded(9, [])) is None
    assert kept.record(7, m.Recorded(1, [])) == 7
    assert kept.record(8, m.Recorded(1, [])) is None
    assert (len(kept), kept.recorded) == (0, 1)


def test_record_that_comes_before_the_second_sending_spares_it() -> None:
    kept = Unrecorded()
    kept.add([an_outcome(1)])
    kept.outgoing(0)

    kept.resend()

    assert kept.record(1, m.Recorded(1, [])) is None
    assert kept.outgoing(1) == []


def test_outcome_that_is_not_taken_is_final_and_counted() -> None:
    driver = running(1, 2, slots=2)
    driver.tell(an_outcome(1), an_outcome(2))
    [message] = driver.said(m.Outcomes)

    driver.coordinator(m.Recorded(message.number, [m.Unrecorded(1, "stale_token")]))

    facts = driver.facts()
    assert (facts["outcomes_unrecorded"], facts["outcomes_recorded"]) == (0, 2)
    assert facts["outcomes_not_taken"] == 1


def test_leases_with_unrecorded_outcomes_are_still_held() -> None:
    kept = Unrecorded()
    kept.add([an_outcome(1)])
    kept.outgoing(0)
    kept.add([an_outcome(2)])

    assert kept.leases() == [a_lease(1), a_lease(2)]


def test_journal_is_not_due_for_ever_when_a_lease_has_two_outcomes() -> None:
    """A coordinator that grants a lease twice gets two (frame 672 of batch 34, seed 950)."""
    unrecorded = Unrecorded()
    twice = an_outcome(1)
    unrecorded.add([twice, twice, an_outcome(2)])
    unrecorded.to_journal()
    assert not unrecorded.journal_due

    [message] = unrecorded.outgoing(0)
    unrecorded.record(1, m.Recorded(message.number, []))
    unrecorded.add([an_outcome(3)])
    assert unrecorded.journal_due
