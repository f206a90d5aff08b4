"""The coordinator with its socket: commit, then send, and nothing else when a commit fails."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from coordinator.core.effects import Read
from coordinator.errors import StoreError
from coordinator.runtime import Coordinator
from coordinator.settings import build, read
from coordinator.store.base import Result, Writes
from coordinator.store.memory_store import MemoryStore
from protocol import codec
from protocol import messages as m
from tests.support.builders import a_batch, a_hello

HANDLER = "email.send"


class HeldStore(MemoryStore):
    """A store in memory whose commits can be held back."""

    def __init__(self) -> None:
        super().__init__()
        self._letter = b""
        self._held = asyncio.Event()
        self._go = asyncio.Event()

    def hold(self, letter: bytes) -> None:
        """Hold back the next commit that puts a key which begins like this."""
        self._letter = letter
        self._held.clear()
        self._go.clear()

    async def held(self) -> None:
        """Wait until it is under way."""
        await self._held.wait()

    def release(self) -> None:
        """Let it take place."""
        self._letter = b""
        self._go.set()

    async def apply(self, writes: Writes, reads: Sequence[Read] = ()) -> list[Result]:
        if self._letter and any(key[:1] == self._letter and value for key, value in writes.items()):
            self._held.set()
            await self._go.wait()
        return await super().apply(writes, reads)


class Line:
    """A connection to a coordinator that runs beside it."""

    def __init__(self, address: str) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(address)

    async def say(self, message: m.Message) -> None:
        await self._socket.send(codec.encode(message))

    async def hear(self) -> m.Message:
        return codec.decode(await self._socket.recv())

    async def serve(self) -> None:
        """Open a session and serve a handler, without demand."""
        await self.say(a_hello())
        assert isinstance(await self.hear(), m.Welcome)
        await self.say(m.Handlers([m.Declaration(HANDLER, {})]))

    def close(self) -> None:
        self._context.destroy(linger=0)


class Announced(Coordinator):
    """Tells its address to the test that runs it."""

    address: "asyncio.Future[str]"

    def _announce(self, address: str) -> None:
        super()._announce(address)
        self.address.set_result(address)


Body = Callable[[HeldStore, Line, "asyncio.Task[None]"], Awaitable[None]]


def run(folder: Path, body: Body) -> None:
    """Run a coordinator, and beside it the body of a test."""

    async def both() -> None:
        settings = build(
            read(flags={"bind": "tcp://127.0.0.1:0", "data_dir": str(folder)}, environ={})
        )
        store, stop = HeldStore(), asyncio.Event()
        coordinator = Announced(settings, store)
        coordinator.address = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(coordinator.run(stop))
        line = Line(await coordinator.address)
        try:
            await line.serve()
            await body(store, line, running)
        finally:
            line.close()
            store.release()
            stop.set()
            await asyncio.wait([running])

    asyncio.run(both())


def test_nothing_leaves_before_its_commit(tmp_path: Path) -> None:
    async def body(store: HeldStore, line: Line, running: "asyncio.Task[None]") -> None:
        async def held_back(letter: bytes, said: m.Message) -> m.Message:
            store.hold(letter)
            await line.say(said)
            await store.held()
            # BEAT waits for no commit: what had left before it would come before it.
            await line.say(m.Heartbeat(7, [], []))
            assert isinstance(await line.hear(), m.Beat)
            store.release()
            return await line.hear()

        assert isinstance(await held_back(b"t", m.Submit([a_batch()])), m.Accepted)
        grant = await held_back(b"g", m.Demand([m.Limit(HANDLER, 1)]))
        assert isinstance(grant, m.Grant)
        [(_, [task])] = grant.groups
        outcome = m.Outcome(task.id, task.token, m.OutcomeKind.SUCCESS, 0, None)
        assert isinstance(await held_back(b"t", m.Outcomes(1, [outcome])), m.Recorded)

    run(tmp_path, body)


def test_failed_commit_ends_the_coordinator_and_answers_nothing(tmp_path: Path) -> None:
    async def body(store: HeldStore, line: Line, running: "asyncio.Task[None]") -> None:
        store.hold(b"t")
        await line.say(m.Submit([a_batch()]))
        await store.held()
        store.fail_commit(1, committed=True)
        store.release()

        answer = asyncio.create_task(line.hear())
        await asyncio.wait([running, answer], return_when=asyncio.FIRST_COMPLETED)

        assert not answer.done()
        answer.cancel()
        with pytest.raises(StoreError, match="may or may not have taken place"):
            running.result()

    run(tmp_path, body)
