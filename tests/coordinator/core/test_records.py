from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import layout, records
from coordinator.core.handler import Handler
from coordinator.core.task import Task, Told
from protocol.messages import AttemptRecord, Priority, Result, State
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.sidecar import Sidecar, failed, lease_of, success
from tests.support.builders import a_granted_task, a_submission, task_id

KEY = layout.task_key(task_id())
HANDLERS = {1: Handler(1, "email.send"), 2: Handler(2, "email.other")}

numbers = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
attempts = st.builds(AttemptRecord, *[numbers] * 4, *[texts] * 4)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    payload = draw(st.none() | st.binary(max_size=50))
    handler = HANDLERS[draw(st.sampled_from(sorted(HANDLERS)))]
    task = Task(task_id(), handler, draw(st.sampled_from(Priority)), payload, draw(numbers))
    task.state = draw(st.sampled_from(State))
    for name in (
        *("token", "attempts", "deliveries", "crashes", "deferrals", "submitted_ms", "due_ms"),
        *("expires_ms", "finished_ms", "content_crc"),
    ):
        setattr(task, name, draw(numbers))
    task.collection = draw(st.none() | texts)
    task.content_type = draw(st.none() | texts)
    task.options = draw(st.none() | st.dictionaries(texts, numbers, max_size=3))
    task.result = draw(st.none() | st.builds(Result, st.none() | texts, st.binary(max_size=50)))
    task.error = draw(texts)
    task.history = draw(st.lists(attempts, max_size=3))
    checkpoint, cancelled = draw(st.none() | st.binary(max_size=50)), draw(st.none() | texts)
    task.told = draw(
        st.sampled_from(
            [None, Told(checkpoint, cancelled, park=draw(st.sampled_from([0, 1 << 62])))]
        )
    )
    return task


def fields_of(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in Task.__slots__}


@given(tasks())
def test_task_comes_back_from_its_record(task: Task) -> None:
    decoded = records.decode(task.id, records.encode(task), HANDLERS.__getitem__)
    assert fields_of(decoded) == fields_of(task)


@given(tasks())
def test_record_of_a_leased_task_says_what_it_was_before_its_lease(task: Task) -> None:
    task.state = State.LEASED
    task.token, task.deliveries = task.token + 1, task.deliveries + 1
    before = fields_of(task)
    if task.token < 2**63:
        decoded = records.decode(task.id, records.encode_before_lease(task), HANDLERS.__getitem__)
        changed = {"state": State.READY, "token": task.token - 1}
        assert fields_of(decoded) == before | changed | {"deliveries": task.deliveries - 1}
        assert fields_of(task) == before


@given(tasks(), st.data())
def test_changed_record_is_never_taken_for_good(task: Task, data: st.DataObject) -> None:
    record = bytearray(records.encode(task))
    place = data.draw(st.integers(0, len(record) - 1))
    record[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(layout.Damaged):
        records.decode(task.id, bytes(record), HANDLERS.__getitem__)


@given(tasks(), st.data())
def test_record_cut_short_is_noticed(task: Task, data: st.DataObject) -> None:
    record = records.encode(task)
    length = data.draw(st.integers(0, len(record) - 1))
    with pytest.raises(layout.Damaged):
        records.decode_list(layout.task_key(task.id), record[:length])


@given(st.binary(max_size=100))
def test_any_bytes_are_a_record_or_corrupt(value: bytes) -> None:
    with pytest.raises(layout.Damaged):
        records.decode(task_id(), value, HANDLERS.__getitem__)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({}, "not a list"),
        ([], "ValueError in a record"),
        ([99, 1, 0] + [0] * 18, "IndexError in a record"),
        ([0, 7] + [0] * 19, "KeyError in a record"),
        ([0, 1, 0] + [0] * 18, "TypeError in a record"),
    ],
)
def test_record_of_another_form_is_corrupt_though_its_checksum_is_right(
    value: object, why: str
) -> None:
    with pytest.raises(layout.Damaged, match=why):
        records.decode(task_id(), records.encode_list(KEY, value), HANDLERS.__getitem__)


