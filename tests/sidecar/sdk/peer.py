"""A small sidecar for tests: a real Unix server that does what the test tells it.

Nothing of Pillion's sidecar is in it: a test states what it expects to be sent, in order, and
what is answered.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from protocol import local
from protocol import messages as m
from protocol.submission import decode_batch

DEADLINE_S = 10.0
M = TypeVar("M")


class Connection:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = local.Reader(expect_magic=True)
        self._inbox: list[m.Message] = []
        self._batches: list[m.Batch] = []
        self._outcomes: list[m.Outcome] = []
        self._demand: dict[str, int] = {}

    async def expect(self, kind: type[M]) -> M:
        """Return the next message of a kind; others before it stay for later."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for place, message in enumerate(self._inbox):
                    if isinstance(message, kind):
                        del self._inbox[place]
                        return message
                await self._read()

    async def outcomes(self, count: int) -> list[m.Outcome]:
        """Return the next outcomes, ``count`` of them, in the order they were told."""
        while len(self._outcomes) < count:
            self._outcomes += (await self.expect(m.Outcomes)).outcomes
        found, self._outcomes = self._outcomes[:count], self._outcomes[count:]
        return found

    def unread(self, kind: type[M]) -> list[M]:
        """Return, and forget, the messages of a kind that have arrived."""
        found: list[M] = [message for message in self._inbox if isinstance(message, kind)]
        self._inbox = [message for message in self._inbox if not isinstance(message, kind)]
        return found

    def last_demand(self, handler: str = "email.send") -> int:
        """Return the total that was stated last, of what has arrived."""
        return self._demand.get(handler, 0)

    def pause(self) -> None:
        """Stop reading."""
        self._reader_transport().pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        self._reader_transport().resume_reading()

    def _reader_transport(self) -> asyncio.ReadTransport:
        return self._reader._transport  # type: ignore[attr-defined,no-any-return]

    async def demanded(self, total: int, handler: str = "email.send") -> None:
        """Wait until at least so much of a handler was demanded."""
        while True:
            limits = dict((await self.expect(m.Demand)).limits)
            if limits.get(handler, 0) >= total:
                return

    async def told(self) -> list[m.Update]:
        """Return the next updates that attempts tell."""
        return (await self.expect(m.Progress)).updates

    async def submitted(self) -> tuple[m.Batch, list[Any]]:
        """Return the next submitted batch, with its tasks."""
        while not self._batches:
            self._batches += (await self.expect(m.Submit)).batches
        batch = self._batches.pop(0)
        return batch, decode_batch(batch.tasks)

    def accept(self, request: int, *rejections: m.Rejection, known: tuple[int, ...] = ()) -> None:
        """Accept a batch but for the rejections; some of it was there already."""
        verdict = m.Verdict(request, None, "", 0, list(rejections), list(known))
        self.send(m.Accepted([verdict]))

    def refuse(self, request: int, code: str, retry_after_ms: int = 0) -> None:
        """Refuse a batch as a whole."""
        self.send(m.Accepted([m.Verdict(request, code, f"told {code}", retry_after_ms, [])]))

    def hand(self, *tasks: m.GrantedTask, handler: str = "email.send") -> None:
        """Hand over tasks of one handler."""
        self.send(m.Tasks([m.Group(handler, list(tasks))]))

    def send(self, *messages: m.Message) -> None:
        """Send messages in one write."""
        self.send_bytes(b"".join(local.frame(message) for message in messages))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        self._writer.write(data)

    def cut(self) -> None:
        """Break the connection, as a sidecar that is killed does."""
        self._writer.transport.abort()

    async def ended(self) -> None:
        """Wait until the other side has closed."""
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(EOFError, ConnectionError):
                while True:
                    await self._read()

    async def _read(self) -> None:
        data = await self._reader.read(1 << 20)
        if not data:
            raise EOFError(f"the SDK closed the connection; unread: {self._inbox}")
        for message in self._frames.feed(data):
            self._inbox.append(message)
            if isinstance(message, m.Demand):
                self._demand.update(message.limits)


class Peer:
    """The server; ``async with`` starts and stops it, and it may be started again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server: asyncio.Server | None = None
        self._accepted: asyncio.Queue[Connection] = asyncio.Queue()
        self._connections: list[Connection] = []

    async def dialled(self) -> Connection:
        """Return the next connection, before its ATTACH is answered."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._accepted.get()

    async def attached(self) -> tuple[Connection, m.Attach]:
        """Return the next connection, attached, and how it introduced itself."""
        connection = await self.dialled()
        attach = await connection.expect(m.Attach)
        connection.send(m.Attached(1, "peer", 4 * 1024 * 1024))
        return connection, attach

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def stop(self) -> None:
        """Break all connections and stop listening, as a sidecar that is killed does."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cut()
        self._connections.clear()
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self._connections.append(connection)
        self._accepted.put_nowait(connection)


@contextlib.asynccontextmanager
async def served(peer: Peer, service: Any) -> AsyncIterator[Connection]:
    """Serve a service in the background; give its connection, with the first demand still to read.

    At the end the service is stopped; nothing of it may be left running.
    """
    serving = asyncio.create_task(service.serve(drain="5s"))
    try:
        connection, _ = await peer.attached()
        yield connection
        service.stop()
        await connection.expect(m.Inspect)
        connection.send(m.Inspected({}))
        async with asyncio.timeout(DEADLINE_S):
            await serving
    finally:
        serving.cancel()
        await asyncio.wait([serving])
