"""The spool's store: what it was told is there after a kill, and what it cannot use it refuses."""

import asyncio
import itertools
import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol import messages as m
from sidecar.core.events import SpoolContents, SpooledBatch, SpoolWork
from sidecar.errors import SpoolUnusable
from sidecar.spool import SpoolStore
from tests.support.builders import a_lease, an_outcome

MIB = 2**20
ALL = 2**30
DEADLINE_SECONDS = 30


@asynccontextmanager
async def opened(
    path: Path, bytes_max: int = MIB
) -> AsyncIterator[tuple[SpoolStore, SpoolContents]]:
    store = SpoolStore(path, bytes_max=bytes_max)
    try:
        yield store, await store.open()
    finally:
        await store.close()


def using(path: Path, use: Callable[[SpoolStore], Awaitable[None]]) -> SpoolContents:
    """Use the store in one opening of it; return what was in it before."""

    async def run() -> SpoolContents:
        async with opened(path) as (store, contents):
            await use(store)
            return contents

    return asyncio.run(run())


def contents(path: Path) -> SpoolContents:
    async def nothing(_: SpoolStore) -> None:
        pass

    return using(path, nothing)


def put(path: Path, *puts: tuple[int, bytes], outcomes: tuple[m.Outcome, ...] = ()) -> None:
    async def work(store: SpoolStore) -> None:
        await store.work(SpoolWork(puts=list(puts), outcome_puts=list(outcomes)))

    using(path, work)


def load(path: Path, after: int = 0, bytes_max: int = ALL) -> list[SpooledBatch]:
    found: list[SpooledBatch] = []

    async def work(store: SpoolStore) -> None:
        found.extend(await store.work(SpoolWork(load_after=after, load_bytes_max=bytes_max)))

    using(path, work)
    return found


def refusal(path: Path) -> str:
    with pytest.raises(SpoolUnusable) as caught:
        contents(path)
    return str(caught.value)


def flip(path: Path, pattern: bytes) -> None:
    """Change one bit of what a file holds."""
    data = bytearray((path / "data.mdb").read_bytes())
    assert data.count(pattern) == 1
    data[data.index(pattern) + len(pattern) // 2] ^= 0x10
    (path / "data.mdb").write_bytes(data)


# --- What it keeps -------------------------------------------------------------------------------


def test_batches_and_outcomes_are_there_at_the_next_opening(tmp_path: Path) -> None:
    failure = m.Failure("ValueError", "no", "a traceback")
    outcomes = (
        an_outcome(1, value=m.Result("text/plain", b"\0result")),
        an_outcome(2, kind=m.OutcomeKind.RETRY, value=failure),
        an_outcome(3, kind=m.OutcomeKind.DEFER, value=failure._replace(retry_after_ms=7)),
        an_outcome(4, token=2**40),
    )
    put(tmp_path, (1, b"one"), (2, b"twenty-two"), outcomes=outcomes)

    found = contents(tmp_path)

    assert found == SpoolContents(2, len(b"onetwenty-two"), 2, outcomes)
    assert [b[:2] + b[3:] for b in load(tmp_path)] == [
        (1, b"one", False),
        (2, b"twenty-two", False),
    ]


def test_empty_folder_holds_nothing_and_is_made(tmp_path: Path) -> None:
    assert contents(tmp_path / "a" / "spool") == SpoolContents()


def test_what_was_removed_is_gone_and_numbers_go_on(tmp_path: Path) -> None:
    put(tmp_path, (1, b"one"), (7, b"seven"), outcomes=(an_outcome(1), an_outcome(2)))

    async def work(store: SpoolStore) -> None:
        await store.work(SpoolWork(removes=[1], outcome_removes=[a_lease(1)]))

    using(tmp_path, work)

    assert contents(tmp_path) == SpoolContents(1, 5, 7, (an_outcome(2),))


def test_batches_are_read_in_the_order_of_their_numbers_behind_one_and_up_to_a_size(
    tmp_path: Path,
) -> None:
    numbers = [1, 2, 255, 256, 257, 65_536, 2**40]
    put(tmp_path, *[(number, bytes(100)) for number in reversed(numbers)])

    assert [b.number for b in load(tmp_path)] == numbers
    assert [b.number for b in load(tmp_path, after=255)] == numbers[3:]
    assert [b.number for b in load(tmp_path, after=2, bytes_max=250)] == [255, 256, 257]
    assert load(tmp_path, after=2**40) == []


def test_what_is_put_can_be_read_by_the_same_work(tmp_path: Path) -> None:
    async def work(store: SpoolStore) -> None:
        both = SpoolWork(puts=[(1, b"one")], load_after=0, load_bytes_max=ALL)
        assert [b.tasks for b in await store.work(both)] == [b"one"]

    using(tmp_path, work)


def test_age_counts_over_openings_and_a_clock_set_back_makes_no_batch_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    put(tmp_path, (1, b"one"))

    now_ns += 90_000 * 1_000_000
    assert [b.age_ms for b in load(tmp_path)] == [90_000]
    now_ns -= 900_000 * 1_000_000
    assert [b.age_ms for b in load(tmp_path)] == [0]


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    umask = os.umask(0)
    try:
        put(path, (1, b"one"))
    finally:
        os.umask(umask)

    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.iterdir()}

    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert set(modes) == {"data.mdb", "lock.mdb", "lock"}
    assert set(modes.values()) == {0o600}


