from typing import Any

import pytest

from coordinator.core import layout, submissions
from coordinator.core.shard import StoreLevel, Tick
from protocol import codec, limits
from protocol.errors import Code
from protocol.limits import CLOCK_SKEW_MS_MAX, DAY_MS, DELAY_MS_MAX
from protocol.messages import Accepted, Batch, Priority, State, Submit
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import EMAIL, Sidecar, success
from tests.support.builders import FIRST_MS, a_batch, a_submission, task_id


def codes(bench: Bench, *raw: object) -> list[str | None]:
    """Submit raw tasks in one batch; return each one's code, None for accepted."""
    verdict = Sidecar(bench).submit_raw(codec.pack(list(raw)))
    assert verdict.code is None, verdict
    rejected = {rejection.place: rejection.code for rejection in verdict.rejections}
    return [rejected.get(place) for place in range(len(raw))]


def test_accepted_task_is_stored_before_its_verdict_leaves() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)

    bench.receive(sidecar.peer, Submit([a_batch(request=9)]))
    bench.flush()  # The look-up.
    bench.begin()
    assert not any(isinstance(message, Accepted) for message in sidecar.received())

    bench.finish()
    assert sidecar.verdict(9).rejections == []
    assert bench.audit().tasks[task_id()].state is State.READY


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (["x"], Code.MALFORMED),
        ("no list", Code.MALFORMED),
        ([b"short", EMAIL, b""], Code.INVALID_ID),
        ([task_id(), "Not A Name", b""], Code.INVALID_HANDLER),
        ([task_id(), EMAIL, "text"], Code.INVALID_PAYLOAD),
        ([task_id(), EMAIL, bytes(limits.PAYLOAD_BYTES_MAX + 1)], Code.PAYLOAD_TOO_LARGE),
        ([task_id(), EMAIL, b"", 7], Code.INVALID_OPTION),
        ([task_id(), EMAIL, b"", None, []], Code.INVALID_OPTION),
        ([task_id(), EMAIL, b"", None, {"prio": 1}], Code.UNKNOWN_OPTION),
        ([task_id(), EMAIL, b"", None, {"priority": 4}], Code.INVALID_OPTION),
        ([task_id(), EMAIL, b"", None, {"collection": "A B"}], Code.INVALID_OPTION),
        ([task_id(), EMAIL, b"", None, {"delay_ms": DELAY_MS_MAX + 1}], Code.DUE_OUT_OF_RANGE),
        ([task_id(), EMAIL, b"", None, {"delay_ms": 1, "at_ms": 1}], Code.INVALID_OPTION),
        ([task_id(), EMAIL, b"", None, {"at_ms": 0}], Code.DUE_OUT_OF_RANGE),
    ],
)
def test_bad_task_is_rejected_counted_and_harms_nothing_beside_it(raw: object, code: str) -> None:
    bench = Bench()
    good = [task_id(2), EMAIL, b"good"]

    assert codes(bench, raw, good) == [code, None]

    assert list(bench.audit().tasks) == [task_id(2)]
    assert bench.shard.counts[code] == 1


@pytest.mark.parametrize(
    ("at_ms", "code"),
    [
        (FIRST_MS - CLOCK_SKEW_MS_MAX - 1, Code.DUE_OUT_OF_RANGE),
        (FIRST_MS - CLOCK_SKEW_MS_MAX, None),
        (FIRST_MS + DELAY_MS_MAX, None),
        (FIRST_MS + DELAY_MS_MAX + 1, Code.DUE_OUT_OF_RANGE),
    ],
)
def test_due_time_may_lie_a_little_in_the_past_and_ten_years_ahead(
    at_ms: int, code: str | None
) -> None:
    assert codes(Bench(), [task_id(), EMAIL, b"", None, {"at_ms": at_ms}]) == [code]


@pytest.mark.parametrize(
    ("at_ms", "code"),
    [
        (FIRST_MS - CLOCK_SKEW_MS_MAX - 1, Code.DUE_OUT_OF_RANGE),
        (FIRST_MS - CLOCK_SKEW_MS_MAX, None),
        (FIRST_MS + 1_000, None),
    ],
)
def test_due_time_that_has_passed_in_a_spool_is_taken_for_now(at_ms: int, code: str | None) -> None:
    """It was in time when the task, and so its id, was made: an app was told that it is durable."""
    bench = Bench()
    bench.pass_time(DAY_MS)
    assert codes(bench, [task_id(), EMAIL, b"", None, {"at_ms": at_ms}]) == [code]


def test_due_time_in_the_past_means_now() -> None:
    bench = Bench()
    Sidecar(bench).submit(a_submission(options={"at_ms": FIRST_MS - 50}))
    task = bench.audit().tasks[task_id()]
    assert (task.state, task.due_ms) == (State.READY, FIRST_MS)


