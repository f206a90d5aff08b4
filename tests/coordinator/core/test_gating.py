import pytest

from coordinator.core import audit, gates, layout, sweeping
from coordinator.core.gates import Gate, GateKind, Scope
from coordinator.core.operations import By, Done, LiftGate, Refusal, SetGate
from coordinator.core.shard import Operated
from protocol.messages import OutcomeKind, State
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import EMAIL, Sidecar, failed, success
from tests.support.builders import a_submission, task_id

BY = By("ops", "a bad deploy")
RED = Scope(EMAIL, "red")
WHOLE = (Scope(EMAIL), Scope())


@pytest.fixture(params=["small", "usual"], autouse=True)
def _windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "small":
        small_windows(monkeypatch)
        monkeypatch.setattr(sweeping, "GONE_MIN", 4)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def sidecar(bench: Bench) -> Sidecar:
    sidecar = Sidecar(bench)
    sidecar.declare()
    return sidecar


def submit(sidecar: Sidecar, *numbers: int, collection: str = "red", **options: int) -> None:
    own = {"collection": collection, **options}
    sidecar.submit(*[a_submission(number, options=own) for number in numbers])


def pause(bench: Bench, scope: Scope = RED, until_ms: int = 0) -> Gate:
    return put(bench, SetGate(scope, GateKind.PAUSE, BY, until_ms))


def drop(bench: Bench, scope: Scope = RED) -> Gate:
    return put(bench, SetGate(scope, GateKind.DROP, BY))


def put(bench: Bench, wanted: SetGate) -> Gate:
    answer = bench.operate(wanted)
    assert isinstance(answer, Done)
    assert isinstance(answer.value, Gate)
    return answer.value


def lift(bench: Bench, scope: Scope = RED) -> None:
    assert isinstance(bench.operate(LiftGate(scope, BY)), Done)


def granted(sidecar: Sidecar) -> set[bytes]:
    return {task.id for task in sidecar.granted()}


def ids(*numbers: int) -> set[bytes]:
    return {task_id(number) for number in numbers}


def states(bench: Bench) -> dict[State, int]:
    found: dict[State, int] = {}
    for task in bench.audit().tasks.values():
        found[task.state] = found.get(task.state, 0) + 1
    return found


