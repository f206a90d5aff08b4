"""Fail each store call in turn, the n-th for every n: nothing acknowledged is lost or doubled.

A call may fail before it had its effect, or after it: who made it cannot tell. Whatever it was, the
coordinator must end, and start again from what the store holds.
"""

import asyncio
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.cli import EXIT_FAILED, EXIT_REFUSED
from coordinator.errors import StoreError
from coordinator.store.memory_store import MemoryDisk
from protocol import messages as m
from protocol.submission import encode_batch
from tests.coordinator.core.audit import Audit
from tests.coordinator.failing_disk import Fault, Nursery, RealProcess, pairs_in
from tests.coordinator.faulty_store import FaultyStore
from tests.coordinator.in_thread import InThread
from tests.coordinator.lockstep import TASKS, Client, Connection, Ended
from tests.crash_images import recorder
from tests.crash_images.shell import Shell
from tests.crash_images.traffic import TIMEOUT_MS, Clock, Promises, Traffic
from tests.support.builders import a_hello

SEED = 5
ROUNDS = 36
FINISH_ROUNDS = 300
END_SECONDS_MAX = 1.0
"""How long a coordinator may live on after its disk has failed."""
CALLS_MAX = 500
SLOW_MS = 400
"""How long the slow disk takes for each flush."""
BEATS = 10
STRIDE = 1 if os.environ.get("PILLION_FAULTS") == "all" else 5
"""Of the calls of a real process, each so-many-th is failed: all of them take a minute."""
BEFORE_OR_AFTER = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


# The shard alone, under varied traffic


class Kept(Promises):
    """Remembers what was promised, and notices at once when a promise is broken."""

    def __init__(self) -> None:
        self.payloads: dict[bytes, bytes] = {}
        self.succeeded: set[bytes] = set()
        self.problems: list[str] = []
        self._tokens: dict[bytes, int] = {}

    def accepted(self, task: m.Submission) -> None:
        self.payloads[task.id] = task.payload

    def recorded(self, outcome: m.Outcome) -> None:
        if outcome.kind is m.OutcomeKind.SUCCESS:
            self.succeeded.add(outcome.id)

    def granted(self, task: m.GrantedTask) -> None:
        if task.id in self.succeeded:
            self.problems.append(f"{task.id.hex()} is granted, and has succeeded before")
        if task.token <= self._tokens.get(task.id, 0):
            self.problems.append(f"{task.id.hex()} is granted with an old token")
        self._tokens[task.id] = task.token

    def check(self, disk: MemoryDisk) -> list[str]:
        """Return what is wrong, by what is on the disk now."""
        audit = Audit(disk.pairs)
        problems = [*self.problems, *audit.problems()]
        for id_, payload in self.payloads.items():
            task = audit.tasks.get(id_)
            if task is None:
                problems.append(f"{id_.hex()} was accepted, and is lost")
            elif not task.state.terminal:
                stored = disk.pairs[b"p" + id_] if task.payload_apart else task.payload or b""
                if stored != payload:
                    problems.append(f"{id_.hex()} was accepted with another payload")
            elif id_ in self.succeeded and task.state is not m.State.SUCCEEDED:
                problems.append(f"{id_.hex()} had succeeded; it is {task.state.name}")
        return problems


async def run_shard(fail_at: int, *, after: bool) -> FaultyStore:
    """Run the traffic with one fault, restart, go on, and check; return the store that failed."""
    disk, clock, kept = MemoryDisk(), Clock(), Kept()
    traffic = Traffic(SEED, clock, kept)
    rounds = iter(range(ROUNDS))  # Each is begun once, in whichever life.

    async def live(store: FaultyStore) -> None:
        shell = Shell(store, clock, session_timeout_ms=TIMEOUT_MS)
        try:
            await shell.start()
            await traffic.greet(shell)
            for _ in rounds:
                await traffic.round(shell)
            assert await traffic.finish(shell, lambda: _all_ended(disk, kept), FINISH_ROUNDS)
        finally:
            traffic.forget(shell)

    first = FaultyStore(disk, fail_at, after=after)
    try:
        await live(first)
    except StoreError:
        assert kept.check(disk) == []
        await live(FaultyStore(disk))
    assert kept.check(disk) == []
    return first


def _all_ended(disk: MemoryDisk, kept: Kept) -> bool:
    tasks = Audit(disk.pairs).tasks
    return all(tasks[id_].state.terminal for id_ in kept.payloads)


@BEFORE_OR_AFTER
def test_shard_keeps_its_promises_whichever_store_call_fails(after: bool) -> None:
    calls = asyncio.run(run_shard(0, after=after)).calls
    assert calls > 60

    for number in range(1, calls + 1):
        try:
            assert asyncio.run(run_shard(number, after=after)).failed
        except AssertionError as error:
            error.add_note(f"the call that failed was number {number} of {calls}")
            raise


# The coordinator with its sockets, on a store in memory


