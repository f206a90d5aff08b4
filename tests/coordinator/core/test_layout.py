from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import layout
from coordinator.store.base import KEY_BYTES_MAX

ids = st.binary(min_size=16, max_size=16)
numbers = st.integers(0, 2**64 - 1)
times = st.integers(0, 2**63 - 1)
handlers = st.integers(0, 2**32 - 1)
priorities = st.integers(0, 3)
KEY = layout.grant_key(7)
kinds = st.sampled_from([layout.TIMER_DUE, layout.TIMER_EXPIRE])


@given(st.tuples(handlers, priorities, numbers), st.tuples(handlers, priorities, numbers))
def test_ready_rows_are_ordered_by_handler_priority_and_number(
    first: tuple[int, int, int], second: tuple[int, int, int]
) -> None:
    keys = layout.ready_key(*first), layout.ready_key(*second)
    assert (keys[0] < keys[1]) == (first < second)
    assert layout.ready_row(keys[0]) == first[2]


@given(st.tuples(times, numbers), st.tuples(times, numbers))
def test_timers_and_retention_are_ordered_by_time(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    for key_of in (layout.timer_key, layout.retention_key):
        keys = key_of(*first), key_of(*second)
        assert (keys[0] < keys[1]) == (first < second)
        assert layout.due_of(keys[0]) == first[0]


@given(numbers, numbers)
def test_grants_are_ordered_by_number(first: int, second: int) -> None:
    assert (layout.grant_key(first) < layout.grant_key(second)) == (first < second)


@given(handlers)
def test_handler_key_holds_its_number(number: int) -> None:
    assert layout.handler_of(layout.handler_key(number)) == number


@given(st.lists(ids, min_size=1))
def test_ids_come_back(entries: list[bytes]) -> None:
    assert layout.split_ids(KEY, layout.join_ids(KEY, entries)) == entries


@given(st.lists(st.tuples(times, kinds, ids), min_size=1))
def test_timers_come_back(entries: list[tuple[int, int, bytes]]) -> None:
    assert layout.split_timers(KEY, layout.join_timers(KEY, entries)) == entries


@given(ids, st.lists(st.tuples(ids, times)))
def test_leases_come_back(holder: bytes, leases: list[tuple[bytes, int]]) -> None:
    assert layout.split_leases(KEY, layout.join_leases(KEY, holder, leases)) == (holder, leases)


@given(st.binary(min_size=1, max_size=100), st.data())
def test_value_with_a_flipped_bit_is_damaged(body: bytes, data: st.DataObject) -> None:
    value = layout.seal(KEY, body)
    place = data.draw(st.integers(0, len(value) * 8 - 1))
    flipped = bytearray(value)
    flipped[place // 8] ^= 1 << place % 8
    assert layout.unseal(KEY, value) == body
    with pytest.raises(layout.Damaged):
        layout.unseal(KEY, bytes(flipped))


@pytest.mark.parametrize("split", [layout.split_ids, layout.split_timers, layout.split_leases])
def test_row_under_the_key_of_another_is_damaged(split: Callable[[bytes, bytes], object]) -> None:
    value = layout.join_ids(KEY, [bytes(16)])
    with pytest.raises(layout.Damaged):
        split(layout.grant_key(8), value)


@given(st.binary(max_size=100))
def test_any_other_bytes_are_damaged(value: bytes) -> None:
    for split in (layout.split_ids, layout.split_timers, layout.split_leases):
        with pytest.raises(layout.Damaged):
            split(KEY, value)


def test_every_key_is_of_its_kind_and_no_longer_than_a_store_takes() -> None:
    largest = 2**64 - 1
    keys = {
        b"t": layout.task_key(bytes(16)),
        b"p": layout.payload_key(bytes(16)),
        b"r": layout.ready_key(2**32 - 1, 3, largest),
        b"s": layout.timer_key(2**63 - 1, largest),
        b"x": layout.retention_key(2**63 - 1, largest),
        b"g": layout.grant_key(largest),
        b"h": layout.handler_key(2**32 - 1),
        b"m": layout.name_key(2**32 - 1),
        b"i": layout.REINDEX_KEY,
        b"n": layout.session_key(b"\xff" * 16),
    }
    for letter, key in keys.items():
        start, end = layout.range_of(letter)
        assert start <= key < layout.after(key) < end
        assert len(key) <= KEY_BYTES_MAX
