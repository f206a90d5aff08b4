"""Drains: a sidecar that an operator has drained is granted nothing, and is told so."""

import pytest

from coordinator.core import draining, layout, overview
from coordinator.core.drains import Drain
from coordinator.core.operations import By, Done, DrainSidecar, Refusal, UndrainSidecar
from protocol import messages as m
from protocol.messages import OutcomeKind, State
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import Sidecar, failed, lease_of, success
from tests.support.builders import FIRST_MS, a_submission, task_id

ADA, BOB = By("ada", "a new kernel"), By("bob")
HOST = "host-1"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def sidecar(bench: Bench) -> Sidecar:
    sidecar = Sidecar(bench)
    sidecar.declare()
    return sidecar


def submit(sidecar: Sidecar, *numbers: int) -> None:
    sidecar.submit(*[a_submission(number) for number in numbers])


def drain(bench: Bench, name: str = HOST, by: By = ADA) -> Drain:
    answer = bench.operate(DrainSidecar(name, by))
    assert isinstance(answer, Done)
    assert isinstance(answer.value, Drain)
    return answer.value


def undrain(bench: Bench, name: str = HOST, by: By = BOB) -> None:
    assert isinstance(bench.operate(UndrainSidecar(name, by)), Done)


def told(sidecar: Sidecar) -> list[m.Drain]:
    return [message for message in sidecar.received() if isinstance(message, m.Drain)]


def granted(sidecar: Sidecar) -> set[bytes]:
    return {task.id for task in sidecar.granted()}


def ids(*numbers: int) -> set[bytes]:
    return {task_id(number) for number in numbers}


def begin_anew_with_a_damaged_row(bench: Bench, sidecar: Sidecar, kind: bytes) -> None:
    """Damage the row of a kind, start again, and give the sidecar's handler a task."""
    [key] = bench.rows(kind)
    bench.pairs[key] = bench.pairs[key][:-1] + b"\xff"
    bench.crash()
    sidecar.hello()
    sidecar.serve(10)
    submit(sidecar, 1)


