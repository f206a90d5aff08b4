"""A walk over a store finds each row that was changed, and no other."""

import asyncio
from collections.abc import Mapping

import pytest

from coordinator.core import layout, records
from coordinator.core.handler import Handler
from coordinator.core.payloads import content_crc
from coordinator.core.scrubbing import FIRST, ROWS, Scrubbing
from coordinator.core.task import Task
from coordinator.store.memory_store import MemoryDisk, MemoryStore
from protocol.messages import Priority
from tests.support.builders import task_id

HANDLER = Handler(7, "email.send")
PAYLOAD = b"to somebody" * 200
Pairs = dict[bytes, bytes]


def a_store() -> Pairs:
    """Rows of every kind, and of one that nobody knows yet."""
    pairs: Pairs = {}
    for number in range(1, 4):
        apart = number == 3
        payload = PAYLOAD if apart else b"short"
        task = Task(
            task_id(number), HANDLER, Priority.NORMAL, None if apart else payload, len(payload)
        )
        task.content_crc = content_crc(HANDLER.name_crc, payload)
        pairs[layout.task_key(task.id)] = records.encode(task)
        if apart:
            pairs[layout.payload_key(task.id)] = payload
    for key, value in (
        (layout.handler_key(7), [HANDLER.name, {}, [0] * 6]),
        (layout.name_key(7), [HANDLER.name]),
        (layout.session_key(bytes(16)), ["one", "email", 10_000]),
    ):
        pairs[key] = records.encode_list(key, value)
    for key in (
        layout.ready_key(7, 1, 9),
        layout.timer_key(5, 9),
        layout.retention_key(5, 9),
        layout.grant_key(9),
        layout.REINDEX_KEY,
        layout.RESTORED_KEY,
        b"y of a later version",
    ):
        pairs[key] = layout.seal(key, task_id(1))
    return pairs


def scrub(pairs: Mapping[bytes, bytes]) -> Scrubbing:
    disk = MemoryDisk()
    disk.write(pairs)
    store = MemoryStore(disk)

    async def walk() -> Scrubbing:
        await store.open()
        scrubbing = Scrubbing()
        while reads := scrubbing.reads():
            scrubbing.take(await store.apply({}, reads))
        return scrubbing

    return asyncio.run(walk())


def test_store_that_is_whole_has_no_findings_and_is_counted() -> None:
    walk = scrub(a_store())

    assert walk.findings == [] and walk.damaged == 0
    assert (walk.tasks, walk.payloads) == (3, 1)
    assert walk.rows == len(a_store()) - 1
    assert walk.bytes == sum(len(key) + len(value) for key, value in a_store().items())


@pytest.mark.parametrize("key", sorted(a_store()), ids=lambda key: chr(key[0]) + key[1:].hex())
def test_each_flipped_bit_is_found_and_named_by_its_key(key: bytes) -> None:
    pairs = a_store()
    for place in (0, len(pairs[key]) // 2, len(pairs[key]) - 1):
        damaged = bytearray(pairs[key])
        damaged[place] ^= 0x10
        walk = scrub(pairs | {key: bytes(damaged)})

        assert walk.damaged == 1
        assert [finding.key for finding in walk.findings] == [key.hex()]


def test_value_in_the_place_of_another_is_found() -> None:
    pairs = a_store()
    one, other = layout.ready_key(7, 1, 9), layout.timer_key(5, 9)
    walk = scrub(pairs | {one: pairs[other]})

    assert [finding.kind for finding in walk.findings] == ["ready"]


def test_payload_that_is_gone_is_found() -> None:
    pairs = a_store()
    del pairs[layout.payload_key(task_id(3))]

    assert [finding.problem for finding in scrub(pairs).findings] == ["it is missing"]


def test_tasks_whose_handler_nobody_knows_are_found() -> None:
    pairs = a_store()
    del pairs[layout.handler_key(7)], pairs[layout.name_key(7)]

    assert [finding.kind for finding in scrub(pairs).findings] == ["task"] * 3


def test_findings_never_show_what_a_row_holds() -> None:
    pairs = a_store()
    key = layout.payload_key(task_id(3))

    assert b"somebody".hex() not in str(scrub(pairs | {key: PAYLOAD[1:]}).findings)


def test_walk_goes_on_where_another_has_left_off() -> None:
    rows = {}
    for number in range(3 * ROWS):
        key = layout.ready_key(7, 1, number)
        rows[key] = layout.seal(key, task_id(1))
    disk = MemoryDisk()
    disk.write(rows)
    at: bytes | None = FIRST
    seen = slices = 0
    while at is not None:
        walk = Scrubbing(start=at)
        walk.take([disk.read(read) for read in walk.reads()])
        assert walk.between
        seen, slices, at = seen + walk.rows, slices + 1, walk.resume_at

    assert seen == len(rows)
    assert slices > 3