class TestAPause:
    @pytest.mark.parametrize("scope", [RED, *WHOLE])
    def test_keeps_ready_tasks_from_being_granted_and_lifting_it_loses_none(
        self, bench: Bench, sidecar: Sidecar, scope: Scope
    ) -> None:
        submit(sidecar, *range(1, 10))
        pause(bench, scope)
        submit(sidecar, *range(10, 20))
        sidecar.demand(100)
        bench.advance(60_000)
        sidecar.hello()
        sidecar.serve(100)
        assert not sidecar.granted()

        lift(bench, scope)

        assert granted(sidecar) == ids(*range(1, 20))

    def test_of_a_collection_holds_up_no_other(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, *range(1, 40))
        submit(sidecar, 40, 41, collection="blue")
        sidecar.submit(a_submission(42))
        pause(bench)
        sidecar.demand(100)

        assert granted(sidecar) == ids(40, 41, 42)

    def test_lets_leased_tasks_run_on_and_holds_their_next_attempt(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        submit(sidecar, 1, 2, 3)
        sidecar.demand(3)
        first, second, third = sidecar.granted()
        pause(bench)
        assert sidecar.report(
            success(first),
            failed(second, OutcomeKind.RETRY),
            failed(third, OutcomeKind.RETURNED),
        ) == [None, None, None]
        sidecar.demand(10)
        bench.advance(3_600_000)
        sidecar.hello()
        sidecar.serve(10)
        assert len(sidecar.granted()) == 3
        assert states(bench)[State.READY] == 2

        lift(bench)

        assert [task.id for task in sidecar.granted()[3:]] == [third.id, second.id]

    def test_holds_what_becomes_due(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, 1, 2, delay_ms=5_000)
        pause(bench)
        sidecar.demand(10)
        bench.advance(5_000)
        assert states(bench) == {State.READY: 2}
        assert not sidecar.granted()

    @pytest.mark.parametrize("scope", [RED, *WHOLE])
    def test_outlasts_a_restart(self, bench: Bench, sidecar: Sidecar, scope: Scope) -> None:
        submit(sidecar, *range(1, 20))
        gate = pause(bench, scope)
        sidecar.demand(100)
        bench.crash()
        sidecar.hello()
        sidecar.serve(100)
        assert not sidecar.granted()
        assert bench.shard.ledger.gates.by_scope == {scope: gate}

        lift(bench, scope)

        assert granted(sidecar) == ids(*range(1, 20))

    @pytest.mark.parametrize("scope", [RED, *WHOLE])
    def test_ends_at_its_time_to_the_millisecond(
        self, bench: Bench, sidecar: Sidecar, scope: Scope
    ) -> None:
        submit(sidecar, 1)
        pause(bench, scope, until_ms=bench.now.wall_ms + 5_000)
        sidecar.demand(10)
        bench.advance(4_999)
        assert not sidecar.granted()
        assert bench.shard.next_due_ms(bench.now) == 1
        bench.advance(1)
        assert granted(sidecar) == ids(1)
        assert not bench.rows(b"o")

    def test_of_a_handler_that_nobody_knows_yet_holds_its_first_task(self, bench: Bench) -> None:
        pause(bench, Scope("email.later"))
        sidecar = Sidecar(bench)
        sidecar.serve(5, "email.later")
        sidecar.submit(a_submission(1, handler="email.later"))
        assert not sidecar.granted()

    def test_waits_for_the_last_of_several_gates(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, 1, 2, 3)
        for scope in (RED, *WHOLE):
            pause(bench, scope)
        sidecar.demand(10)
        for scope in (*WHOLE, RED):
            assert not sidecar.granted()
            lift(bench, scope)
        assert granted(sidecar) == ids(1, 2, 3)

    def test_can_be_set_again_while_what_it_held_is_still_there(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        submit(sidecar, *range(1, 10))
        pause(bench)
        sidecar.demand(1)
        lift(bench)
        pause(bench)
        sidecar.demand(50)
        assert len(sidecar.granted()) == 1
        lift(bench)
        assert granted(sidecar) == ids(*range(1, 10))

    def test_counts_what_is_put_aside_once_though_its_old_row_is_read_again(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        red = {"collection": "red"}
        sidecar.submit(
            a_submission(1, options=red), a_submission(2, options=red), *map(a_submission, (3, 4))
        )
        pause(bench)
        sidecar.demand(1)
        assert granted(sidecar) == ids(3)
        bench.crash()
        sidecar.hello()
        sidecar.serve(100)
        [park] = bench.shard.ledger.handlers[EMAIL].parks.values()
        assert park.count == 2
        lift(bench)
        assert granted(sidecar) == ids(1, 2, 3, 4)

    def test_leaves_nothing_behind(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, *range(1, 10), expires_ms=5_000)
        pause(bench)
        sidecar.demand(3)
        bench.advance(5_000)
        assert states(bench) == {State.EXPIRED: 9}
        lift(bench)
        assert not bench.rows(b"k")
        assert not bench.rows(b"w")
        assert not bench.rows(b"o")

    def test_leaves_no_row_of_what_became_ready_with_it(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        """Found by seed 1101824: what came back was put aside, and got a row in its queue, too."""
        submit(sidecar, 1)
        sidecar.demand(1)
        bench.receive(
            sidecar.peer, sidecar.outcomes_message(failed(sidecar.grant(), OutcomeKind.RETURNED))
        )
        bench.receive(sidecar.peer, sidecar.demand_message(10))
        pause(bench)
        assert not bench.rows(b"r")

        lift(bench)

        assert sidecar.report(success(sidecar.grant())) == [None]
        assert not bench.rows(b"r")

    def test_takes_an_outcome_that_comes_late(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, 1)
        sidecar.demand(1)
        task = sidecar.grant()
        pause(bench)
        bench.advance(60_000)  # The lease is lost, and its task is put aside.
        sidecar.hello()
        assert sidecar.report(success(task)) == [None]
        assert states(bench) == {State.SUCCEEDED: 1}


class TestADrop:
    @pytest.mark.parametrize("scope", [RED, *WHOLE])
    def test_ends_what_is_ready_and_what_becomes_so(
        self, bench: Bench, sidecar: Sidecar, scope: Scope
    ) -> None:
        submit(sidecar, *range(1, 40))
        submit(sidecar, 40, delay_ms=5_000)
        gate = drop(bench, scope)
        assert states(bench) == {State.DROPPED: 39, State.SCHEDULED: 1}
        submit(sidecar, 41)
        bench.advance(5_000)
        assert states(bench) == {State.DROPPED: 41}
        assert gate.dropped == 41
        assert not gate.sweeping
        [error] = {task.error for task in bench.audit().tasks.values()}
        assert error == f"dropped: drop of {scope} by ops (a bad deploy)"
        assert not sidecar.granted()

    def test_is_told_to_who_waits(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, 1)
        sidecar.ask(task_id(1), wait_ms=60_000)
        drop(bench)
        [reply] = sidecar.replies()
        assert reply.status is not None
        assert reply.status.state is State.DROPPED

    def test_takes_a_slice_at_a_time(
        self, bench: Bench, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_windows(monkeypatch)
        submit(sidecar, *range(1, 40))
        wanted = SetGate(RED, GateKind.DROP, BY)
        most = before = 0
        bench.step(Operated(99, wanted))
        while bench.flush():
            done = states(bench).get(State.DROPPED, 0)
            most, before = max(most, done - before), done
        assert before == 39
        assert most <= layout.ROW_ENTRIES_MAX

    def test_goes_on_after_a_restart(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, *range(1, 40))
        bench.step(Operated(99, SetGate(RED, GateKind.DROP, BY)))
        bench.flush()
        bench.crash()
        assert states(bench) == {State.DROPPED: 39}

    def test_ends_what_a_pause_has_put_aside(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, *range(1, 10))
        submit(sidecar, 10, collection="blue")
        pause(bench)
        sidecar.demand(100)
        drop(bench)
        assert states(bench) == {State.DROPPED: 9, State.READY: 1}
        assert not bench.rows(b"w")

    def test_lets_leased_tasks_run_on(self, bench: Bench, sidecar: Sidecar) -> None:
        """Even if the row by which one was ready is still there."""
        submit(sidecar, 1, 2)
        sidecar.demand(1)
        drop(bench)
        assert states(bench) == {State.READY: 1, State.DROPPED: 1}
        assert sidecar.report(success(sidecar.grant())) == [None]
        assert states(bench) == {State.SUCCEEDED: 1, State.DROPPED: 1}

    def test_wins_over_a_pause(self, bench: Bench, sidecar: Sidecar) -> None:
        pause(bench, Scope())
        drop(bench, Scope(EMAIL))
        submit(sidecar, 1)
        assert states(bench) == {State.DROPPED: 1}

    def test_spares_other_handlers_and_collections(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, 1, 2)
        submit(sidecar, 3, collection="blue")
        sidecar.submit(a_submission(4, handler="email.other"))
        drop(bench)
        assert states(bench) == {State.DROPPED: 2, State.READY: 2}

    def test_lifted_in_the_middle_spares_the_rest(
        self, bench: Bench, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_windows(monkeypatch)
        submit(sidecar, *range(1, 40))
        bench.step(Operated(98, SetGate(RED, GateKind.DROP, BY)))
        for _ in range(6):
            bench.flush()
        lift(bench)
        sidecar.demand(100)
        ended = states(bench)[State.DROPPED]
        assert 0 < ended < 39
        assert len(sidecar.granted()) == 39 - ended


class TestGates:
    def test_are_refused_beyond_the_limit(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("coordinator.core.gating.GATES_MAX", 1)
        pause(bench)
        pause(bench)  # The same once more is no further one.
        answer = bench.operate(SetGate(Scope(), GateKind.PAUSE, BY))
        assert answer == Refusal("too_many_gates", "there are 1; lift some")

    def test_that_are_not_there_cannot_be_lifted(self, bench: Bench) -> None:
        answer = bench.operate(LiftGate(RED, BY))
        assert answer == Refusal("unknown_gate", "there is no gate on email.send/red")

    def test_whose_row_is_damaged_pause(self, bench: Bench, sidecar: Sidecar) -> None:
        bench.audited = False
        submit(sidecar, 1)
        pause(bench)
        key = layout.gate_key(*RED)
        bench.pairs[key] = bench.pairs[key][:-1] + b"?"
        bench.crash()
        sidecar.hello()
        sidecar.serve(10)
        assert not sidecar.granted()
        [gate] = bench.shard.ledger.gates.by_scope.values()
        assert gate.kind is GateKind.PAUSE
        assert bench.noted("record_corrupt")[0]["which"] == "email.send/red"
        lift(bench)
        assert granted(sidecar) == ids(1)

    @pytest.mark.parametrize("letter", [b"k", b"w"])
    def test_lose_no_task_to_a_damaged_park(
        self, bench: Bench, sidecar: Sidecar, letter: bytes
    ) -> None:
        bench.audited = False
        submit(sidecar, *range(1, 20))
        pause(bench)
        sidecar.demand(100)
        for key in bench.rows(letter):
            bench.pairs[key] = bench.pairs[key][:-1] + bytes([bench.pairs[key][-1] ^ 1])
        bench.crash()
        sidecar.hello()
        sidecar.serve(100)
        assert not sidecar.granted()
        lift(bench)
        assert granted(sidecar) == ids(*range(1, 20))

    def test_cost_tasks_nothing_where_there_are_none(self, bench: Bench, sidecar: Sidecar) -> None:
        """Neither a key nor a read more than without gates."""
        pause(bench, Scope("email.other"))
        bench.reads.clear()
        sidecar.demand(100)
        submit(sidecar, 1)
        sidecar.report(success(sidecar.grant()))
        assert len(bench.reads) == 1  # Whether its id is new.
        assert not bench.rows(b"k")

    def test_leave_a_trace(self, bench: Bench, sidecar: Sidecar) -> None:
        submit(sidecar, 1, 2)
        pause(bench, Scope(EMAIL), until_ms=bench.now.wall_ms + 1_000)
        bench.advance(1_000)
        drop(bench)
        bench.crash()
        lift(bench)
        rows = audit.rows_of((key, bench.pairs[key]) for key in bench.rows(b"a"))
        assert [(row.number, row.action, row.target, row.owner) for row in rows] == [
            (1, "gate.pause", EMAIL, "ops"),
            (2, "gate.end", EMAIL, "ops"),
            (3, "gate.drop", f"{EMAIL}/red", "ops"),
            (4, "gate.swept", f"{EMAIL}/red", "ops"),
            (5, "gate.lift", f"{EMAIL}/red", "ops"),
        ]
        assert rows[0].details == {"until_ms": rows[1].at_ms, "ready": 2}
        assert rows[3].details == {"dropped": 2, "looked_at": 2}
        assert rows[4].reason == "a bad deploy"

    def test_trace_is_bounded(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audit, "KEPT", 3)
        for _ in range(4):
            pause(bench)
            lift(bench)
        rows = audit.rows_of((key, bench.pairs[key]) for key in bench.rows(b"a"))
        assert [row.number for row in rows] == [6, 7, 8]

    def test_damaged_trace_says_so(self, bench: Bench) -> None:
        pause(bench)
        rows = audit.rows_of([(layout.audit_key(1), b"\0\0\0\0?")])
        assert [(row.number, row.action) for row in rows] == [(1, "damaged")]


def test_of_two_gates_that_pause_the_wider_one_is_named() -> None:
    wide, narrow = (Gate(scope, GateKind.PAUSE, "o", "", 0) for scope in (Scope(EMAIL), RED))
    assert gates.gate_on({"": wide, "red": narrow}, "red") is wide
    assert gates.gate_on({"red": narrow}, "blue") is None
