"""How many sidecars a handler wants."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.gates import GateKind, Scope
from coordinator.core.operations import By, DrainSidecar, SetGate
from coordinator.core.rates import Rates
from coordinator.core.scaling import BUSY_SHARE, Load, load_of, wanted
from protocol.limits import CONCURRENCY_MAX, SESSIONS_MAX, TIMEOUT_MS_MAX
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import EMAIL, Sidecar, success
from tests.support.builders import a_submission

A_LOAD = Load(
    ready=0,
    leased=0,
    arrivals_per_second=0.0,
    lease_ms=1_000.0,
    start_within_ms=5_000,
    concurrency=0,
    sidecars=2,
    slots=20,
)
counts = st.integers(0, 10**8)
loads = st.builds(
    Load,
    ready=counts,
    leased=counts,
    arrivals_per_second=st.floats(0, 10**6),
    lease_ms=st.none() | st.floats(0, TIMEOUT_MS_MAX),
    start_within_ms=st.integers(0, TIMEOUT_MS_MAX),
    concurrency=st.integers(0, CONCURRENCY_MAX),
    sidecars=st.integers(0, SESSIONS_MAX),
    slots=counts,
)


def desired(**changes: float | None) -> int:
    return wanted(replace(A_LOAD, **changes)).desired  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "sidecars"),
    [
        ({"arrivals_per_second": 0.01}, 1),
        ({"arrivals_per_second": 8.0}, 1),  # 8 of 10 slots are busy.
        ({"arrivals_per_second": 8.1}, 2),
        ({"arrivals_per_second": 80.0}, 10),
        ({"arrivals_per_second": 80.0, "lease_ms": 500.0}, 5),
        ({"ready": 1}, 1),
        ({"ready": 500}, 10),  # 10 slots begin 50 within 5 s.
        ({"ready": 501}, 11),
        ({"ready": 500, "start_within_ms": 50_000}, 1),
        ({"ready": 500, "lease_ms": 3_600_000.0}, 50),  # One slot for each is enough.
        ({"ready": 3_000, "start_within_ms": 0}, 1),  # Within five minutes.
        ({"ready": 500, "arrivals_per_second": 80.0}, 20),
        ({"leased": 11}, 2),  # What runs keeps its sidecars.
        ({"leased": 10, "arrivals_per_second": 8.0}, 1),
        ({"ready": 500, "concurrency": 30}, 3),
        ({"ready": 10**8}, SESSIONS_MAX),
    ],
)
def test_slots_for_what_comes_and_for_what_waits(changes: dict[str, float], sidecars: int) -> None:
    assert desired(**changes) == sidecars


@pytest.mark.parametrize("unknown", [{"lease_ms": None}, {"slots": 0}])
def test_what_is_not_known_changes_nothing(unknown: dict[str, None]) -> None:
    assert desired(**unknown, ready=10**6) == 2
    assert desired(**unknown, ready=10**6, sidecars=0) == 1
    assert desired(**unknown) == 0
    assert "not known yet" in wanted(replace(A_LOAD, ready=1, **unknown)).why  # type: ignore[arg-type]


@given(loads)
def test_it_is_never_negative_never_endless_and_nothing_only_when_idle(load: Load) -> None:
    found = wanted(load)
    idle = load.ready == load.leased == load.arrivals_per_second == 0
    assert 0 <= found.desired <= SESSIONS_MAX
    assert (found.desired == 0) == idle
    assert found.why


@given(loads, counts)
def test_more_backlog_never_wants_less(load: Load, more: int) -> None:
    assert wanted(replace(load, ready=load.ready + more)).desired >= wanted(load).desired


@given(loads, st.floats(0, 10**6))
def test_more_arrivals_never_want_less(load: Load, more: float) -> None:
    faster = replace(load, arrivals_per_second=load.arrivals_per_second + more)
    assert wanted(faster).desired >= wanted(load).desired


@given(loads)
def test_more_slots_of_a_sidecar_never_want_more_sidecars(load: Load) -> None:
    roomy = replace(load, slots=2 * load.slots)
    assert wanted(roomy).desired <= wanted(load).desired


@given(st.floats(0.1, 1_000), st.floats(1, 10_000), st.integers(1, 100))
def test_as_many_as_are_wanted_keep_up_with_what_comes(
    arrivals: float, lease_ms: float, slots: int
) -> None:
    load = replace(A_LOAD, arrivals_per_second=arrivals, lease_ms=lease_ms, sidecars=1, slots=slots)
    found = wanted(load).desired
    capacity = found * slots / (lease_ms / 1_000)
    assert found == SESSIONS_MAX or capacity * BUSY_SHARE >= arrivals * (1 - 1e-6)


class TestLoad:
    def test_is_what_the_handler_has_and_its_sidecars_would_take(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.serve(3, EMAIL, concurrency=7, start_within_ms=1_000)
        sidecar.submit(*[a_submission(number) for number in range(1, 6)])
        bench.pass_time(400)
        sidecar.report(success(sidecar.granted()[0]))

        load = load_of(bench.shard.ledger.handlers[EMAIL], Rates(), bench.now)

        assert (load.ready, load.leased, load.sidecars, load.slots) == (2, 2, 1, 2)
        assert (load.lease_ms, load.start_within_ms, load.concurrency) == (400, 1_000, 7)

    def test_is_nothing_where_a_gate_holds_all(self) -> None:
        bench = Bench()
        sidecar = Sidecar(bench)
        sidecar.submit(a_submission())
        bench.operate(SetGate(Scope(EMAIL), GateKind.PAUSE, By("ada", "")))
        sidecar.serve(3, EMAIL)

        load = load_of(bench.shard.ledger.handlers[EMAIL], Rates(), bench.now)

        assert load.ready == 0
        assert wanted(load).desired == 0

    def test_is_carried_by_sidecars_that_are_not_drained(self) -> None:
        bench = Bench()
        for number, slots in ((1, 3), (2, 5)):
            Sidecar(bench, number).serve(slots, EMAIL)
        bench.operate(DrainSidecar("host-1", By("ada", "")))

        load = load_of(bench.shard.ledger.handlers[EMAIL], Rates(), bench.now)

        assert (load.sidecars, load.slots) == (1, 5)
