import asyncio

import pytest

from coordinator.core.effects import GetMany
from coordinator.errors import Fenced, Unknown
from coordinator.store.memory_store import MemoryDisk, MemoryStore


@pytest.mark.parametrize("committed", [False, True])
def test_injected_fault_strikes_the_commit_asked_for_and_every_call_after_it(
    committed: bool,
) -> None:
    async def promise() -> None:
        disk = MemoryDisk()
        store = MemoryStore(disk)
        await store.open()
        store.fail_commit(2, committed=committed)
        await store.apply({b"a": b"1"})
        await store.apply({}, [GetMany([b"a"])])

        with pytest.raises(Unknown):
            await store.apply({b"b": b"2"})

        with pytest.raises(Unknown):
            await store.apply({}, [GetMany([b"a"])])
        assert (b"b" in disk.pairs) is committed
        assert b"a" in disk.pairs

    asyncio.run(promise())


def test_disk_outlives_a_store_that_was_not_closed() -> None:
    async def promise() -> None:
        disk = MemoryDisk()
        first = MemoryStore(disk)
        await first.open()
        await first.apply({b"a": b"1"})

        second = MemoryStore(disk)
        ownership = await second.open()

        assert (ownership.epoch, ownership.created, ownership.clean) == (2, False, False)
        assert await second.apply({}, [GetMany([b"a"])]) == [{b"a": b"1"}]

    asyncio.run(promise())


def test_earlier_owner_is_fenced_and_writes_nothing() -> None:
    async def promise() -> None:
        disk = MemoryDisk()
        first, second = MemoryStore(disk), MemoryStore(disk)
        await first.open()
        await second.open()

        with pytest.raises(Fenced):
            await first.apply({b"a": b"1"})

        assert disk.pairs == {}
        await first.close()
        assert not disk.clean

    asyncio.run(promise())


@pytest.mark.parametrize("key", [b"", b"\0own", b"k" * 512])
def test_key_that_lmdb_would_refuse_is_found_in_memory(key: bytes) -> None:
    async def promise() -> None:
        store = MemoryStore()
        await store.open()

        with pytest.raises(AssertionError):
            await store.apply({key: b"1"})

    asyncio.run(promise())
