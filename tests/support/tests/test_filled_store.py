import asyncio
from pathlib import Path

from coordinator.core.effects import Scan
from coordinator.store.lmdb_store import LmdbStore
from protocol.messages import State
from tests.coordinator.core.audit import Audit
from tests.support.filled_store import MAP_BYTES, count_of, fill

NOW_MS = 1_800_000_000_000


def test_store_keeps_the_promises_of_the_layout(tmp_path: Path) -> None:
    async def pairs() -> dict[bytes, bytes]:
        await fill(tmp_path / "s", 2_000, NOW_MS)
        store = LmdbStore(tmp_path / "s", map_bytes=MAP_BYTES, allow_filesystem=True)
        await store.open()
        (found,) = await store.apply({}, [Scan(b"\1", b"\xff", 1 << 30)])
        await store.close()
        return dict(found)

    audit = Audit(asyncio.run(pairs()))

    assert not audit.problems()
    states = [task.state for task in audit.tasks.values()]
    assert {state: states.count(state) for state in set(states)} == {
        state: count_of(state, 2_000)
        for state in (State.READY, State.SCHEDULED, State.SUCCEEDED, State.DEAD)
    }
