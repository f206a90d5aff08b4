"""One body of promises, kept by every store."""

import asyncio
import tempfile
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from coordinator.core.effects import GetMany, Read, Scan
from coordinator.errors import StoreError
from coordinator.store.base import Result, Store
from coordinator.store.lmdb_store import LmdbStore
from coordinator.store.memory_store import MemoryDisk, MemoryStore

Opener = Callable[[], Store]
EVERYTHING = Scan(b"\1", b"\xff" * 20, 1_000_000)
MAP_BYTES = 2**30


def lmdb_opener(folder: Path) -> Opener:
    return lambda: LmdbStore(folder / "store", map_bytes=MAP_BYTES, allow_filesystem=True)


def memory_opener(_folder: Path) -> Opener:
    disk = MemoryDisk()
    return lambda: MemoryStore(disk)


@pytest.fixture(params=[lmdb_opener, memory_opener], ids=["lmdb", "memory"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    made: Opener = request.param(tmp_path)
    return made


@asynccontextmanager
async def opened(opener: Opener) -> AsyncIterator[Store]:
    store = opener()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def run(promise: Callable[[], Any]) -> None:
    asyncio.run(promise())


def test_new_store_is_empty_and_says_so(opener: Opener) -> None:
    async def promise() -> None:
        store = opener()
        ownership = await store.open()

        assert ownership.created
        assert ownership.clean
        assert ownership.epoch == 1
        assert len(ownership.uuid) == 16
        assert await store.apply({}, [EVERYTHING]) == [[]]
        assert (await store.stats()).entries == 0
        await store.close()

    run(promise)


def test_each_opening_raises_the_epoch_and_keeps_the_uuid(opener: Opener) -> None:
    async def promise() -> None:
        seen = []
        for _ in range(3):
            store = opener()
            seen.append(await store.open())
            await store.close()

        assert [ownership.epoch for ownership in seen] == [1, 2, 3]
        assert [ownership.created for ownership in seen] == [True, False, False]
        assert all(ownership.clean for ownership in seen)
        assert len({ownership.uuid for ownership in seen}) == 1

    run(promise)


def test_what_was_committed_is_there_after_reopening(opener: Opener) -> None:
    async def promise() -> None:
        async with opened(opener) as store:
            await store.apply({b"a": b"1", b"b": b"2"})
        async with opened(opener) as store:
            assert await store.apply({}, [EVERYTHING]) == [[(b"a", b"1"), (b"b", b"2")]]

    run(promise)


def test_reads_see_the_writes_beside_them_and_answer_in_order(opener: Opener) -> None:
    async def promise() -> None:
        async with opened(opener) as store:
            await store.apply({b"a": b"old", b"b": b"2", b"c": b"3"})

            results = await store.apply(
                {b"a": b"new", b"b": None, b"missing": None},
                [GetMany([b"c", b"a", b"b"]), Scan(b"a", b"c", 10), GetMany([])],
            )

        assert results == [{b"c": b"3", b"a": b"new"}, [(b"a", b"new")], {}]

    run(promise)


def test_scan_is_bounded_by_start_end_and_limit(opener: Opener) -> None:
    async def promise() -> None:
        pairs = [(bytes([65 + n]), b"v") for n in range(6)]
        async with opened(opener) as store:
            await store.apply(dict(reversed(pairs)))

            results = await store.apply(
                {},
                [
                    Scan(b"B", b"E", 10),
                    Scan(b"A", b"Z", 2),
                    Scan(b"AA", b"B", 10),
                    Scan(b"E", b"B", 10),
                    Scan(b"A", b"Z", 0),
                    Scan(b"", b"B", 10),
                    Scan(b"Z", b"\xff", 10),
                ],
            )

        assert results == [pairs[1:4], pairs[:2], [], [], [], pairs[:1], []]

    run(promise)


def test_scan_backwards_gives_the_same_pairs_from_the_last(opener: Opener) -> None:
    async def promise() -> None:
        pairs = [(bytes([65 + n]), b"v") for n in range(6)]
        async with opened(opener) as store:
            (nothing,) = await store.apply({}, [Scan(b"\1", b"Z", 9, reverse=True)])
            await store.apply(dict(pairs))

            results = await store.apply(
                {},
                [
                    Scan(b"B", b"E", 10, reverse=True),
                    Scan(b"A", b"Z", 2, reverse=True),
                    Scan(b"\1", b"A", 10, reverse=True),
                    Scan(b"E", b"B", 10, reverse=True),
                    Scan(b"A", b"Z", 0, reverse=True),
                    Scan(b"", b"B", 10, reverse=True),
                    Scan(b"B", b"C\0", 10, reverse=True),
                ],
            )

        assert nothing == []
        back = pairs[::-1]
        assert results == [back[2:5], back[:2], [], [], [], back[5:], back[3:5]]

    run(promise)


def test_calls_made_together_take_place_in_order(opener: Opener) -> None:
    async def promise() -> None:
        async with opened(opener) as store:
            calls = [
                store.apply({b"last": b"%d" % n, b"%d" % n: b""}, [GetMany([b"last"])])
                for n in range(20)
            ]
            results = await asyncio.gather(*calls, store.stats())

        assert results[:20] == [[{b"last": b"%d" % n}] for n in range(20)]

    run(promise)


def test_longest_key_and_large_value_are_kept(opener: Opener) -> None:
    async def promise() -> None:
        key, value = b"k" * 511, bytes(range(256)) * 4096
        async with opened(opener) as store:
            (found,) = await store.apply({key: value, b"empty": b""}, [GetMany([key, b"empty"])])

        assert found == {key: value, b"empty": b""}

    run(promise)


def test_stats_grow_and_shrink_with_the_content(opener: Opener) -> None:
    async def promise() -> None:
        async with opened(opener) as store:
            empty = await store.stats()
            await store.apply({b"k%03d" % n: b"v" * 500 for n in range(400)})
            full = await store.stats()
            await store.apply({b"k%03d" % n: None for n in range(400)})
            again = await store.stats()

        assert full.entries == 400
        assert full.used_bytes >= 400 * 500
        assert again.entries == 0
        assert again.used_bytes == empty.used_bytes

    run(promise)


def test_close_may_come_early_and_twice_and_ends_all_calls(opener: Opener) -> None:
    async def promise() -> None:
        never_opened = opener()
        await never_opened.close()
        store = opener()
        await store.open()

        await store.close()
        await store.close()

        with pytest.raises(StoreError, match="closed"):
            await store.apply({b"a": b"1"})
        with pytest.raises(StoreError, match="closed"):
            await store.stats()

    run(promise)


KEYS = st.binary(min_size=1, max_size=4).filter(lambda key: key[0] > 0)
BOUNDS = st.binary(max_size=4)
READS = st.one_of(
    st.builds(GetMany, st.lists(KEYS, max_size=8)),
    st.builds(Scan, BOUNDS, BOUNDS, st.integers(0, 20)),
)
WRITES = st.dictionaries(KEYS, st.none() | st.binary(max_size=300), max_size=30)


def expected(model: dict[bytes, bytes], read: Read) -> Result:
    if isinstance(read, GetMany):
        return {key: model[key] for key in read.keys if key in model}
    inside = [pair for pair in model.items() if read.start <= pair[0] < read.end]
    inside.sort(reverse=read.reverse)
    return inside[: read.limit]


class StoreMachine(RuleBasedStateMachine):
    """Any store against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model: dict[bytes, bytes] = {}
        self.epoch = 0

    @abstractmethod
    def opener(self) -> Opener: ...

    @initialize()
    def begin(self) -> None:
        self.open_store = self.opener()
        self.open()

    def open(self) -> None:
        self.store = self.open_store()
        ownership = self.runner.run(self.store.open())
        assert ownership.epoch == self.epoch + 1
        self.epoch = ownership.epoch

    @rule(writes=WRITES, reads=st.lists(READS, max_size=4))
    def apply(self, writes: dict[bytes, bytes | None], reads: list[Read]) -> None:
        results = self.runner.run(self.store.apply(writes, reads))

        for key, value in writes.items():
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value
        assert results == [expected(self.model, read) for read in reads]

    @rule()
    def count(self) -> None:
        assert self.runner.run(self.store.stats()).entries == len(self.model)

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.open()
        assert self.runner.run(self.store.apply({}, [EVERYTHING])) == [sorted(self.model.items())]

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()


class MemoryMachine(StoreMachine):
    def opener(self) -> Opener:
        return memory_opener(Path())


class LmdbMachine(StoreMachine):
    def opener(self) -> Opener:
        self.folder = tempfile.TemporaryDirectory()
        return lmdb_opener(Path(self.folder.name))

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=60, deadline=None)
TestLmdbMachine = LmdbMachine.TestCase
TestLmdbMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
