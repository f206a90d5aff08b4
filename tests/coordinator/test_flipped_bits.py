"""Flip one bit in each kind of row of a real store: every task still ends, or is told of.

The store holds tasks in every state. One row is changed on the disk, a coordinator starts on it,
the sidecars come back, and all that waits for a time of day comes due. Nobody is handed anything
but what was submitted, no task is in two hands, and nothing stays behind.
"""

import asyncio
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from coordinator.core.effects import Scan
from coordinator.core.shard import Received
from coordinator.store.base import Pair
from coordinator.store.lmdb_store import LmdbStore
from protocol import messages as m
from protocol.limits import DAY_MS
from protocol.submission import encode_batch
from tests.coordinator.core.bench import small_windows
from tests.crash_images.shell import Shell
from tests.crash_images.traffic import Clock
from tests.support.builders import a_hello, a_submission, task_id

KINDS = "tprsxghmn"
SEEDS = range(int(os.environ.get("PILLION_FLIPS", "3")))
"""Flips in each kind of row."""
HANDLER = "email.send"
TASKS = 60
HOLD_MS = 11_000
DELAY_MS = 40_000
HELD = bytes([1]) * 16
EVERYTHING = Scan(b"\1", b"\xff", 100_000)
ALARMS = ("row_damaged", "record_corrupt", "payload_damaged", "payload_missing")


def payload_of(number: int) -> bytes:
    """Return what task ``number`` carries; every third is stored apart."""
    return b"%d" % number * (100 if number % 3 == 0 else 1)


class Filled(NamedTuple):
    """A store with tasks in every state."""

    folder: Path
    held: list[m.Lease]
    """What a sidecar holds."""
    handed: set[bytes]
    """Tasks that have been handed out, whatever has come of them."""


