"""What the LMDB store refuses, and that each refusal names the fix and harms nothing."""

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.core.effects import GetMany, Scan
from coordinator.errors import Corrupt, Fenced, Refused, StoreError, Unknown
from coordinator.store import filesystems, lmdb_store, meta
from coordinator.store.base import Ownership
from coordinator.store.lmdb_file import bytes_missing
from coordinator.store.lmdb_store import LmdbStore

CHILD_SECONDS = 30


def a_store(folder: Path, map_bytes: int = 2**26) -> LmdbStore:
    return LmdbStore(folder / "store", map_bytes=map_bytes, allow_filesystem=True)


def run(promise: Callable[[], Any]) -> None:
    asyncio.run(promise())


async def open_and_close(store: LmdbStore) -> Ownership:
    try:
        return await store.open()
    finally:
        await store.close()


async def fill(folder: Path, pairs: int = 500) -> None:
    store = a_store(folder)
    await store.open()
    await store.apply({b"k%05d" % n: b"v" * 1000 for n in range(pairs)})
    await store.close()


def refusal(folder: Path, kind: type[StoreError] = Refused, **changes: int) -> str:
    with pytest.raises(kind) as caught:
        asyncio.run(open_and_close(a_store(folder, **changes)))
    return str(caught.value)


def raw_child(folder: Path, code: str) -> None:
    """Run code in a process that goes past the store's lock: py-lmdb allows one opening each."""
    script = textwrap.dedent(f"""
        import lmdb
        from coordinator.store import meta
        env = lmdb.open({str(folder / "store")!r}, map_size=2**26, lib_version=0)
    """) + textwrap.dedent(code)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=CHILD_SECONDS)


def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    run(lambda: fill(tmp_path))

    files = list((tmp_path / "store").iterdir())
    assert (tmp_path / "store").stat().st_mode & 0o077 == 0
    assert {file.name for file in files} >= {"data.mdb", "pillion.store", "pillion.clean"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_first_start_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "store" / "new"
    unfinished.mkdir(parents=True)
    (unfinished / "data.mdb").write_bytes(bytes(8192))

    assert asyncio.run(open_and_close(a_store(tmp_path))).created
    assert not unfinished.exists()
    assert not asyncio.run(open_and_close(a_store(tmp_path))).created


def test_second_opener_is_refused_and_told_the_pid_of_the_first(tmp_path: Path) -> None:
    async def promise() -> None:
        first = a_store(tmp_path)
        await first.open()

        with pytest.raises(Refused, match=rf"in use by pid {os.getpid()} on .+; stop that process"):
            await open_and_close(a_store(tmp_path))

        await first.apply({b"a": b"1"})
        await first.close()
        assert (await open_and_close(a_store(tmp_path))).clean

    run(promise)


def test_other_format_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    run(lambda: fill(tmp_path))
    raw_child(
        tmp_path,
        """
        with env.begin(write=True) as txn:
            data = txn.get(meta.META_KEY)
            txn.put(meta.META_KEY, data[:8] + bytes([0, 3]) + data[10:])
        """,
    )

    assert "format 3, this build reads format 2" in refusal(tmp_path)
    assert "format 3, this build reads format 2" in refusal(tmp_path)


def test_damaged_own_record_is_told_with_what_to_do(tmp_path: Path) -> None:
    run(lambda: fill(tmp_path))
    raw_child(
        tmp_path,
        """
        with env.begin(write=True) as txn:
            txn.put(meta.META_KEY, txn.get(meta.META_KEY)[:-1] + b"?")
        """,
    )

    assert "own record is damaged; restore the store from a backup" in refusal(tmp_path, Corrupt)


def test_lmdb_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    raw_child(
        tmp_path,
        """
        with env.begin(write=True) as txn:
            txn.put(b"x", b"y")
        """,
    )

    assert "no Pillion store; set data_dir" in refusal(tmp_path)


def test_file_that_is_no_lmdb_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"what is this? " * 1000)

    assert "data.mdb" in refusal(tmp_path, StoreError)