def test_record_says_what_format_it_has() -> None:
    body = layout.unseal(KEY, records.encode_list(KEY, []))
    assert body[0] == records.FORMAT
    with pytest.raises(layout.Damaged, match="format 03; expected 02"):
        records.decode_list(KEY, layout.seal(KEY, b"\x03" + body[1:]))


@given(tasks())
def test_record_under_another_id_is_damaged(task: Task) -> None:
    with pytest.raises(layout.Damaged):
        records.decode(task_id(2), records.encode(task), HANDLERS.__getitem__)


def damaged(place: int) -> Bench:
    """Return a bench with three tasks, of which the second has a byte flipped on the disk."""
    bench = Bench(audited=False)
    sidecar = Sidecar(bench)
    sidecar.submit(*[a_submission(n, options={"expires_ms": 50_000}) for n in (1, 2, 3)])
    bench.crash()
    record = bytearray(bench.pairs[b"t" + task_id(2)])
    record[place % len(record)] ^= 0x10
    bench.pairs[b"t" + task_id(2)] = bytes(record)
    return bench


def record_bytes() -> int:
    bench = Bench()
    Sidecar(bench).submit(a_submission(2, options={"expires_ms": 50_000}))
    return len(bench.pairs[b"t" + task_id(2)])


@pytest.mark.parametrize("place", range(record_bytes()))
def test_flipped_byte_is_noted_and_harms_no_other_task(place: int) -> None:
    bench = damaged(place)
    sidecar = Sidecar(bench, 2)

    sidecar.serve()

    assert [task.id for task in sidecar.granted()] == [task_id(1), task_id(3)]
    assert bench.noted("record_corrupt")[0]["task_id"] == task_id(2).hex()
    assert bench.shard.counts["record_corrupt"] == 1


class TestCorruptTask:
    def bench(self) -> Bench:
        return damaged(20)

    def test_is_unknown_to_who_asks(self) -> None:
        sidecar = Sidecar(self.bench(), 2)
        sidecar.ask(task_id(2))
        assert sidecar.replies()[0].code == "unknown_task"

    def test_is_not_replaced_by_a_submission(self) -> None:
        sidecar = Sidecar(self.bench(), 2)
        verdict = sidecar.submit(a_submission(2))
        assert [rejection.code for rejection in verdict.rejections] == ["duplicate_id"]

    def test_takes_no_outcome(self) -> None:
        bench = self.bench()
        sidecar = Sidecar(bench, 2)
        outcome = failed(a_granted_task(2))
        assert sidecar.report(outcome) == ["stale_token"]

    def test_lets_its_timers_go(self) -> None:
        bench = self.bench()
        bench.advance(50_000)
        assert bench.rows(b"s") == []
        assert bench.pairs[b"t" + task_id(2)]

    def test_loses_its_lease_at_a_restart(self) -> None:
        bench = Bench(audited=False)
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission(1), a_submission(2))
        record = bytearray(bench.pairs[b"t" + task_id(2)])
        record[9] ^= 1
        bench.pairs[b"t" + task_id(2)] = bytes(record)
        bench.crash()
        held = sidecar.granted()
        welcome = sidecar.hello(held=[lease_of(task) for task in held])
        assert [lease.id for lease in welcome.lost] == [task_id(2)]

    def test_is_not_removed(self) -> None:
        bench = Bench(audited=False)
        sidecar = Sidecar(bench)
        sidecar.serve()
        sidecar.submit(a_submission(1))
        sidecar.report(success(sidecar.grant()))
        record = bytearray(bench.pairs[b"t" + task_id(1)])
        record[9] ^= 1
        bench.pairs[b"t" + task_id(1)] = bytes(record)
        bench.advance(3_600_000)
        assert bench.noted("record_corrupt") != []
        assert b"t" + task_id(1) in bench.pairs
