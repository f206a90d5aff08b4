from typing import Any

import pytest

from coordinator.core import greeting
from coordinator.core.sessions import margin_ms
from protocol.errors import Code
from protocol.messages import (
    Beat,
    Declaration,
    Demand,
    Goodbye,
    Grant,
    Handlers,
    Heartbeat,
    Lease,
    Limit,
    OutcomeKind,
    Outcomes,
    Refused,
    Running,
    State,
    Submit,
    Welcome,
)
from tests.coordinator.core.bench import STORE, Bench
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, lease_of, success
from tests.support.builders import FIRST_MS, a_batch, a_lease, a_submission, task_id

TIMEOUT_MS = 10_000
EXPIRY_MS = TIMEOUT_MS + margin_ms(TIMEOUT_MS)


def busy(bench: Bench, number: int = 1, *tasks: int) -> Sidecar:
    """Return a sidecar that holds some tasks, by default one."""
    sidecar = Sidecar(bench, number)
    tasks = tasks or (1,)
    sidecar.serve(total=len(tasks))
    sidecar.submit(*[a_submission(n) for n in tasks])
    return sidecar


class TestHello:
    def test_opens_a_session(self) -> None:
        bench = Bench()
        welcome = Sidecar(bench, welcome=False).hello()
        assert (welcome.version, welcome.resumed, welcome.lost) == (1, False, [])
        assert (welcome.store, welcome.epoch, welcome.timeout_ms) == (STORE, 1, TIMEOUT_MS)
        assert bench.shard.counts["session_opened"] == 1

    def test_is_answered_after_the_session_is_durable(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench, welcome=False)
        bench.receive(sidecar.peer, sidecar.hello_message())
        bench.begin()
        assert (sidecar.received(), bench.rows(b"n")) == ([], [])
        bench.finish()
        assert isinstance(sidecar.received()[-1], Welcome)
        assert bench.rows(b"n") == [b"n" + sidecar.incarnation]

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"version_min": 2, "version_max": 9}, Code.UNSUPPORTED_VERSION),
            ({"store": bytes(16)}, Code.WRONG_STORE),
            ({"store": STORE, "epoch": 2}, Code.STALE_EPOCH),
        ],
    )
    def test_that_cannot_be_taken_is_refused_and_opens_nothing(
        self, changes: dict[str, Any], code: str
    ) -> None:
        bench = Bench()
        sidecar = Sidecar(bench, welcome=False)
        sidecar.say_hello(**changes)
        assert [m.code for m in sidecar.received() if isinstance(m, Refused)] == [code]
        assert (bench.rows(b"n"), bench.shard.counts) == ([], {code: 1})
        assert bench.noted("hello_refused") == [{"sidecar": "host-1", "code": code}]

    @pytest.mark.parametrize("changes", [{"store": STORE, "epoch": 1}, {"epoch": 99}])
    def test_that_knows_this_store_or_none_is_welcome(self, changes: dict[str, Any]) -> None:
        assert Sidecar(Bench(), welcome=False).hello(**changes).epoch == 1

    def test_is_refused_when_too_many_sessions_are_open(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(greeting, "SESSIONS_MAX", 1)
        bench = Bench()
        first, second = Sidecar(bench, 1), Sidecar(bench, 2, welcome=False)

        second.say_hello()

        refused = second.last(Refused)
        assert (refused.code, refused.retry_after_ms > 0) == (Code.BUSY, True)
        assert first.hello().resumed


class TestResume:
    def test_keeps_what_is_held_and_gives_it_to_nobody(self) -> None:
        bench = Bench()
        sidecar = busy(bench, 1, 1, 2)
        held = [lease_of(task) for task in sidecar.granted()]

        welcome = sidecar.hello(held=held)
        Sidecar(bench, 2).serve()

        assert (welcome.resumed, welcome.lost) == (True, [])
        assert sorted(bench.audit().leases) == held
        assert sidecar.report(success(sidecar.granted()[0])) == [None]

    def test_makes_what_was_lost_on_the_way_ready_again_at_once(self) -> None:
        bench = Bench()
        sidecar = busy(bench, 1, 1, 2)
        first, second = sidecar.granted()
        other = Sidecar(bench, 2)
        other.serve()

        welcome = sidecar.hello(held=[lease_of(second)])

        assert welcome.lost == []
        assert [(task.id, task.attempt) for task in other.granted()] == [(first.id, 1)]

    def test_names_what_is_held_without_a_lease(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        mine = sidecar.grant()
        theirs = busy(bench, 2, 2).grant()
        ended = sidecar.granted()[0]
        sidecar.report(success(ended))
        false = [lease_of(theirs), a_lease(9), Lease(mine.id, mine.token + 1)]

        welcome = sidecar.hello(held=[*false, lease_of(ended)])

        assert welcome.lost == [*false, lease_of(ended)]
        assert bench.audit().leases == [lease_of(theirs)]

    def test_has_a_number_of_its_own_and_counts_anew(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        first = sidecar.last(Welcome)
        sidecar.report(success(sidecar.grant()))

        second = sidecar.hello()
        sidecar.demand(1)
        sidecar.submit(a_submission(2), a_submission(3))

        assert second.session > first.session
        assert len(sidecar.granted()) == 2
        grant = sidecar.last(Grant)
        assert (grant.session, grant.number) == (second.session, 1)

    def test_from_another_connection_silences_the_earlier_one(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        earlier, sidecar.peer = sidecar.peer, b"another"
        sidecar.hello(held=[lease_of(bench_grant(bench, earlier))])

        bench.receive(earlier, Heartbeat(1, [], []))

        (refused,) = [m for m in bench.to(earlier) if isinstance(m, Refused)]
        assert refused.code == Code.UNKNOWN_SESSION
        sidecar.demand(9)
        sidecar.submit(a_submission(2))
        assert sidecar.grant().id == task_id(2)

    def test_by_a_hello_that_was_overtaken_changes_nothing(self) -> None:
        """Found by the simulator: it came from an old connection, after the next one's grants."""
        bench = Bench()
        late = Sidecar(bench, welcome=False).hello_message()
        sidecar = busy(bench)
        Sidecar(bench, 2).serve()

        bench.receive(b"old", late)
        bench.settle()

        assert [m.code for m in bench.to(b"old") if isinstance(m, Refused)] == ["unknown_session"]
        assert bench.audit().leases == [lease_of(sidecar.grant())]
        assert sidecar.report(success(sidecar.grant())) == [None]

    def test_by_an_overtaken_hello_is_refused_after_a_later_resume_too(self) -> None:
        bench = Bench()
        late = Sidecar(bench, welcome=False).hello_message()
        sidecar = busy(bench)
        held = [lease_of(sidecar.grant())]
        sidecar.hello(held=held)

        bench.receive(b"old", late)
        bench.settle()

        assert bench.audit().leases == held

    def test_forgets_the_demand_stated_before(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.serve()
        sidecar.hello()
        sidecar.submit(a_submission())
        assert sidecar.granted() == []

    def test_renews_the_session(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        bench.advance(EXPIRY_MS - 1)
        sidecar.hello(held=[lease_of(sidecar.grant())])
        bench.advance(EXPIRY_MS - 1)
        assert len(bench.audit().leases) == 1

    def test_after_a_restart_of_the_coordinator_keeps_what_is_held(self) -> None:
        bench = Bench()
        sidecar = busy(bench, 1, 1, 2)
        first, second = sidecar.granted()
        before = sidecar.last(Welcome)
        bench.crash()

        welcome = sidecar.hello(held=[lease_of(first)], store=STORE, epoch=1)
        sidecar.serve()

        assert (welcome.resumed, welcome.epoch, welcome.lost) == (True, 2, [])
        assert welcome.session > before.session
        again = sidecar.grant()
        assert (again.id, again.attempt, again.delivery) == (second.id, 1, 2)
        assert again.token > second.token
        assert sidecar.report(success(first), success(again)) == [None, None]

    def test_after_a_restart_leaves_a_lease_that_was_settled_settled(self) -> None:
        bench = Bench()
        sidecar = busy(bench, 1, 1, 2)
        first, second = sidecar.granted()
        sidecar.report(failed(first, OutcomeKind.RETURNED))  # The row of the grant stays.
        bench.crash()

        other = Sidecar(bench, 2)
        other.serve()

        assert [task.id for task in other.granted()] == [first.id]
        assert sorted(bench.audit().leases) == sorted([lease_of(other.grant()), lease_of(second)])

    def test_after_a_restart_says_nothing_of_others(self) -> None:
        bench = Bench()
        sidecars = [busy(bench, number, number) for number in (1, 2)]
        bench.crash()
        sidecars[0].hello()
        assert [i for i, _ in bench.audit().leases] == [task_id(2)]


def bench_grant(bench: Bench, peer: bytes) -> Any:
    """Return the first task of the last grant to a connection."""
    return [m for m in bench.to(peer) if isinstance(m, Grant)][-1].groups[0].tasks[0]


class TestOneConnectionForTwo:
    """Two incarnations that say HELLO on one connection: no sidecar of ours does that."""

    def test_belongs_to_the_latest(self) -> None:
        bench = Bench()
        first, second = Sidecar(bench, 1), Sidecar(bench, 2, welcome=False)
        first.serve()
        second.peer = first.peer
        second.hello()
        second.serve()
        first.peer = b"another"
        first.hello()

        second.submit(a_submission())

        assert second.grant().id == task_id()

    def test_takes_the_demand_of_the_earlier_away(self) -> None:
        bench = Bench()
        first, second = Sidecar(bench, 1), Sidecar(bench, 2, welcome=False)
        first.serve()
        second.peer = first.peer
        second.hello()
        bench.unreachable.add(first.peer)

        Sidecar(bench, 3).submit(a_submission())

        assert bench.audit().leases == []


class TestExpiry:
    def test_comes_exactly_one_margin_after_the_timeout(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        bench.advance(EXPIRY_MS - 1)
        assert bench.audit().leases == [lease_of(sidecar.grant())]
        bench.advance(1)
        assert (bench.audit().leases, bench.rows(b"n")) == ([], [])

    def test_is_what_the_shard_wakes_for(self) -> None:
        bench = Bench()
        Sidecar(bench)
        bench.tick()
        assert bench.shard.next_due_ms(bench.now) == EXPIRY_MS

    def test_is_counted_from_the_last_heartbeat(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        for _ in range(5):
            bench.advance(EXPIRY_MS - 1)
            sidecar.beat()
        assert len(bench.audit().leases) == 1
        bench.advance(EXPIRY_MS)
        assert bench.audit().leases == []

    def test_is_not_moved_by_the_time_of_day(self) -> None:
        bench = Bench()
        busy(bench)
        bench.pass_time(EXPIRY_MS - 1, wall_ms=10 * EXPIRY_MS)
        bench.tick()
        assert len(bench.audit().leases) == 1
        bench.pass_time(1, wall_ms=-20 * EXPIRY_MS)
        bench.tick()
        assert bench.audit().leases == []

    def test_charges_an_attempt_and_makes_the_task_ready(self) -> None:
        bench = Bench()
        busy(bench)
        bench.advance(EXPIRY_MS)
        task = bench.audit().tasks[task_id()]
        assert (task.state, task.attempts, task.crashes) == (State.READY, 1, 0)
        assert task.history[0].error_type == "lease-lost"
        assert task.history[0].sidecar == "host-1"

    def test_counts_as_a_crash_if_the_attempt_had_begun(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        sidecar.beat(Running(*lease_of(sidecar.grant()), since_ms=0))
        bench.advance(EXPIRY_MS)
        task = bench.audit().tasks[task_id()]
        assert (task.attempts, task.crashes) == (1, 1)
        assert task.history[0].run_us == EXPIRY_MS * 1000

    def test_says_what_was_lost(self) -> None:
        bench = Bench()
        busy(bench)
        bench.advance(EXPIRY_MS)
        assert [note["detail"] for note in bench.noted("session_expired")] == ["1 leases lost"]

    def test_takes_no_demand_of_the_dead(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        sidecar.demand(9)
        bench.advance(EXPIRY_MS)
        Sidecar(bench, 2).submit(a_submission(2))
        assert [task.id for task in sidecar.granted()] == [task_id(1)]

    def test_makes_the_next_hello_a_new_session_that_has_lost_everything(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        bench.advance(EXPIRY_MS)
        welcome = sidecar.hello(held=[lease_of(sidecar.grant())])
        assert (welcome.resumed, welcome.lost) == (False, [lease_of(sidecar.grant())])

    def test_after_a_restart_leaves_each_session_one_full_timeout(self) -> None:
        bench = Bench()
        busy(bench)
        bench.advance(EXPIRY_MS - 1)
        bench.crash()
        bench.advance(EXPIRY_MS - 1)
        assert len(bench.audit().leases) == 1
        bench.advance(1)
        assert bench.audit().leases == []
        assert bench.audit().tasks[task_id()].attempts == 1


class TestGoodbye:
    def test_gives_back_what_is_held_uncharged_and_in_order(self) -> None:
        bench = Bench()
        sidecar = busy(bench, 1, 1, 2, 3)
        sidecar.goodbye()
        other = Sidecar(bench, 2)
        other.serve()
        assert [task.id for task in other.granted()] == [task_id(n) for n in (1, 2, 3)]
        assert {task.attempt for task in other.granted()} == {1}

    def test_ends_the_session(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        sidecar.goodbye()
        assert bench.rows(b"n") == []
        assert bench.noted("session_closed")[0]["detail"] == "stopping"
        sidecar.say(Demand([Limit(EMAIL, 9)]))
        assert sidecar.last(Refused).code == Code.UNKNOWN_SESSION

    def test_may_be_followed_by_hello(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        sidecar.goodbye()
        assert not sidecar.hello().resumed
        bench.advance(EXPIRY_MS - 1)
        sidecar.beat()
        bench.advance(EXPIRY_MS - 1)
        assert bench.rows(b"n") != []


class TestHeartbeat:
    def test_is_answered_at_once_with_the_clock_of_the_sender(self) -> None:
        sidecar = Sidecar(Bench())
        assert sidecar.beat() == Beat(sidecar.last(Welcome).session, 77, 0)

    def test_waits_for_no_commit(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        bench.receive(sidecar.peer, Submit([a_batch()]))
        bench.begin()
        bench.receive(sidecar.peer, Heartbeat(5, [], []))
        assert isinstance(sidecar.received()[-1], Beat)

    def test_names_the_last_grant_that_was_sent(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        sidecar.demand(9)
        bench.receive(sidecar.peer, Submit([a_batch(a_submission(2))]))
        bench.flush()
        bench.begin()  # The second grant is made, but not durable.
        bench.receive(sidecar.peer, Heartbeat(5, [], []))
        early = sidecar.last(Beat)
        bench.finish()
        late = sidecar.beat()
        assert isinstance(late, Beat)
        assert (early.grant_number, late.grant_number) == (1, 2)

    @pytest.mark.parametrize("answer", ["RECORDED", "ACCEPTED", "GRANT"])
    def test_is_refused_where_an_answer_could_not_be_handed_over(self, answer: str) -> None:
        """Nothing else says that it is lost: RECORDED would be waited for as long as heartbeats."""
        bench = Bench()
        sidecar = busy(bench)
        bench.unreachable.add(sidecar.peer)
        if answer == "RECORDED":
            bench.receive(sidecar.peer, Outcomes(7, [success(sidecar.grant())]))
        elif answer == "ACCEPTED":
            bench.receive(sidecar.peer, Submit([a_batch(a_submission(2))]))
        else:
            sidecar.demand(9)
            Sidecar(bench, 2).submit(a_submission(2))
        bench.settle()
        bench.unreachable.clear()

        refused = sidecar.beat()

        assert isinstance(refused, Refused)
        assert refused.code == Code.UNKNOWN_SESSION
        assert sidecar.hello().resumed

    @pytest.mark.parametrize("since_ms", [0, 1_500, 2**63 - 1])
    def test_tells_which_attempts_have_begun(self, since_ms: int) -> None:
        bench = Bench()
        sidecar = busy(bench)
        bench.advance(2_000)
        sidecar.beat(Running(*lease_of(sidecar.grant()), since_ms))
        assert sidecar.status(task_id()).state is State.RUNNING

        bench.advance(EXPIRY_MS)

        (attempt,) = bench.audit().tasks[task_id()].history
        began_ms = max(FIRST_MS, FIRST_MS + 2_000 - since_ms)
        assert attempt.started_ms == began_ms
        assert attempt.run_us == (bench.now.wall_ms - began_ms) * 1000

    def test_says_nothing_of_leases_of_others_or_of_the_past(self) -> None:
        bench = Bench()
        sidecar = busy(bench)
        other = Sidecar(bench, 2)
        lease = lease_of(sidecar.grant())
        sidecar.beat(Running(lease.id, lease.token - 1, 5), Running(task_id(9), 1, 5))
        other.beat(Running(*lease, 5))
        assert sidecar.status(task_id()).state is State.LEASED


class TestHandlers:
    def test_replace_those_stated_before(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.declare("email.other")
        sidecar.submit(a_submission())
        assert sidecar.status(task_id()).sidecars == 0

    def test_set_the_policy_of_their_handlers_for_good(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.declare(attempts_max=4)
        bench.crash()
        sidecar.hello()
        sidecar.submit(a_submission())
        assert sidecar.status(task_id()).attempts_max == 4

    def test_with_a_policy_that_cannot_be_are_refused_one_by_one(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        bad = [Declaration("a.a", {"attempts_max": 0}), Declaration("a.b", {"no_such": 1})]
        sidecar.say(Handlers([*bad, Declaration(EMAIL, {})]))
        refusals = [m for m in sidecar.received() if isinstance(m, Refused)]
        assert [refused.code for refused in refusals] == [Code.INVALID_OPTION] * 2
        assert refusals[0].detail.startswith("a.a: policy field attempts_max is 0")
        sidecar.demand(1)
        sidecar.submit(a_submission())
        assert len(sidecar.granted()) == 1

    def test_of_a_session_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(greeting, "HANDLERS_PER_SESSION_MAX", 1)
        sidecar = Sidecar(Bench())
        sidecar.say_handlers("a.a", "a.b")
        assert sidecar.last(Refused).code == Code.TOO_MANY_HANDLERS

    def test_of_the_coordinator_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("protocol.limits.HANDLERS_MAX", 1)
        sidecar = Sidecar(Bench())
        sidecar.say_handlers("a.a", "a.b")
        assert sidecar.last(Refused).detail == "no room for a new handler a.b"

    def test_that_nobody_serves_keep_their_tasks(self) -> None:
        sidecar = Sidecar(Bench())
        sidecar.submit(a_submission(handler="nobody.serves"))
        status = sidecar.status(task_id())
        assert (status.state, status.sidecars) == (State.READY, 0)


def test_message_before_hello_is_refused() -> None:
    bench = Bench()
    bench.receive(b"stranger", Goodbye("x"))
    (refused,) = bench.to(b"stranger")
    assert isinstance(refused, Refused)
    assert refused.code == Code.UNKNOWN_SESSION


def test_task_of_a_lost_session_dies_when_its_attempts_are_used_up() -> None:
    bench = Bench()
    sidecar = Sidecar(bench)
    sidecar.serve(attempts_max=2)
    sidecar.submit(a_submission())
    sidecar.report(failed(sidecar.grant()))
    bench.advance(2_000)
    sidecar.beat()
    bench.advance(EXPIRY_MS)
    task = bench.audit().tasks[task_id()]
    assert task.error.startswith("2 attempts used up; last: lease-lost")