def test_no_empty_store_is_made_where_one_was_lost(tmp_path: Path) -> None:
    run(lambda: fill(tmp_path))
    (tmp_path / "store" / "data.mdb").unlink()

    assert "data.mdb is gone; mount its disk or restore a backup" in refusal(tmp_path)
    assert not (tmp_path / "store" / "data.mdb").exists()


def test_no_empty_file_replaces_a_store_that_was_cut_to_nothing(tmp_path: Path) -> None:
    run(lambda: fill(tmp_path))
    (tmp_path / "store" / "data.mdb").write_bytes(b"")

    assert "data.mdb is gone" in refusal(tmp_path)


def test_map_larger_than_the_address_space_is_refused_with_the_setting(tmp_path: Path) -> None:
    assert "lower store_map_size" in refusal(tmp_path, map_bytes=2**47)


def test_call_before_opening_is_our_own_mistake(tmp_path: Path) -> None:
    async def promise() -> None:
        store = a_store(tmp_path)
        with pytest.raises(AssertionError):
            await store.apply({b"a": b"1"})
        await store.close()

    run(promise)


def test_files_of_two_stores_are_not_mixed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        asyncio.run(fill(tmp_path / name))
    other = (tmp_path / "two" / "store" / "data.mdb").read_bytes()
    (tmp_path / "one" / "store" / "data.mdb").write_bytes(other)

    assert "files of two stores are mixed" in refusal(tmp_path / "one")


@pytest.mark.parametrize("verified_bytes_max", [lmdb_store.VERIFY_BYTES_MAX, 0])
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_file_cut_short_is_found_before_it_can_end_the_process(
    tmp_path: Path, keep: float, verified_bytes_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_store, "VERIFY_BYTES_MAX", verified_bytes_max)
    run(lambda: fill(tmp_path))
    data_file = tmp_path / "store" / "data.mdb"
    size = data_file.stat().st_size
    kept = int(size * keep) // 4096 * 4096
    os.truncate(data_file, kept)

    assert f"is {size - kept} bytes shorter than its last commit left it" in refusal(
        tmp_path, Corrupt
    )