# --- Durable -------------------------------------------------------------------------------------

WRITER = """
import asyncio, sys
from pathlib import Path
from sidecar.core.events import SpoolWork
from sidecar.spool import SpoolStore
from tests.support.builders import an_outcome

async def main():
    store = SpoolStore(Path(sys.argv[1]), bytes_max=2**26)
    number = (await store.open()).last_number
    while True:
        puts = [(number + i, b"%d " % (number + i) * 50) for i in range(1, 21)]
        number += 20
        await store.work(SpoolWork(puts=puts, outcome_puts=[an_outcome(number)]))
        print(number, flush=True)

asyncio.run(main())
"""


def write_and_kill(path: Path, acknowledgements: int) -> int:
    """Return the last number that the killed writer had acknowledged."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer, writer.stdout as lines:
        seen = [int(line) for line in itertools.islice(lines, acknowledgements)]
        writer.kill()
        seen += [int(line) for line in lines if line.endswith("\n")]
    assert len(seen) >= acknowledgements, "the writer ended by itself"
    return seen[-1]


@pytest.mark.timeout(120)
def test_everything_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    for acknowledgements in (1, 40, 7, 150):
        acknowledged = write_and_kill(tmp_path / "spool", acknowledgements)

        found = contents(tmp_path / "spool")
        batches = load(tmp_path / "spool")

        assert found.last_number >= acknowledged
        assert [b.number for b in batches] == list(range(1, found.last_number + 1))
        assert all(b.tasks == b"%d " % b.number * 50 and not b.damaged for b in batches)
        assert len(found.outcomes) == found.last_number // 20


def test_work_under_way_is_done_before_it_closes(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as (store, _):
            await asyncio.gather(store.work(SpoolWork(puts=[(1, bytes(500_000))])), store.close())

    asyncio.run(run())

    assert contents(tmp_path).count == 1


def test_close_may_come_early_and_twice_and_ends_all_work(tmp_path: Path) -> None:
    async def run() -> None:
        store = SpoolStore(tmp_path, bytes_max=MIB)
        await store.close()
        await store.open()
        await store.close()
        await store.close()
        with pytest.raises(SpoolUnusable, match="closed"):
            await store.work(SpoolWork(puts=[(1, b"one")]))

    asyncio.run(run())


# --- Damage --------------------------------------------------------------------------------------


def test_batch_with_a_flipped_bit_is_told_apart_and_harms_no_other(tmp_path: Path) -> None:
    put(tmp_path, (1, b"a" * 40), (2, b"b" * 40), (3, b"c" * 40))

    flip(tmp_path, b"b" * 40)

    assert [(b.number, b.damaged) for b in load(tmp_path)] == [(1, False), (2, True), (3, False)]
    assert contents(tmp_path).bytes == 120


def test_flipped_bit_in_the_time_of_a_batch_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be replayed too late, or never."""
    monkeypatch.setattr(time, "time_ns", lambda: 0x0123456789AB * 1_000_000)
    put(tmp_path, (1, b"one"))

    flip(tmp_path, 0x0123456789AB.to_bytes(8, "big"))

    assert [b.damaged for b in load(tmp_path)] == [True]


def test_damaged_outcome_is_counted_and_removed_and_harms_no_other(tmp_path: Path) -> None:
    value = m.Result(None, b"r" * 40)
    put(tmp_path, outcomes=(an_outcome(1, value=value), an_outcome(2)))

    flip(tmp_path, b"r" * 40)

    async def look(store: SpoolStore) -> None:
        assert store.damaged_outcomes == 1

    assert using(tmp_path, look).outcomes == (an_outcome(2),)
    assert contents(tmp_path).outcomes == (an_outcome(2),)


def test_torn_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    put(tmp_path, *[(number, bytes(10_000)) for number in range(1, 51)])
    with (tmp_path / "data.mdb").open("r+b") as file:
        file.truncate(50_000)

    text = refusal(tmp_path)

    assert "is damaged" in text
    assert "move it away" in text
    assert str(tmp_path / "data.mdb") in text


