"""Submissions without any connection: how calls become batches, and verdicts their answers."""

from protocol import limits
from protocol.messages import Batch, Rejection, Verdict
from protocol.submission import decode_batch
from sidecar import Busy, PillionError, Rejected, Unavailable
from sidecar.sdk.new_task import Draft
from sidecar.sdk.submissions import BATCHES_OPEN_MAX, BYTES_OPEN_MAX, Call, Submissions

NOW = 100.0


class Watched(Call):
    """A call that counts how often it was said to be done."""

    finished: list[Call]


def watched(count: int = 1, size: int = 1, timeout: float = 30.0, now: float = NOW) -> Watched:
    drafts: list[Draft] = [(None, "email.send", b"x" * size, None, None)] * count
    finished: list[Call] = []
    call = Watched(drafts, now, timeout, finished.append)
    call.finished = finished
    return call


def accepted(batch: Batch, *rejections: Rejection) -> Verdict:
    return Verdict(batch.request, None, "", 0, list(rejections))


def refused(batch: Batch, code: str, retry_after_ms: int = 0) -> Verdict:
    return Verdict(batch.request, code, "told so", retry_after_ms, [])


def errors(call: Call) -> dict[int, type[PillionError]]:
    return {place: type(error) for place, error in (call.errors or {}).items()}


def test_calls_that_wait_become_one_batch_in_their_order() -> None:
    submissions = Submissions(may_spool=True)
    calls = [watched(count) for count in (1, 3, 2)]
    for call in calls:
        submissions.add(call)

    (batch,) = submissions.take()
    submissions.settle(accepted(batch, Rejection(4, "duplicate_id", "there")), NOW)

    ids = [task[0] for task in decode_batch(batch.tasks)]
    assert [i for call in calls for i in call.ids] == ids == sorted(ids)
    assert [len(call.finished) for call in calls] == [1, 1, 1]
    assert [errors(call) for call in calls] == [{}, {}, {0: Rejected}]
    assert not submissions.pending


def test_call_larger_than_a_batch_is_done_when_all_its_parts_are() -> None:
    submissions = Submissions(may_spool=True)
    call = watched(limits.BATCH_TASKS_MAX + 5)
    submissions.add(call)

    first, second = submissions.take()
    submissions.settle(accepted(second, Rejection(0, "busy", "")), NOW)
    assert not call.finished
    submissions.settle(accepted(first), NOW)

    assert call.finished == [call]
    assert errors(call) == {limits.BATCH_TASKS_MAX: Rejected}


def test_what_is_under_way_is_bounded_in_batches_and_in_bytes() -> None:
    by_count, by_bytes = Submissions(may_spool=True), Submissions(may_spool=True)
    taken: list[Batch] = []
    for _ in range(BATCHES_OPEN_MAX + 1):
        by_count.add(watched())
        taken += by_count.take()
    by_bytes.add(watched(20, size=1_000_000))

    sizes = [len(batch.tasks) for batch in by_bytes.take()]

    assert len(taken) == BATCHES_OPEN_MAX
    assert BYTES_OPEN_MAX <= sum(sizes) < BYTES_OPEN_MAX + limits.FRAME_BYTES_MAX
    by_count.settle(accepted(taken[0]), NOW)
    assert len(by_count.take()) == 1


def test_abandoned_call_is_not_sent_unless_it_was_begun() -> None:
    submissions = Submissions(may_spool=True)
    unwanted, begun = watched(), watched(limits.BATCH_TASKS_MAX * 20)
    unwanted.abandoned = True
    submissions.add(unwanted)
    submissions.add(begun)
    first = submissions.take()
    begun.abandoned = True
    for batch in first:
        submissions.settle(accepted(batch), NOW)

    rest = submissions.take()

    assert unwanted.ids == []
    assert sum(len(decode_batch(b.tasks)) for b in first + rest) == len(begun.drafts)
    assert submissions.bytes_waiting == 0


def test_second_verdict_on_a_batch_changes_nothing() -> None:
    submissions = Submissions(may_spool=True)
    call = watched()
    submissions.add(call)
    (batch,) = submissions.take()
    submissions.take_again()

    submissions.settle(accepted(batch), NOW)
    submissions.settle(accepted(batch, Rejection(0, "duplicate_id", "")), NOW)

    assert (call.finished, errors(call)) == ([call], {})


def test_overdue_calls_fail_each_at_its_own_time() -> None:
    submissions = Submissions(may_spool=True)
    sent, unsent = watched(timeout=5), watched(timeout=5, now=NOW + 1)
    submissions.add(sent)
    submissions.take()
    submissions.add(unsent)

    assert submissions.expire(NOW + 4.9) == NOW + 5
    assert not sent.finished
    assert submissions.expire(NOW + 5) == NOW + 6
    assert submissions.expire(NOW + 6) is None

    assert errors(sent) == errors(unsent) == {0: Unavailable}
    assert [c.errors[0].sent for c in (sent, unsent) if c.errors] == [True, False]  # type: ignore[attr-defined]
    assert not submissions.pending


def test_call_half_sent_fails_as_a_whole_and_once() -> None:
    submissions = Submissions(may_spool=True)
    call = watched(20, size=1_000_000, timeout=5)
    submissions.add(call)
    opened = submissions.take()

    submissions.expire(NOW + 5)
    submissions.expire(NOW + 5)
    submissions.settle(accepted(opened[0]), NOW + 6)

    assert call.finished == [call]
    assert len(errors(call)) == 20
    assert not submissions.pending
    assert submissions.bytes_waiting == 0


def test_late_answer_to_an_overdue_call_is_dropped() -> None:
    submissions = Submissions(may_spool=True)
    call = watched(timeout=5)
    submissions.add(call)
    (batch,) = submissions.take()
    submissions.expire(NOW + 5)

    submissions.settle(accepted(batch), NOW + 6)

    assert call.finished == [call]


def test_batch_told_to_wait_is_due_again_at_its_time() -> None:
    submissions = Submissions(may_spool=True)
    submissions.add(watched())
    (batch,) = submissions.take()
    submissions.settle(refused(batch, "busy", retry_after_ms=2000), NOW)

    assert submissions.take_due(NOW + 1.9) == []
    assert submissions.expire(NOW + 1) == NOW + 2
    assert submissions.take_due(NOW + 2) == [batch]
    assert submissions.take_due(NOW + 3) == []


def test_batch_that_is_due_but_cannot_be_sent_wakes_nobody() -> None:
    submissions = Submissions(may_spool=True)
    submissions.add(watched())
    (batch,) = submissions.take()
    submissions.settle(refused(batch, "busy", retry_after_ms=2000), NOW)

    assert submissions.expire(NOW + 3) == NOW + 30


def test_busy_until_the_timeout_is_told_as_busy() -> None:
    submissions = Submissions(may_spool=True)
    call = watched(timeout=5)
    submissions.add(call)
    (batch,) = submissions.take()
    submissions.settle(refused(batch, "store_full", retry_after_ms=1000), NOW)

    submissions.expire(NOW + 5)

    assert errors(call) == {0: Busy}


def test_failing_everything_finishes_every_call_once() -> None:
    submissions = Submissions(may_spool=True)
    sent, waiting = watched(), watched(2)
    submissions.add(sent)
    submissions.take()
    submissions.add(waiting)

    submissions.fail(PillionError("over"))

    assert [len(c.finished) for c in (sent, waiting)] == [1, 1]
    assert errors(waiting) == {0: PillionError, 1: PillionError}
    assert not submissions.pending