def test_file_without_free_pages_at_its_end_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not written by LMDB when a transaction takes and returns them."""
    monkeypatch.setattr(lmdb_store, "VERIFY_BYTES_MAX", 0)

    async def promise() -> None:
        store = a_store(tmp_path)
        await store.open()
        await store.apply({b"large": bytes(400_000)})
        await store.apply({b"large": None})
        await store.apply({b"small": b"1"})
        await store.close()
        data_file = tmp_path / "store" / "data.mdb"
        os.truncate(data_file, data_file.stat().st_size - 4096)

        assert bytes_missing(data_file) == 4096
        assert not (await open_and_close(a_store(tmp_path))).clean

    run(promise)


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")

    assert "make it a folder that the user of this process may write to" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)

    assert "Permission denied; make it a folder" in refusal(tmp_path)


def test_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "pillion.lock").symlink_to(victim)

    refusal(tmp_path)

    assert victim.read_text() == "precious"


@pytest.mark.parametrize(("kind", "refused"), [("nfs4", True), ("overlay", True), ("ext4", False)])
def test_filesystem_is_looked_at_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, refused: bool
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 0 8:1 / / rw - {kind} x rw\n")
    monkeypatch.setattr(filesystems, "_MOUNTINFO", mountinfo)
    strict = LmdbStore(tmp_path / "store", map_bytes=2**26)

    if refused:
        with pytest.raises(Refused, match=f"no place for a store: {kind}.*allow_filesystem"):
            asyncio.run(open_and_close(strict))
        assert list((tmp_path / "store").iterdir()) == []
        allowed = asyncio.run(open_and_close(a_store(tmp_path)))
        assert kind in allowed.warnings[0]
    else:
        assert asyncio.run(open_and_close(strict)).warnings == ()


def test_store_in_memory_filesystem_is_allowed_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("1 0 8:1 / / rw - tmpfs x rw\n")
    monkeypatch.setattr(filesystems, "_MOUNTINFO", mountinfo)

    ownership = asyncio.run(open_and_close(LmdbStore(tmp_path / "store", map_bytes=2**26)))

    assert "gone when the machine restarts" in ownership.warnings[0]


def test_later_owner_fences_this_one_inside_its_transaction(tmp_path: Path) -> None:
    async def promise() -> None:
        store = a_store(tmp_path)
        ownership = await store.open()
        later = meta.Meta(ownership.uuid, ownership.epoch + 1, 0).encode()
        raw_child(
            tmp_path,
            f"""
            with env.begin(write=True) as txn:
                txn.put(meta.META_KEY, {later!r})
            """,
        )

        with pytest.raises(Fenced):
            await store.apply({b"a": b"1"})

        with pytest.raises(Fenced):
            await store.apply({}, [GetMany([b"a"])])
        await store.close()
        again = a_store(tmp_path)
        assert (await again.open()).epoch == ownership.epoch + 2
        assert await again.apply({}, [GetMany([b"a"])]) == [{}]
        await again.close()

    run(promise)


def test_full_map_stops_the_store_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    async def promise() -> None:
        store = a_store(tmp_path, map_bytes=2**20)
        await store.open()
        acknowledged = 0

        with pytest.raises(Unknown, match="raise store_map_size and start again"):
            while acknowledged < 1000:
                await store.apply({b"k%05d" % acknowledged: b"v" * 10_000})
                acknowledged += 1

        with pytest.raises(Unknown):
            await store.apply({b"k00000": None})
        with pytest.raises(Unknown):
            await store.stats()
        await store.close()
        larger = a_store(tmp_path)
        assert not (await larger.open()).clean
        (pairs,) = await larger.apply({}, [Scan(b"k", b"l", 1000)])
        assert 0 < len(pairs) == acknowledged
        await larger.close()

    run(promise)


def test_key_too_long_fails_the_commit_as_a_whole(tmp_path: Path) -> None:
    async def promise() -> None:
        store = a_store(tmp_path)
        await store.open()

        with pytest.raises(Unknown):
            await store.apply({b"a": b"1", b"k" * 512: b"2"})

        await store.close()
        again = a_store(tmp_path)
        await again.open()
        assert await again.apply({}, [GetMany([b"a"])]) == [{}]
        await again.close()

    run(promise)


def test_forked_process_may_not_use_the_store(tmp_path: Path) -> None:
    script = f"""
        import asyncio, os, sys
        from pathlib import Path
        from coordinator.errors import StoreError
        from coordinator.store.lmdb_store import LmdbStore

        async def main():
            store = LmdbStore(Path({str(tmp_path)!r}), map_bytes=2**26, allow_filesystem=True)
            await store.open()
            child = os.fork()
            if child == 0:
                for call in (store.apply({{b"a": b"child"}}), store.stats(), store.close()):
                    try:
                        await call
                    except StoreError as error:
                        assert "was forked from process" in str(error)
                    else:
                        os._exit(1)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            await store.apply({{b"a": b"parent"}})
            await store.close()

        asyncio.run(main())
    """

    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        check=True,
        timeout=CHILD_SECONDS,
    )


def test_stats_tell_map_file_and_disk(tmp_path: Path) -> None:
    async def promise() -> None:
        store = a_store(tmp_path)
        await store.open()
        stats = await store.stats()
        await store.close()

        assert stats.map_bytes == 2**26
        assert 0 < stats.used_bytes <= stats.file_bytes
        assert 0 < stats.disk_free_bytes <= stats.disk_total_bytes
        assert stats.entries == 0

    run(promise)