# --- Refused -------------------------------------------------------------------------------------


def test_second_sidecar_on_the_same_spool_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as (store, _):
            with pytest.raises(
                SpoolUnusable, match=r"another sidecar uses the spool .*--spool-dir"
            ):
                await SpoolStore(tmp_path, bytes_max=MIB).open()
            await store.work(SpoolWork(puts=[(1, b"one")]))

    asyncio.run(run())
    assert contents(tmp_path).count == 1


def test_path_that_is_no_folder_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for path in (tmp_path / "file", tmp_path / "file" / "spool"):
        text = refusal(path)
        assert str(path) in text
        assert "--spool-dir" in text
        assert "--no-spool" in text


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert "symbolic link" in refusal(tmp_path / "link")


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(mode)

    assert "chmod 700" in refusal(tmp_path / "spool")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    os.chown(tmp_path / "spool", 12_345, -1)

    assert "belongs to another user" in refusal(tmp_path / "spool")


def mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    """Let a folder lie on a filesystem of this type."""
    folder.mkdir(mode=0o700)
    mountinfo = folder.parent / "mountinfo"
    mountinfo.write_text(f"22 1 8:1 / {folder} rw,relatime shared:1 - {kind} dev rw\n")
    monkeypatch.setattr("sidecar.spool._MOUNTINFO", mountinfo)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_filesystem_that_keeps_no_store_is_refused_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounted(monkeypatch, tmp_path / "spool", kind)

    said = refusal(tmp_path / "spool")

    assert kind in said
    assert "--no-spool" in said


@pytest.mark.parametrize(
    ("kind", "warning"), [("overlay", "container"), ("tmpfs", "memory"), ("ext4", "")]
)
def test_filesystem_that_may_go_away_is_taken_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, warning: str
) -> None:
    mounted(monkeypatch, tmp_path / "spool", kind)

    async def run() -> str:
        async with opened(tmp_path / "spool") as (store, _):
            return store.warning

    said = asyncio.run(run())
    assert warning in said
    assert bool(said) is bool(warning)


def test_file_of_another_format_is_refused(tmp_path: Path) -> None:
    script = (
        "import lmdb, sys\n"
        "with lmdb.open(sys.argv[1], lib_version=0) as env, env.begin(write=True) as txn:\n"
        "    txn.put(b's12345678', b'of somebody else')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=30)
    tmp_path.chmod(0o700)

    assert "holds no spool" in refusal(tmp_path)


def test_refused_folder_is_not_held(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no LMDB file" * 1_000)
    refusal(tmp_path)

    (tmp_path / "data.mdb").unlink()

    assert contents(tmp_path) == SpoolContents()


# --- Full ----------------------------------------------------------------------------------------


def test_full_map_ends_the_spool_and_keeps_what_was_committed(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as (store, _):
            await store.work(SpoolWork(puts=[(1, b"one")]))
            too_much = SpoolWork(puts=[(number, bytes(MIB)) for number in range(2, 70)])
            with pytest.raises(SpoolUnusable, match="mend its disk"):
                await store.work(too_much)
            with pytest.raises(SpoolUnusable):
                await store.work(SpoolWork(puts=[(2, b"two")]))

    asyncio.run(run())

    assert [b.number for b in load(tmp_path)] == [1]


def test_full_disk_ends_the_spool_and_keeps_what_was_committed(tmp_path: Path) -> None:
    """A limit on the size of files fails a write as a full disk does."""

    async def run() -> None:
        async with opened(tmp_path, 64 * MIB) as (store, _):
            await store.work(SpoolWork(puts=[(1, b"one")]))
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, limits[1]))
            try:
                with pytest.raises(SpoolUnusable, match="mend its disk"):
                    await store.work(SpoolWork(puts=[(2, bytes(4 * MIB))]))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    asyncio.run(run())

    assert [b.number for b in load(tmp_path)] == [1]


def test_failed_store_is_opened_again_when_its_disk_can_be_written(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, 64 * MIB) as (store, _):
            await store.work(SpoolWork(puts=[(1, b"one")]))
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
            try:
                with pytest.raises(SpoolUnusable):
                    await store.work(SpoolWork(puts=[(2, b"two")]))
                with pytest.raises(SpoolUnusable):
                    await store.work(SpoolWork(reopen=True))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            await store.work(SpoolWork(removes=[1, 2], reopen=True))
            await store.work(SpoolWork(puts=[(3, b"three")]))

    asyncio.run(run())

    assert [b.number for b in load(tmp_path)] == [3]
