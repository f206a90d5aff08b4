"""Kill the process that writes: whatever it acknowledged is there."""

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.core.effects import GetMany, Scan
from coordinator.store.lmdb_store import LmdbStore

WRITER = """
import asyncio, sys
from pathlib import Path
from coordinator.store.lmdb_store import LmdbStore

async def main():
    store = LmdbStore(Path(sys.argv[1]), map_bytes=2**30, allow_filesystem=True)
    await store.open()
    round_ = int(sys.argv[2])
    for number in range(1_000_000):
        name = b"%d.%d" % (round_, number)
        batch = {b"k" + name + b".%d" % place: name * 20 for place in range(50)}
        await store.apply({**batch, b"last": name})
        print(number, flush=True)

asyncio.run(main())
"""


def write_and_kill(folder: Path, round_: int, acknowledgements: int) -> int:
    """Return the number of the last batch that the killed writer had acknowledged."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(round_)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer, writer.stdout as lines:
        seen = [int(line) for line in itertools.islice(lines, acknowledgements)]
        writer.kill()
        # What the pipe still holds was acknowledged too; a line cut by the kill was not.
        seen += [int(line) for line in lines if line.endswith("\n")]
    assert len(seen) >= acknowledgements, "the writer ended by itself"
    return seen[-1]


async def check(folder: Path, last: dict[int, int]) -> None:
    store = LmdbStore(folder, map_bytes=2**30, allow_filesystem=True)
    ownership = await store.open()
    assert not ownership.clean
    for round_, acknowledged in last.items():
        for number in range(acknowledged + 1):
            name = b"%d.%d" % (round_, number)
            (pairs,) = await store.apply({}, [Scan(b"k" + name + b".", b"k" + name + b"/", 100)])
            assert isinstance(pairs, list)
            assert len(pairs) == 50, name
            assert {value for _, value in pairs} == {name * 20}
    await check_last_batch(store, max(last), last[max(last)])
    await store.close()


async def check_last_batch(store: LmdbStore, round_: int, acknowledged: int) -> None:
    """Whatever was committed last is there as a whole, acknowledged or not."""
    (found,) = await store.apply({}, [GetMany([b"last"])])
    assert isinstance(found, dict)
    name = found[b"last"]
    assert int(name.split(b".")[0]) == round_
    assert int(name.split(b".")[1]) >= acknowledged
    (pairs,) = await store.apply({}, [Scan(b"k" + name + b".", b"k" + name + b"/", 100)])
    assert len(pairs) == 50


@pytest.mark.timeout(120)
def test_everything_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    last: dict[int, int] = {}

    for round_, acknowledgements in enumerate((1, 40, 7, 150)):
        last[round_] = write_and_kill(tmp_path / "store", round_, acknowledgements)
        asyncio.run(check(tmp_path / "store", last))