def test_rejections_are_named_in_the_order_of_the_batch() -> None:
    sidecar = Sidecar(Bench())
    sidecar.submit(a_submission(1))
    verdict = sidecar.submit(
        a_submission(1, payload=b"other"), a_submission(2), a_submission(3, handler="")
    )
    assert [(r.place, r.code) for r in verdict.rejections] == [
        (0, Code.DUPLICATE_ID),
        (2, Code.INVALID_HANDLER),
    ]


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        (b"\xc1", Code.MALFORMED),
        (codec.pack([]), Code.MALFORMED),
        (codec.pack([None] * (limits.BATCH_TASKS_MAX + 1)), Code.BATCH_TOO_LARGE),
    ],
)
def test_bytes_that_are_no_batch_are_refused_whole(tasks: bytes, code: str) -> None:
    bench = Bench()
    verdict = Sidecar(bench).submit_raw(tasks)
    assert (verdict.code, verdict.rejections) == (code, [])
    assert bench.shard.counts[code] == 1


def test_each_batch_of_a_message_has_its_own_verdict() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.say(
        Submit([a_batch(request=1), Batch(2, b"\xc1"), a_batch(a_submission(3), request=3)])
    )
    assert [sidecar.verdict(request).code for request in (1, 2, 3)] == [None, Code.MALFORMED, None]
    assert set(bench.audit().tasks) == {task_id(1), task_id(3)}