class TestADrainedSidecar:
    def test_is_granted_nothing_whatever_it_states(self, bench: Bench, sidecar: Sidecar) -> None:
        sidecar.demand(10)
        drain(bench)
        submit(sidecar, *range(1, 6))
        sidecar.demand(20)
        sidecar.beat(demand={"email.send": 30})
        sidecar.hello()
        sidecar.serve(40)
        bench.advance(5_000)
        assert granted(sidecar) == set()
        assert bench.audit().problems() == []

    def test_is_told_who_and_why_with_the_answer(self, bench: Bench, sidecar: Sidecar) -> None:
        drain(bench)
        assert told(sidecar) == [m.Drain(sidecar.session, True, "ada: a new kernel")]
        undrain(bench)
        assert told(sidecar)[1:] == [m.Drain(sidecar.session, False, "")]

    def test_is_told_only_once_it_is_durable(self, bench: Bench, sidecar: Sidecar) -> None:
        bench.ask_operation(1, DrainSidecar(HOST, ADA))
        bench.begin()
        assert told(sidecar) == []
        assert 1 not in bench.results
        bench.finish()
        assert len(told(sidecar)) == 1
        assert isinstance(bench.results[1], Done)

    def test_finishes_what_it_has_and_gives_back_the_rest_uncharged(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        other = Sidecar(bench, 2)
        sidecar.demand(2)
        submit(sidecar, 1, 2)
        first, second = sidecar.granted()
        drain(bench)
        other.serve(5)

        assert sidecar.report(success(first), failed(second, OutcomeKind.RETURNED)) == [None, None]

        (again,) = other.granted()
        assert (again.id, again.attempt, again.delivery) == (second.id, 1, 2)
        assert bench.audit().tasks[first.id].state is State.SUCCEEDED

    def test_gets_tasks_again_when_it_states_its_demand_after_the_end(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        sidecar.demand(3)
        submit(sidecar, 1)
        drain(bench)
        submit(sidecar, 2, 3, 4)
        sidecar.demand(1)

        undrain(bench)
        assert granted(sidecar) == ids(1)
        sidecar.demand(3)

        assert granted(sidecar) == ids(1, 2, 3)

    def test_still_submits_asks_and_renews_its_session(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        drain(bench)
        submit(sidecar, 1)
        assert sidecar.status(task_id(1)).state is State.READY
        for _ in range(10):
            bench.advance(5_000)
            assert sidecar.beat() == m.Beat(sidecar.session, 77, 0)
        assert sidecar.hello().resumed

    def test_does_not_get_a_task_in_place_of_one_that_was_not_sent(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        submit(sidecar, 1)
        sidecar.submit(a_submission(2, payload=b"x" * 5_000))
        del bench.pairs[layout.payload_key(task_id(2))]
        bench.audited = False
        bench.receive(sidecar.peer, sidecar.demand_message(2))
        bench.begin()
        bench.ask_operation(1, DrainSidecar(HOST, ADA))
        bench.finish()
        submit(sidecar, 3)
        assert granted(sidecar) == ids(1)

    def test_takes_no_share_from_the_others(self, bench: Bench, sidecar: Sidecar) -> None:
        other = Sidecar(bench, 2)
        other.serve(100)
        sidecar.demand(100)
        drain(bench)
        submit(other, *range(1, 11))
        assert granted(other) == ids(*range(1, 11))


class TestADrain:
    def test_outlasts_restarts_of_both(self, bench: Bench, sidecar: Sidecar) -> None:
        made = drain(bench)
        submit(sidecar, 1)
        bench.crash()
        assert bench.shard.ledger.drains == {HOST: made}
        assert [s.drain for s in bench.shard.ledger.sessions] == [made]
        sidecar.hello()
        sidecar.serve(10)
        sidecar.goodbye()
        again = Sidecar(bench, 7, welcome=False)
        again.name = HOST
        again.hello()
        again.serve(10)

        assert granted(sidecar) == granted(again) == set()
        assert [x.on for x in told(again)] == [True]

        undrain(bench)
        again.demand(10)
        assert granted(again) == ids(1)
        assert not bench.rows(b"q")

    def test_counts_for_all_of_that_name_and_for_no_other(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        twin, other = Sidecar(bench, 2, welcome=False), Sidecar(bench, 3)
        twin.name = HOST
        twin.hello()
        drain(bench)
        for each in (sidecar, twin, other):
            each.serve(10)
        submit(sidecar, 1, 2, 3)
        assert granted(sidecar) == granted(twin) == set()
        assert granted(other) == ids(1, 2, 3)
        assert (len(told(sidecar)), len(told(twin)), len(told(other))) == (1, 1, 0)

    def test_of_a_name_that_is_not_there_waits_for_it(self, bench: Bench) -> None:
        drain(bench, "host-5")
        late = Sidecar(bench, 5)
        assert [x.on for x in told(late)] == [True]

    def test_may_be_set_again_with_another_reason(self, bench: Bench, sidecar: Sidecar) -> None:
        drain(bench)
        bench.pass_time(1_000)
        made = drain(bench, by=By("bob", "a disk"))
        assert made == Drain(HOST, "bob", "a disk", FIRST_MS)
        assert told(sidecar)[-1].why == "bob: a disk"
        assert bench.audit_rows()[-1][-1]["before"] == "ada: a new kernel"

    def test_is_audited_with_what_the_sidecar_held(self, bench: Bench, sidecar: Sidecar) -> None:
        sidecar.demand(2)
        submit(sidecar, 1, 2, 3)
        drain(bench)
        undrain(bench)
        rows = [[*row[1:5], row[5]["sessions"], row[5]["leases"]] for row in bench.audit_rows()]
        assert rows == [
            ["ada", "sidecar.drain", HOST, "a new kernel", 1, 2],
            ["bob", "sidecar.undrain", HOST, "", 1, 2],
        ]
        assert bench.noted("sidecar_drained") == [{"sidecar": HOST, "owner": "ada", "leases": 2}]

    def test_that_does_not_exist_cannot_be_lifted(self, bench: Bench) -> None:
        answer = bench.operate(UndrainSidecar(HOST, ADA))
        assert answer == Refusal("unknown_drain", "no sidecar 'host-1' is drained")

    def test_is_refused_beyond_the_limit(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(draining, "DRAINS_MAX", 2)
        drain(bench, "a")
        drain(bench, "b")
        answer = bench.operate(DrainSidecar("c", ADA))
        assert isinstance(answer, Refusal)
        assert answer.code == "too_many_drains"
        drain(bench, "a", BOB)
        undrain(bench, "a")
        drain(bench, "c")

    def test_whose_row_is_damaged_holds(self, bench: Bench, sidecar: Sidecar) -> None:
        drain(bench)
        begin_anew_with_a_damaged_row(bench, sidecar, b"q")
        assert granted(sidecar) == set()
        assert told(sidecar)[-1].why.startswith("unknown: its row was damaged")
        assert bench.noted("record_corrupt")[0]["kind"] == "drain"
        bench.crash()
        assert len(bench.noted("record_corrupt")) == 1, "it was not written again"

    @pytest.mark.parametrize("name", ["x", "a b/ö%", "\N{GRINNING FACE}" * 122, "x" * 128])
    def test_has_any_name_that_a_sidecar_may_have(self, bench: Bench, name: str) -> None:
        made = drain(bench, name)
        bench.crash()
        assert bench.shard.ledger.drains == {name: made}
        undrain(bench, name)


class TestWhatWasTold:
    def test_is_told_behind_each_welcome(self, bench: Bench, sidecar: Sidecar) -> None:
        drain(bench)
        sidecar.hello()
        *_, welcome, drained = sidecar.received()
        assert isinstance(welcome, m.Welcome)
        assert drained == m.Drain(welcome.session, True, "ada: a new kernel")

    def test_is_told_again_with_every_beat(self, bench: Bench, sidecar: Sidecar) -> None:
        drain(bench)
        sidecar.beat()
        sidecar.beat()
        assert [x.on for x in told(sidecar)] == [True] * 3
        undrain(bench)
        sidecar.beat()
        sidecar.beat()
        assert [x.on for x in told(sidecar)[3:]] == [False] * 3

    def test_is_nothing_where_nothing_was_drained_since_the_welcome(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        sidecar.beat()
        drain(bench)
        undrain(bench)
        sidecar.hello()
        count = len(told(sidecar))
        sidecar.beat()
        assert len(told(sidecar)) == count == 2

    def test_waits_for_a_sidecar_that_is_not_connected(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        bench.crash()
        drain(bench)
        assert told(sidecar) == []
        sidecar.hello()
        assert [x.on for x in told(sidecar)] == [True]

    def test_reaches_a_sidecar_whose_connection_took_nothing(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        bench.unreachable.add(sidecar.peer)
        drain(bench)
        bench.unreachable.clear()
        assert told(sidecar) == []
        sidecar.beat()
        assert isinstance(sidecar.received()[-1], m.Refused)
        sidecar.hello()
        assert [x.on for x in told(sidecar)] == [True]

    def test_reaches_a_sidecar_whose_record_was_damaged(
        self, bench: Bench, sidecar: Sidecar
    ) -> None:
        drain(bench)
        begin_anew_with_a_damaged_row(bench, sidecar, b"n")
        assert granted(sidecar) == set()
        assert [x.on for x in told(sidecar)][-1]


def test_leases_of_a_drained_sidecar_are_kept_over_a_resume(bench: Bench) -> None:
    sidecar = Sidecar(bench)
    sidecar.serve(2)
    submit(sidecar, 1, 2)
    first, second = sidecar.granted()
    drain(bench)
    bench.crash()
    welcome = sidecar.hello(held=[lease_of(first), lease_of(second)])
    assert welcome.resumed
    assert welcome.lost == []
    assert sidecar.report(success(first), success(second)) == [None, None]
    assert overview.totals(bench.shard.ledger.handlers.values())["leased"] == 0