def run_coordinator(folder: Path, fail_at: int, *, after: bool) -> FaultyStore:
    """Run the client with one fault, restart, go on, and check; return the store that failed."""
    disk, client = MemoryDisk(), Client()
    first = FaultyStore(disk, fail_at, after=after)
    if not _serve(InThread(first, folder), client):
        assert first.failed
        assert client.check(disk.pairs) == []
        assert _serve(InThread(FaultyStore(disk), folder), client), "it ends again"
    assert client.check(disk.pairs) == []
    return first


def _serve(coordinator: InThread, client: Client) -> bool:
    """Let the client go on; return whether it came to its end."""
    address = coordinator.address()
    try:
        if address is None:
            raise Ended
        with Connection(address, coordinator.ended) as connection:
            client.run(connection)
    except Ended:
        coordinator.join(stop=False)
        assert isinstance(coordinator.error, StoreError), coordinator.error
        return False
    coordinator.join(stop=True)
    if coordinator.error is not None:  # The fault came after the client was done.
        assert isinstance(coordinator.error, StoreError), coordinator.error
        return False
    return True


@pytest.mark.timeout(120)
@BEFORE_OR_AFTER
def test_coordinator_ends_whichever_store_call_fails_and_starts_again(
    tmp_path: Path, after: bool
) -> None:
    calls = run_coordinator(tmp_path, 0, after=after).calls
    assert calls > 15

    failed = 0
    for number in range(1, calls + 1):
        try:
            failed += run_coordinator(tmp_path, number, after=after).failed
        except AssertionError as error:
            error.add_note(f"the call that failed was number {number} of {calls}")
            raise
    assert failed > calls // 2  # Timing gathers calls now and then: the last ones may not come.


# The real process, on a real disk that fails


FAULTS = [
    Fault(recorder.Fault.SYNC, errno.EIO),
    Fault(recorder.Fault.SYNC, errno.EIO, after=True),
    Fault(recorder.Fault.SYNC, errno.ENOSPC),
    Fault(recorder.Fault.WRITE, errno.EIO),
    Fault(recorder.Fault.WRITE, errno.ENOSPC),
    Fault(recorder.Fault.WRITE, errno.ENOSPC, after=True),
]


def run_process(nursery: Nursery, folder: Path, fault: Fault, number: int) -> bool:
    """Run the client with one fault, restart, go on, and check; return whether any call failed."""
    folder.mkdir()
    client = Client()
    first = RealProcess(nursery, folder, fault, number)
    finished = _go_on(first, client)
    if first.failed_ns:
        assert first.code in (EXIT_FAILED, EXIT_REFUSED), (first.code, first.text)
        [reason] = [x for x in first.text.splitlines() if x.startswith("pillion-coordinator: ")]
        assert os.strerror(fault.error) in reason, reason
        assert (first.ended_ns - first.failed_ns) / 1e9 < END_SECONDS_MAX, first.text
    else:
        assert (finished, first.code) == (True, 0), first.text
    assert client.check(pairs_in(folder / "data")) == []
    again = RealProcess(nursery, folder)
    assert (_go_on(again, client), again.code) == (True, 0), again.text
    assert client.check(pairs_in(folder / "data")) == []
    return bool(first.failed_ns)


def _go_on(process: RealProcess, client: Client) -> bool:
    address = process.address()
    try:
        if address is None:
            raise Ended
        with Connection(address, process.ended) as connection:
            client.run(connection)
    except Ended:
        process.join(stop=False)
        return False
    process.join(stop=True)
    return True


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    try:
        made = Nursery(tmp_path)
    except recorder.NoCompiler as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_process_ends_at_once_when_its_disk_fails_and_starts_again(
    nursery: Nursery, tmp_path: Path, fault: Fault
) -> None:
    first = 1 + FAULTS.index(fault) % STRIDE  # Each fault takes other calls, if not all.
    for number in range(first, CALLS_MAX, STRIDE):
        try:
            if not run_process(nursery, tmp_path / str(number), fault, number):
                break
        except AssertionError as error:
            error.add_note(f"{fault}, from call {number} on")
            raise
    else:
        raise AssertionError("calls are failed for ever")
    assert number > 20


def test_slow_disk_delays_answers_and_no_heartbeat(nursery: Nursery, tmp_path: Path) -> None:
    process = RealProcess(nursery, tmp_path, slow_ms=SLOW_MS)
    address = process.address()
    assert address is not None
    with Connection(address, process.ended) as connection:
        connection.send(a_hello())
        assert isinstance(connection.receive(), m.Welcome)
        submission = next(iter(TASKS.values()))
        connection.send(m.Submit([m.Batch(1, encode_batch([submission]))]))
        began = time.monotonic()
        for clock_ms in range(BEATS):
            connection.send(m.Heartbeat(clock_ms, [], []))
            answer = connection.receive()
            assert isinstance(answer, m.Beat) and answer.clock_ms == clock_ms, answer
        assert time.monotonic() - began < SLOW_MS / 1000, "heartbeats wait for the disk"
        assert isinstance(connection.receive(), m.Accepted)
    process.join(stop=True)
    assert process.code == 0
