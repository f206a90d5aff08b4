"""What attempts tell: shown while they go on, and left to the next attempt."""

import pytest

from protocol.messages import Failure, OutcomeKind, State, Update
from protocol.messages import Progress as ProgressMessage
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import Sidecar, failed, lease_of, success
from tests.support.builders import a_submission, task_id

LEASE_MS = 11_000


def held(**policy: int) -> Sidecar:
    """Return a sidecar that holds one task."""
    sidecar = Sidecar(Bench())
    sidecar.serve(1000, "email.send", **{"backoff_ms_max": 0, "backoff_ms_min": 0} | policy)
    sidecar.submit(a_submission())
    return sidecar


def test_progress_and_note_are_shown_until_the_attempt_ends() -> None:
    sidecar = held()
    sidecar.progress(sidecar.grant(), permille=250, note="a quarter")
    sidecar.progress(sidecar.grant(), permille=300)
    status = sidecar.status(task_id())
    assert (status.progress, status.note, status.state) == (300, "a quarter", State.RUNNING)

    sidecar.report(failed(sidecar.grant(), OutcomeKind.LOST))

    status = sidecar.status(task_id())
    assert (status.progress, status.note, status.state) == (-1, "", State.LEASED)


def test_update_that_tells_nothing_changes_nothing() -> None:
    sidecar = held()
    sidecar.progress(sidecar.grant(), permille=0, note="begun", checkpoint=b"page 1")
    sidecar.progress(sidecar.grant())
    status = sidecar.status(task_id())
    assert (status.progress, status.note, status.checkpoint) == (0, "begun", b"page 1")


@pytest.mark.parametrize("kind", [OutcomeKind.RETRY, OutcomeKind.LOST, OutcomeKind.RETURNED])
def test_next_attempt_gets_the_latest_checkpoint(kind: OutcomeKind) -> None:
    sidecar = held()
    first = sidecar.grant()
    assert first.extras is None
    sidecar.progress(first, checkpoint=b"page 1")
    sidecar.progress(first, checkpoint=b"page 2")

    sidecar.report(failed(first, kind, Failure("E")))
    sidecar.bench.advance(10)

    assert sidecar.grant().token > first.token
    assert (sidecar.grant().extras or {})["checkpoint"] == b"page 2"


def test_checkpoint_outlives_the_sidecar_and_the_coordinator() -> None:
    sidecar = held()
    sidecar.progress(sidecar.grant(), checkpoint=b"page 2")
    sidecar.bench.crash()
    sidecar.bench.advance(LEASE_MS)

    other = Sidecar(sidecar.bench, 2)
    other.serve()

    assert (other.grant().extras or {})["checkpoint"] == b"page 2"
    assert other.grant().delivery == 2


def test_lease_is_the_same_after_a_checkpoint_and_a_restart() -> None:
    sidecar = held()
    lease = sidecar.grant()
    sidecar.progress(lease, permille=5, checkpoint=b"page 2")
    sidecar.bench.crash()

    welcome = sidecar.hello(held=[lease_of(lease)])

    assert welcome.lost == []
    assert sidecar.status(task_id()).progress == -1, "until it is told again"
    assert sidecar.report(success(lease)) == [None]


@pytest.mark.parametrize("kind", [OutcomeKind.SUCCESS, OutcomeKind.FATAL])
def test_task_that_has_ended_keeps_no_checkpoint(kind: OutcomeKind) -> None:
    sidecar = held()
    sidecar.progress(sidecar.grant(), permille=5, checkpoint=b"page 1")
    ended = success(sidecar.grant())
    sidecar.report(ended if kind is OutcomeKind.SUCCESS else failed(sidecar.grant(), kind))
    status = sidecar.status(task_id())
    assert (status.progress, status.checkpoint) == (-1, None)


def test_checkpoint_of_a_task_that_is_cancelled_later_is_removed_with_it() -> None:
    sidecar = held(backoff_ms_min=9_000, backoff_ms_max=9_000)
    sidecar.progress(sidecar.grant(), checkpoint=b"page 1")
    sidecar.report(failed(sidecar.grant()))
    sidecar.cancel(task_id())
    assert sidecar.status(task_id()).checkpoint is None


def test_only_the_holder_of_the_lease_is_heard() -> None:
    sidecar = held()
    lease = sidecar.grant()
    other = Sidecar(sidecar.bench, 2)
    for teller, token, number in ((other, lease.token, 1), (sidecar, 1, 1), (sidecar, 1, 2)):
        teller.say(ProgressMessage([Update(task_id(number), token, 5, "x", b"x")]))
    status = sidecar.status(task_id())
    assert (status.progress, status.note, status.checkpoint) == (-1, "", None)
    assert sidecar.bench.shard.counts["progress_stale"] == 3


def test_same_checkpoint_again_is_not_written_again() -> None:
    sidecar = held()
    sidecar.progress(sidecar.grant(), checkpoint=b"page 1")
    sidecar.progress(sidecar.grant(), permille=7, checkpoint=b"page 1")
    assert sidecar.bench.shard.counts["checkpoints"] == 1
