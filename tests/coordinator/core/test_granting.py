from collections import Counter

import pytest

from coordinator.core import granting, layout, ledger, ready_queue
from coordinator.core.shard import Tick
from protocol import codec
from protocol.limits import BATCH_BYTES_MAX
from protocol.messages import (
    Demand,
    Failure,
    Grant,
    Limit,
    OutcomeKind,
    Outcomes,
    Priority,
    Refused,
    State,
    Submit,
)
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, lease_of, success
from tests.protocol.examples import CARRIED
from tests.support.builders import FIRST_MS, a_batch, a_submission, task_id


def numbers_of(sidecar: Sidecar) -> list[int]:
    """Return the numbers of the tasks granted so far."""
    return [int.from_bytes(task.id[9:], "big") for task in sidecar.granted()]


def submit(sidecar: Sidecar, *numbers: int, handler: str = EMAIL, **options: int) -> None:
    tasks = [a_submission(n, handler=handler, options=options or None) for n in numbers]
    assert sidecar.submit(*tasks).rejections == []


class TestGrant:
    def test_leaves_after_the_commit_of_its_leases(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()

        bench.receive(sidecar.peer, Submit([a_batch()]))
        bench.flush()
        bench.begin()
        assert (sidecar.granted(), bench.audit().leases) == ([], [])

        bench.finish()
        assert bench.audit().leases == [(task_id(), sidecar.grant().token)]

    def test_has_a_larger_token_than_any_before_though_an_older_store_came_back(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        submit(sidecar, 1)
        backup = dict(bench.pairs)
        sidecar.serve()
        before = sidecar.grant()
        bench.pairs = backup
        bench.crash()

        sidecar.hello()
        sidecar.serve()

        assert len(sidecar.granted()) == 2
        assert sidecar.grant().token > before.token

    def test_tells_the_handler_everything_about_the_attempt(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve(backoff_ms_min=100, backoff_ms_max=100)
        options = {"priority": 1, "collection": "c", "attempts_max": 5, "timeout_ms": 9}
        sidecar.submit(a_submission(content_type="text/plain", options=options))
        sidecar.report(failed(sidecar.grant()))
        bench.advance(100)

        task = sidecar.grant()

        assert (task.id, task.payload) == (task_id(), a_submission().payload)
        assert (task.attempt, task.attempts_max, task.delivery, task.timeout_ms) == (2, 5, 2, 9)
        assert (task.submitted_ms, task.content_type) == (FIRST_MS, "text/plain")
        assert task.extras == {"collection": "c", "priority": 1, "last_error": "ValueError"}

    def test_carries_what_the_submitter_gave_for_the_handler(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(options=CARRIED | {"attempts_max": 5}))
        bench.crash()
        sidecar.hello()
        sidecar.serve()
        assert (sidecar.grant().extras, sidecar.grant().attempts_max) == (CARRIED, 5)

    def test_that_carries_much_fits_into_messages(self) -> None:
        sidecar = Sidecar(Bench())
        meta = {f"{i:064}": "\U0001f600" * 256 for i in range(16)}
        options = CARRIED | {"baggage": "x" * 1024, "meta": meta}
        sidecar.submit(*[a_submission(n, options=options) for n in range(1, 201)])

        sidecar.serve()

        grants = [message for message in sidecar.received() if isinstance(message, Grant)]
        assert max(len(codec.encode(grant)) for grant in grants) <= BATCH_BYTES_MAX
        assert len(sidecar.granted()) == 200

    def test_has_the_policy_of_the_handler_unless_the_task_has_its_own(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve(attempts_max=3, timeout_ms=77)
        submit(sidecar, 1)
        task = sidecar.grant()
        assert (task.attempts_max, task.timeout_ms, task.extras) == (3, 77, None)

    def test_says_nothing_extra_of_an_attempt_that_ended_without_an_error_type(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve(backoff_ms_min=100, backoff_ms_max=100)
        submit(sidecar, 1)
        sidecar.report(failed(sidecar.grant(), failure=Failure("")))
        sidecar.bench.advance(100)
        assert (sidecar.grant().attempt, sidecar.grant().extras) == (2, None)

    def test_is_numbered_from_one_since_the_welcome(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve()
        submit(sidecar, 1)
        submit(sidecar, 2)
        welcome = sidecar.hello()
        sidecar.serve()
        grants = [message for message in sidecar.received() if isinstance(message, Grant)]
        assert [grant.number for grant in grants] == [1, 2, 1]
        assert grants[-1].session == welcome.session

    def test_holds_as_many_bytes_as_fit_into_one_message(self) -> None:
        sidecar = Sidecar(Bench())
        third = BATCH_BYTES_MAX // 3
        sidecar.submit(*[a_submission(n, payload=bytes(third)) for n in range(1, 5)])

        sidecar.serve()

        grants = [message for message in sidecar.received() if isinstance(message, Grant)]
        assert [len(grant.groups[0].tasks) for grant in grants] == [2, 2]
        assert numbers_of(sidecar) == [1, 2, 3, 4]

    def test_of_several_handlers_is_split_between_them_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar, other = Sidecar(bench), Sidecar(bench, 2)
        sidecar.serve(total=0, handler="a.a")
        submit(other, 1, 2, 3, handler="a.a")
        submit(other, 4, 5, handler="a.b")
        sidecar.say_handlers("a.a", "a.b")

        sidecar.say(Demand([Limit("a.a", 9), Limit("a.b", 9)]))

        grants = [message for message in sidecar.received() if isinstance(message, Grant)]
        groups = [[(g.handler, len(g.tasks)) for g in grant.groups] for grant in grants]
        assert groups == [[("a.a", 3)], [("a.b", 2)]]
        assert [grant.number for grant in grants] == [1, 2]

    def test_that_cannot_be_handed_over_is_taken_back_uncharged(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        bench.unreachable.add(sidecar.peer)
        other = Sidecar(bench, 2)

        submit(other, 1, 2)
        other.serve()

        assert numbers_of(other) == [1, 2]
        assert {(task.attempt, task.delivery) for task in other.granted()} == {(1, 2)}

    def test_that_cannot_be_handed_over_waits_until_the_sidecar_greets_again(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        bench.unreachable.add(sidecar.peer)
        submit(Sidecar(bench, 2), 1)
        bench.unreachable.clear()
        assert bench.audit().tasks[task_id(1)].state is State.READY
        assert isinstance(sidecar.beat(demand={EMAIL: 1000}), Refused)
        assert sidecar.granted() == []

        sidecar.hello()
        sidecar.serve()

        assert numbers_of(sidecar) == [1]

    def test_of_an_earlier_session_that_cannot_be_handed_over_takes_nothing_from_the_later(
        self,
    ) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        bench.receive(sidecar.peer, Submit([a_batch()]))
        bench.flush()
        bench.begin()
        bench.unreachable.add(sidecar.peer)
        sidecar.peer = b"another"
        bench.receive(sidecar.peer, sidecar.hello_message())
        bench.finish()

        sidecar.serve()

        assert [task.delivery for task in sidecar.granted()] == [2]


class TestDemand:
    def test_is_a_total_that_grants_use_up(self) -> None:
        sidecar = Sidecar(Bench())
        submit(sidecar, *range(1, 10))
        sidecar.serve(total=3)
        assert len(sidecar.granted()) == 3
        sidecar.demand(3)
        sidecar.demand(3)
        assert len(sidecar.granted()) == 3
        sidecar.demand(5)
        assert len(sidecar.granted()) == 5

    def test_may_be_lowered(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve(total=3)
        submit(sidecar, 1)
        sidecar.demand(1)
        submit(sidecar, 2, 3)
        assert numbers_of(sidecar) == [1]

    def test_of_a_handler_that_is_not_served_counts_for_nothing(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        submit(sidecar, 1)
        sidecar.demand(5)
        assert (sidecar.granted(), bench.shard.counts["demand_undeclared"]) == ([], 1)

    def test_ends_when_the_handler_is_served_no_more(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve(total=5)
        sidecar.declare("email.other")
        submit(sidecar, 1)
        assert sidecar.granted() == []
        sidecar.serve(total=5)
        assert numbers_of(sidecar) == [1]

    def test_of_one_handler_moves_no_other(self) -> None:
        sidecar = Sidecar(Bench())
        submit(sidecar, 1, handler="email.other")
        submit(sidecar, 2)
        sidecar.serve()
        assert numbers_of(sidecar) == [2]

    def test_is_restated_by_heartbeats(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.declare()
        submit(sidecar, 1)
        sidecar.beat(demand={EMAIL: 1})
        assert numbers_of(sidecar) == [1]


class TestPriority:
    def test_shares_are_eight_four_two_one_while_all_wait(self) -> None:
        sidecar = Sidecar(Bench())
        for priority in Priority:
            first = 1 + 100 * priority
            submit(sidecar, *range(first, first + 100), priority=priority)

        sidecar.serve(total=150)

        shares = Counter((number - 1) // 100 for number in numbers_of(sidecar))
        assert shares == {0: 80, 1: 40, 2: 20, 3: 10}

    def test_low_is_served_however_slowly_demand_comes(self) -> None:
        sidecar = Sidecar(Bench())
        submit(sidecar, *range(1, 101), priority=Priority.CRITICAL)
        submit(sidecar, *range(101, 201), priority=Priority.LOW)
        for total in range(1, 91):
            sidecar.serve(total=total)
        assert sum(number > 100 for number in numbers_of(sidecar)) == 10

    def test_that_was_empty_makes_nothing_up(self) -> None:
        sidecar = Sidecar(Bench())
        submit(sidecar, *range(1, 101), priority=Priority.CRITICAL)
        submit(sidecar, *range(101, 201), priority=Priority.HIGH)
        sidecar.serve(total=150)
        submit(sidecar, *range(201, 301), priority=Priority.LOW)

        sidecar.demand(180)

        latest = numbers_of(sidecar)[150:]
        assert sum(number > 200 for number in latest) < 10

    def test_within_one_the_order_is_that_of_becoming_ready(self) -> None:
        sidecar = Sidecar(Bench())
        for number in (3, 1, 2):
            submit(sidecar, number)
        sidecar.serve()
        assert numbers_of(sidecar) == [3, 1, 2]


class TestSessions:
    def test_share_what_is_ready(self) -> None:
        bench = Bench()
        sidecars = [Sidecar(bench, number) for number in (1, 2, 3)]
        for sidecar in sidecars:
            sidecar.serve(total=10)
        submit(sidecars[0], *range(1, 10))
        assert [len(sidecar.granted()) for sidecar in sidecars] == [3, 3, 3]

    def test_take_turns_when_tasks_come_one_by_one(self) -> None:
        bench = Bench()
        sidecars = [Sidecar(bench, number) for number in (1, 2)]
        for sidecar in sidecars:
            sidecar.serve(total=10)
        for number in range(1, 7):
            submit(sidecars[0], number)
        assert [numbers_of(sidecar) for sidecar in sidecars] == [[1, 3, 5], [2, 4, 6]]

    def test_with_little_demand_leave_the_rest_to_the_others(self) -> None:
        bench = Bench()
        small, large = Sidecar(bench, 1), Sidecar(bench, 2)
        small.serve(total=1)
        large.serve(total=100)
        submit(small, *range(1, 21))
        assert [len(sidecar.granted()) for sidecar in (small, large)] == [1, 19]

    def test_that_hold_as_much_as_they_may_leave_all_of_it_to_the_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(granting, "HELD_LEASES_MAX", 10)
        bench = Bench()
        full, free = Sidecar(bench, 1), Sidecar(bench, 2)
        full.serve(total=100)
        submit(full, *range(1, 14))

        free.serve(total=100)

        assert numbers_of(full) == list(range(1, 11))
        assert numbers_of(free) == [11, 12, 13]

    def test_that_hold_less_again_are_served_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(granting, "HELD_LEASES_MAX", 2)
        sidecar = Sidecar(Bench())
        sidecar.serve(total=100)
        submit(sidecar, 1, 2, 3)
        sidecar.report(success(sidecar.granted()[0]))
        assert numbers_of(sidecar) == [1, 2, 3]


class TestConcurrency:
    def test_is_limited_over_all_sidecars(self) -> None:
        bench = Bench()
        first, second = Sidecar(bench, 1), Sidecar(bench, 2)
        first.serve(concurrency=3)
        second.serve(concurrency=3)
        submit(first, *range(1, 11))
        assert len(first.granted()) + len(second.granted()) == 3

        holder = first if first.granted() else second
        holder.report(success(holder.grant()))

        assert len(first.granted()) + len(second.granted()) == 4

    def test_that_is_lifted_lets_the_rest_go(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve(concurrency=1)
        submit(sidecar, 1, 2, 3)
        sidecar.declare(concurrency=0)
        assert numbers_of(sidecar) == [1, 2, 3]

    def test_counts_leases_of_before_a_restart(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve(concurrency=2)
        submit(sidecar, 1, 2, 3)
        held = [lease_of(task) for task in sidecar.granted()]
        bench.crash()

        sidecar.hello(held=held)
        sidecar.serve(concurrency=2)

        assert numbers_of(sidecar) == [1, 2]


class TestQueueBeyondItsWindow:
    def test_comes_back_in_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)
        sidecar = Sidecar(Bench())
        sidecar.declare()
        for first in range(1, 60, 7):
            submit(sidecar, *range(first, first + 7))
        for total in range(0, 70, 3):
            sidecar.demand(total)
        assert numbers_of(sidecar) == list(range(1, 64))

    def test_comes_back_in_order_after_a_restart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar = Sidecar(bench)
        submit(sidecar, *range(1, 6))
        submit(sidecar, *range(6, 30))
        bench.crash()

        sidecar.hello()
        submit(sidecar, 30, 31)
        sidecar.serve()

        assert numbers_of(sidecar) == list(range(1, 32))

    def test_is_not_read_while_nobody_asks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar = Sidecar(bench)
        submit(sidecar, *range(1, 30))
        bench.crash()
        sidecar.hello()
        sidecar.serve(total=0)
        bench.reads.clear()
        submit(sidecar, 30)
        assert not [read for read in bench.reads if getattr(read, "start", b"")[:1] == b"r"]

    def test_takes_no_more_memory_than_its_window(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ready_queue, "WINDOW_MAX", 10)
        monkeypatch.setattr(ledger, "LIVE_MAX", 15)
        bench = Bench()
        sidecar = Sidecar(bench)
        submit(sidecar, *range(1, 101))
        submit(sidecar, *range(101, 201), handler="email.other")
        assert bench.waiting() == 15

    def test_comes_back_at_once_to_who_asks_for_more_than_a_window(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_windows(monkeypatch)
        sidecar = Sidecar(Bench())
        sidecar.serve()
        submit(sidecar, *range(1, 30))
        assert numbers_of(sidecar) == list(range(1, 30))

    def test_of_another_handler_holds_up_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        for number in range(1, 40):
            submit(sidecar, number, handler=f"nobody.serves-{number}")
        assert bench.waiting() == ledger.LIVE_MAX

        bench.receive(sidecar.peer, Submit([a_batch(a_submission(99))]))
        bench.flush()  # The look-up.
        bench.flush()

        assert numbers_of(sidecar) == [99]

    def test_with_a_record_that_is_lost_lets_all_others_go(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its count is one too high; a task may join at any moment of finding that out."""
        small_windows(monkeypatch)
        for flushes in range(20):
            bench = Bench(audited=False)
            sidecar = Sidecar(bench)
            submit(sidecar, *range(1, 20))
            del bench.pairs[layout.task_key(task_id(15))]
            sidecar.declare()
            bench.receive(sidecar.peer, Demand([Limit(EMAIL, 100)]))
            for _ in range(flushes):
                bench.flush()

            submit(sidecar, 20)

            assert len(numbers_of(sidecar)) == 19, flushes
            assert [note["by"] for note in bench.noted("count_corrected")] == [1]
            assert bench.audit().problems() == []

    def test_keeps_a_row_for_a_task_that_is_read_from_one_which_goes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_windows(monkeypatch)
        monkeypatch.setattr(granting, "LOAD_ROWS", 10)
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve(total=4)
        submit(sidecar, *range(1, 11))
        first, second, third, fourth = sidecar.granted()
        returned = [failed(task, OutcomeKind.RETURNED) for task in (first, second)]
        sidecar.report(*returned, success(fourth))  # A row of two, behind others in the store.
        sidecar.demand(5)
        sidecar.report(failed(sidecar.grant(), failure=Failure("", retry_after_ms=1)))
        bench.advance(1)  # The first has a row at the end of all now; its former one is stale.
        sidecar.declare(concurrency=1)

        bench.receive(sidecar.peer, Demand([Limit(EMAIL, 100)]))
        bench.flush()  # All rows are read.
        bench.receive(sidecar.peer, Outcomes(9, [success(third)]))
        bench.flush()  # The second is granted, and its row goes.
        bench.flush()
        bench.crash()
        sidecar.hello()
        sidecar.serve()

        assert set(numbers_of(sidecar)) == set(range(1, 11))

    def test_whose_last_task_ends_while_its_rows_are_read_is_empty(self) -> None:
        bench = Bench(audited=False)
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission(options={"expires_ms": 1_000}))
        bench.crash()
        del bench.pairs[bench.rows(b"r")[0]]  # As if it had been read already.
        sidecar.hello()
        sidecar.declare()
        bench.pass_time(1_000)
        bench.step(Tick())
        bench.receive(sidecar.peer, sidecar.demand_message(9))
        bench.tick()
        assert bench.audit().counts == {1: [0] * 6}
        assert bench.noted("count_corrected") == []

    def test_reads_rows_of_which_some_tasks_are_in_memory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_windows(monkeypatch)
        monkeypatch.setattr(granting, "LOAD_ROWS", 10)
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve(total=4)
        submit(sidecar, *range(1, 11))
        first, second, third, fourth = sidecar.granted()
        sidecar.report(failed(third, OutcomeKind.RETURNED), success(first), success(second))
        sidecar.declare(concurrency=1)  # The fourth is all that may run:
        sidecar.demand(100)  # the rows behind the third are read, and its own too.
        bench.crash()

        sidecar.hello(held=[lease_of(fourth)])
        sidecar.serve(concurrency=0)

        assert sorted(numbers_of(sidecar)) == sorted([*range(1, 11), 3])

    def test_lets_returned_tasks_go_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve(total=1)
        submit(sidecar, *range(1, 12))
        sidecar.goodbye()

        other = Sidecar(bench, 2)
        other.serve()

        assert numbers_of(other) == list(range(1, 12))