class TestSameIdAgain:
    def test_same_content_is_accepted_and_stored_once(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        before = dict(bench.pairs)

        verdict = sidecar.submit(a_submission())

        assert (verdict.rejections, verdict.duplicates) == ([], [0])
        assert bench.pairs == before

    @pytest.mark.parametrize("change", [{"payload": b"other"}, {"handler": "email.other"}])
    def test_other_content_is_rejected_and_the_first_is_unharmed(
        self, change: dict[str, Any]
    ) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())

        verdict = sidecar.submit(a_submission(**change))

        assert [r.code for r in verdict.rejections] == [Code.DUPLICATE_ID]
        assert verdict.duplicates == []
        assert bench.audit().tasks[task_id()].payload == a_submission().payload

    def test_is_named_among_the_new_tasks_of_its_batch(self) -> None:
        sidecar = Sidecar(Bench())
        assert sidecar.submit(a_submission(2), a_submission(4)).duplicates == []
        verdict = sidecar.submit(*[a_submission(n) for n in range(1, 6)])
        assert (verdict.rejections, verdict.duplicates) == ([], [1, 3])

    def test_is_known_after_the_task_has_succeeded(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        sidecar.serve()
        sidecar.report(success(sidecar.grant()))

        assert sidecar.submit(a_submission()).rejections == []
        assert len(sidecar.submit(a_submission(payload=b"other")).rejections) == 1

        assert len(sidecar.granted()) == 1

    def test_twice_in_one_batch_is_accepted_once_if_the_content_is_the_same(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()

        verdict = sidecar.submit(a_submission(), a_submission(), a_submission())

        assert (verdict.rejections, verdict.duplicates) == ([], [1, 2])
        assert len(sidecar.granted()) == 1

    def test_twice_in_one_batch_with_other_content_keeps_the_first(self) -> None:
        bench = Bench()
        verdict = Sidecar(bench).submit(a_submission(), a_submission(payload=b"other"))
        assert [(r.place, r.code) for r in verdict.rejections] == [(1, Code.DUPLICATE_ID)]
        assert bench.audit().tasks[task_id()].payload == a_submission().payload

    def test_from_two_sidecars_before_either_look_up_is_answered(self) -> None:
        bench = Bench()
        first, second, third = (Sidecar(bench, number) for number in (1, 2, 3))
        bench.receive(first.peer, Submit([a_batch()]))
        bench.begin()
        bench.receive(second.peer, Submit([a_batch()]))
        bench.receive(third.peer, Submit([a_batch(a_submission(payload=b"other"))]))

        bench.finish()
        bench.settle()

        assert first.verdict(1).rejections == second.verdict(1).rejections == []
        assert (first.verdict(1).duplicates, second.verdict(1).duplicates) == ([], [0])
        assert [r.code for r in third.verdict(1).rejections] == [Code.DUPLICATE_ID]
        assert bench.audit().problems() == []

    def test_from_several_sidecars_in_one_commit_is_accepted_once(self) -> None:
        bench = Bench()
        first, second, third = (Sidecar(bench, number) for number in (1, 2, 3))
        bench.receive(first.peer, Submit([a_batch()]))
        bench.receive(second.peer, Submit([a_batch()]))
        bench.receive(third.peer, Submit([a_batch(a_submission(payload=b"other"))]))

        bench.settle()

        assert first.verdict(1).rejections == second.verdict(1).rejections == []
        assert [r.code for r in third.verdict(1).rejections] == [Code.DUPLICATE_ID]
        assert bench.audit().tasks[task_id()].payload == a_submission().payload

    def test_from_three_sidecars_while_the_first_is_removed_makes_one_new_task(self) -> None:
        bench = Bench(retention_succeeded_ms=1_000)
        sidecars = [Sidecar(bench, number) for number in (1, 2, 3)]
        sidecars[0].serve()
        sidecars[0].submit(a_submission())
        sidecars[0].report(success(sidecars[0].grant()))
        bench.pass_time(1_000)
        bench.step(Tick())
        bench.flush()  # The row that is due; its records are read by the next.
        bench.receive(sidecars[0].peer, Submit([a_batch(request=9)]))
        bench.begin()
        bench.receive(sidecars[1].peer, Submit([a_batch(request=9)]))
        bench.receive(sidecars[2].peer, Submit([a_batch(request=9)]))

        bench.finish()
        bench.settle()

        assert [sidecar.verdict(9).rejections for sidecar in sidecars] == [[], [], []]
        assert len(sidecars[0].granted()) == 2

    def test_is_a_new_task_once_the_first_has_been_removed(self) -> None:
        bench = Bench(retention_succeeded_ms=1_000)
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission())
        sidecar.report(success(sidecar.grant()))
        bench.advance(1_000)

        assert sidecar.submit(a_submission(payload=b"other")).rejections == []

        assert len(sidecar.granted()) == 2


class TestOptions:
    def test_that_are_absent_leave_everything_at_its_default(self) -> None:
        bench = Bench()
        Sidecar(bench).submit(a_submission())
        task = bench.audit().tasks[task_id()]
        assert (task.priority, task.collection, task.options) == (Priority.NORMAL, None, None)
        assert (task.submitted_ms, task.due_ms, task.expires_ms) == (FIRST_MS, FIRST_MS, 0)

    def test_are_kept_in_the_record(self) -> None:
        bench = Bench()
        options = {"priority": 3, "collection": "c", "attempts_max": 5, "timeout_ms": 9}
        Sidecar(bench).submit(a_submission(content_type="text/plain", options=options))
        task = bench.audit().tasks[task_id()]
        assert (task.priority, task.collection) == (Priority.LOW, "c")
        assert task.options == {"attempts_max": 5, "timeout_ms": 9}
        assert task.content_type == "text/plain"

    @pytest.mark.parametrize("when", [{"delay_ms": 500}, {"at_ms": FIRST_MS + 500}])
    def test_expiry_counts_from_the_due_time(self, when: dict[str, int]) -> None:
        bench = Bench()
        Sidecar(bench).submit(a_submission(options=when | {"expires_ms": 300}))
        task = bench.audit().tasks[task_id()]
        assert (task.state, task.due_ms) == (State.SCHEDULED, FIRST_MS + 500)
        assert task.expires_ms == FIRST_MS + 800


class TestPayload:
    @pytest.mark.parametrize("extra", [0, 1])
    def test_over_the_limit_is_stored_apart_from_the_record(self, extra: int) -> None:
        bench = Bench()
        payload = bytes(submissions.INLINE_BYTES_MAX + extra)

        Sidecar(bench).submit(a_submission(payload=payload))

        assert bench.pairs.get(layout.payload_key(task_id())) == (payload if extra else None)
        assert bench.audit().tasks[task_id()].payload_bytes == len(payload)

    def test_reaches_the_handler_wherever_it_is_stored(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve()
        payloads = [b"small", bytes(range(256)) * 100, b""]
        sidecar.submit(*[a_submission(n, payload=p) for n, p in enumerate(payloads, 1)])
        assert [task.payload for task in sidecar.granted()] == payloads

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_is_dropped_when_the_task_has_succeeded(self, size: int) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission(payload=bytes(size)))

        sidecar.report(success(sidecar.grant()))

        assert bench.rows(b"p") == []
        assert bench.audit().tasks[task_id()].payload is None


class TestRefusal:
    def test_full_store_refuses_until_it_has_room_again(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        bench.step(StoreLevel("the store is full; raise it"))

        refused = sidecar.submit(a_submission())
        bench.step(StoreLevel(""))
        accepted = sidecar.submit(a_submission())

        assert (refused.code, refused.detail) == (Code.STORE_FULL, "the store is full; raise it")
        assert refused.retry_after_ms > 0
        assert accepted.code is None

    def test_full_store_still_takes_outcomes(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission())
        bench.step(StoreLevel("full"))
        assert sidecar.report(success(sidecar.grant())) == [None]

    def test_too_many_bytes_under_look_up_are_refused_until_those_are_done(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(submissions, "CHECKING_BYTES_MAX", 100)
        bench = Bench()
        sidecar = Sidecar(bench)
        large = a_batch(a_submission(1, payload=bytes(200)), request=101)
        bench.receive(sidecar.peer, Submit([large]))  # Larger than all room, but alone.

        bench.receive(sidecar.peer, Submit([a_batch(a_submission(2), request=102)]))
        bench.settle()
        bench.receive(sidecar.peer, Submit([a_batch(a_submission(2), request=103)]))
        bench.settle()

        codes = [sidecar.verdict(request).code for request in (101, 102, 103)]
        assert codes == [None, Code.BUSY, None]
        assert sidecar.verdict(102).retry_after_ms > 0

    def test_too_many_handler_names_are_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "HANDLERS_MAX", 1)
        sidecar = Sidecar(Bench())
        verdict = sidecar.submit(a_submission(1), a_submission(2, handler="email.other"))
        assert [(r.place, r.code) for r in verdict.rejections] == [(1, Code.TOO_MANY_HANDLERS)]