class Life:
    """One coordinator on a store, and the sidecars that work for it."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        store = LmdbStore(folder, map_bytes=2**24, allow_filesystem=True)
        self.shell = Shell(store, clock, session_timeout_ms=10_000)
        self.running: dict[bytes, m.GrantedTask] = {}
        self.handed: list[m.GrantedTask] = []
        self._outcomes = 0

    async def pairs(self) -> list[Pair]:
        """Return all that the store holds."""
        [pairs] = await self.shell.store.apply({}, [EVERYTHING])
        assert isinstance(pairs, list)
        return pairs

    async def greet(self, peer: bytes, incarnation: bytes, held: list[m.Lease]) -> m.Welcome:
        """Let a sidecar come (back) and ask for all there is."""
        self.shell.sent.clear()
        await self.shell.say(peer, a_hello(incarnation=incarnation, held=held))
        [welcome] = [o.message for o in self.shell.sent if isinstance(o.message, m.Welcome)]
        await self.shell.say(peer, m.Handlers([m.Declaration(HANDLER, {})]))
        return welcome

    async def ask(self, peer: bytes, total: int) -> list[m.GrantedTask]:
        """State demand, and return what is granted."""
        self.shell.sent.clear()
        await self.shell.say(peer, m.Demand([m.Limit(HANDLER, total)]))
        return self.granted()

    def granted(self) -> list[m.GrantedTask]:
        """Return what has been granted since the last look."""
        grants = [o.message for o in self.shell.sent if isinstance(o.message, m.Grant)]
        self.shell.sent.clear()
        tasks = [task for grant in grants for _, group in grant.groups for task in group]
        self.handed += tasks
        return tasks

    async def report(self, peer: bytes, *outcomes: m.Outcome) -> None:
        """Report outcomes."""
        self._outcomes += 1
        await self.shell.say(peer, m.Outcomes(self._outcomes, list(outcomes)))

    async def advance(self, ms: int) -> None:
        """Let time pass, with whatever comes due in it."""
        self.clock.advance(ms)
        await self.shell.tick()

    def alarms(self) -> list[dict[str, Any]]:
        """Return what operators were told of damage."""
        return [note.fields for note in self.shell.notes if note.event in ALARMS]


async def fill(folder: Path, clock: Clock) -> Filled:
    """Make the store."""
    life = Life(folder, clock)
    await life.shell.start()
    peer = b"first"
    await life.greet(peer, HELD, [])
    for n in range(1, TASKS + 1):
        options = {
            1: {"delay_ms": DELAY_MS},
            2: {"expires_ms": 2 * DELAY_MS},
            3: {"priority": m.Priority.LOW},
        }
        task = a_submission(n, payload=payload_of(n), options=options.get(n % 5))
        await life.shell.say(peer, m.Submit([m.Batch(n, encode_batch([task]))]))
    for lease, kind in zip(await life.ask(peer, 12), [0, 1, 3] * 4, strict=True):
        failure = m.Failure("ValueError", "bad", "", DELAY_MS)
        value = None if kind == 0 else failure
        await life.report(peer, m.Outcome(lease.id, lease.token, m.OutcomeKind(kind), 1, value))
    held = [m.Lease(task.id, task.token) for task in await life.ask(peer, 20)]
    assert len(held) == 8
    # Rows of dead letters are read only by who lists them.
    assert {chr(key[0]) for key, _ in await life.pairs()} == {*KINDS, "d"}
    await life.shell.store.close()
    return Filled(folder, held, {task.id for task in life.handed})


async def flip(folder: Path, kind: str, filled: Filled, rng: random.Random) -> bytes:
    """Change one bit of a row of one kind; return its key."""
    store = LmdbStore(folder, map_bytes=2**24, allow_filesystem=True)
    await store.open()
    [pairs] = await store.apply({}, [EVERYTHING])
    assert isinstance(pairs, list)
    rows = [pair for pair in pairs if pair[0][:1] == kind.encode()]
    if kind == "p":  # Nobody reads the payload of a task that has been handed out.
        rows = [pair for pair in rows if pair[0][1:] not in filled.handed]
    key, value = rng.choice(rows)
    flipped = bytearray(value)
    flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    await store.apply({key: bytes(flipped)})
    await store.close()
    return key


async def live_on(life: Life, held: list[m.Lease]) -> dict[bytes, m.State]:
    """Let sidecars do all there is to do; return how each task has ended."""
    await life.shell.start()
    first, second = b"first", b"second"
    welcome = await life.greet(first, HELD, held)
    kept = [lease for lease in held if lease not in welcome.lost]
    await life.greet(second, bytes([2]) * 16, [])
    early = await life.ask(second, 10_000)
    assert {task.id for task in early}.isdisjoint(lease.id for lease in held)
    ended = [m.Outcome(*lease, m.OutcomeKind.SUCCESS, 1, None) for lease in kept]
    await life.report(first, *ended)
    todo = early
    for _ in range(12):
        outcomes = [m.Outcome(*task[:2], m.OutcomeKind.SUCCESS, 1, None) for task in todo]
        await life.report(second, *outcomes)
        life.shell.step(Received(second, m.Heartbeat(1, [], [])))
        await life.advance(HOLD_MS // 2)
        todo = life.granted()
    assert not todo
    return await statuses(life, second)


async def statuses(life: Life, peer: bytes) -> dict[bytes, m.State]:
    """Ask for every task."""
    life.shell.sent.clear()
    questions = [m.Question(n, task_id(n), 0) for n in range(1, TASKS + 1)]
    await life.shell.say(peer, m.Query(questions))
    answers = [o.message for o in life.shell.sent if isinstance(o.message, m.Answer)]
    replies = [reply for answer in answers for reply in answer.replies]
    assert len(replies) == TASKS
    return {reply.status.id: reply.status.state for reply in replies if reply.status is not None}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Make the store once; it is copied for each flip."""
    folder = tmp_path_factory.mktemp("filled") / "store"
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_windows(monkeypatch)
        yield asyncio.run(fill(folder, Clock()))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_task_ends_or_is_told_of(
    kind: str, seed: int, tmp_path: Path, filled: Filled
) -> None:
    folder = tmp_path / "store"
    shutil.copytree(filled.folder, folder)

    async def promise() -> None:
        key = await flip(folder, kind, filled, random.Random(f"{kind} {seed}"))
        life = Life(folder, Clock())
        states = await live_on(life, filled.held)
        await _check(life, key, states)
        await life.shell.store.close()

    asyncio.run(promise())


async def _check(life: Life, key: bytes, states: dict[bytes, m.State]) -> None:
    told = {fields.get("task_id") for fields in life.alarms()}
    for n in range(1, TASKS + 1):
        state = states.get(task_id(n))
        if state is None or not state.terminal:
            assert state is None and task_id(n).hex() in told, f"task {n} is {state}"
    for task in life.handed:
        assert task.payload == payload_of(int.from_bytes(task.id[10:], "big"))
    await life.advance(31 * DAY_MS)
    await life.advance(HOLD_MS)
    assert life.alarms(), "nobody was told"
    left = {found for found, _ in await life.pairs() if found[:1] not in b"hm"}
    # What belongs to a damaged record stays with it.
    dead = {found for found in left if found[:1] == b"d" and found.endswith(key[1:])}
    assert left - dead <= {key, b"p" + key[1:]}
