"""A coordinator that runs in the test's own event loop, and lines to it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import zmq
import zmq.asyncio

from coordinator.core.effects import Read
from coordinator.runtime import Coordinator
from coordinator.settings import Settings, build, read
from coordinator.store.base import Result, Store, Writes
from coordinator.store.memory_store import MemoryStore
from protocol import codec
from protocol import messages as m
from protocol.submission import encode_batch
from tests.support.builders import a_hello

HANDLER = "email.send"
_M = TypeVar("_M")


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
        """Commit and read, once nobody holds it back."""
        if self._letter and any(key[:1] == self._letter and value for key, value in writes.items()):
            self._held.set()
            await self._go.wait()
        return await super().apply(writes, reads)


class Line:
    """A connection to a coordinator that runs beside it."""

    def __init__(self, address: str, number: int = 1) -> None:
        self._context = zmq.asyncio.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.connect(address)
        self._incarnation = number.to_bytes(16, "big")
        self._session = 0

    async def say(self, message: m.Message) -> None:
        """Send a message."""
        await self.socket.send(codec.encode(message))

    async def hear(self) -> m.Message:
        """Return the next message."""
        return codec.decode(await self.socket.recv())

    async def hear_only(self, kind: type[_M]) -> _M:
        """Return the next message, which must be of this kind."""
        message = await self.hear()
        assert isinstance(message, kind), message
        return message

    async def hello(self) -> m.Welcome:
        """Open or resume the session."""
        await self.say(a_hello(incarnation=self._incarnation, session=self._session))
        welcome = await self.hear_only(m.Welcome)
        self._session = welcome.session
        return welcome

    async def serve(self, total: int | None = None, **policy: int) -> None:
        """Open a session and serve a handler, without demand or with some."""
        await self.hello()
        await self.say(m.Handlers([m.Declaration(HANDLER, policy)]))
        if total is not None:
            await self.say(m.Demand([m.Limit(HANDLER, total)]))

    async def submit(self, *submissions: m.Submission) -> m.Verdict:
        """Submit a batch and return the verdict, which must come next."""
        await self.say(m.Submit([m.Batch(1, encode_batch(list(submissions)))]))
        return (await self.hear_only(m.Accepted)).verdicts[0]

    async def status(self, task_id: bytes) -> m.Status | None:
        """Return the status of a task, which must come next."""
        await self.say(m.Query([m.Question(1, task_id, 0)]))
        return (await self.hear_only(m.Answer)).replies[0].status

    def close(self) -> None:
        """Drop the connection."""
        self._context.destroy(linger=0)


async def send_and_lose(socket: "zmq.asyncio.Socket", data: bytes) -> None:
    """Send what costs the connection, and wait until it is gone."""
    monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        await socket.send(data)
        await monitor.recv_multipart()
    finally:
        socket.disable_monitor()
        monitor.close(linger=0)


class Running(Coordinator):
    """A coordinator that tells its address to the test that runs it, and what it logs."""

    def __init__(self, settings: Settings, store: Store) -> None:
        super().__init__(settings, store)
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.stop = asyncio.Event()
        self.ended: asyncio.Task[None] = asyncio.create_task(self.run(self.stop))
        self._lines: list[Line] = []

    def _announce(self, address: str) -> None:
        super()._announce(address)
        self.address.set_result(address)

    async def line(self, number: int = 1) -> Line:
        """Return a new connection to it."""
        either: set[asyncio.Future[Any]] = {self.ended, self.address}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        line = Line(self.address.result(), number)
        self._lines.append(line)
        return line

    async def end(self) -> None:
        """Tell it to stop, and wait until it has."""
        self.stop.set()
        await asyncio.wait([self.ended])
        for line in self._lines:
            line.close()


Body = Callable[[Running], Awaitable[None]]


def settings_for(folder: Path, **flags: Any) -> Settings:
    """Return settings for a coordinator in a folder."""
    defaults = {"bind": "tcp://127.0.0.1:0", "data_dir": str(folder / "data"), "http": False}
    return build(read(flags=defaults | flags, environ={}))


def run(folder: Path, body: Body, store: Store | None = None, **flags: Any) -> None:
    """Run a coordinator, and beside it the body of a test."""

    async def both() -> None:
        running = Running(settings_for(folder, **flags), store or MemoryStore())
        try:
            await body(running)
        finally:
            await running.end()

    asyncio.run(both())
