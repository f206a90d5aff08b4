"""Connections on a real socket become events, and what is sent is written once per turn."""

import asyncio
import contextlib
import os
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol import local
from protocol.limits import FRAME_BYTES_MAX
from protocol.messages import Attached, Goodbye, Group, Inspect, Message, Tasks
from protocol.version import LOCAL_MAGIC
from sidecar.core import events as e
from sidecar.gateway import gateway as gateway_module
from sidecar.gateway.gateway import Gateway
from sidecar.http.server import HttpServer
from tests.sidecar.loops import WAIT_SECONDS, Log, on_each_loop
from tests.support.builders import a_granted_task, an_attach

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Bench:
    """A gateway that serves, and the events it has given."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = Log()
        self.alarms: list[str] = []
        self.turns = 0
        self.gateway = Gateway(
            path,
            step=self.events.add,
            turned=self._turned,
            alarm=lambda n, _: self.alarms.append(n),
            http=HttpServer([]),
        )

    def _turned(self) -> None:
        self.turns += 1

    async def connect(self, data: bytes = LOCAL_MAGIC) -> Streams:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(data)
        return reader, writer

    async def saw(self, kind: type[Any], count: int = 1) -> list[Any]:
        """Wait for so many events of one kind, and return them."""
        await self.events.until(
            lambda items: len([x for x in items if isinstance(x, kind)]) >= count
        )
        return [x for x in self.events.items if isinstance(x, kind)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sidecar.sock"


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Bench]:
    bench = Bench(path)
    await bench.gateway.start()
    try:
        yield bench
    finally:
        await bench.gateway.stop()


async def received(reader: asyncio.StreamReader, count: int) -> list[Message]:
    """Read until so many messages have come."""
    frames = local.Reader(expect_magic=False)
    messages: list[Message] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while len(messages) < count:
            data = await reader.read(65_536)
            assert data, f"the connection ended after {messages}"
            messages += frames.feed(data)
    return messages


async def end_of(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has closed."""
    async with asyncio.timeout(WAIT_SECONDS):
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass


@on_each_loop
async def test_connections_get_numbers_that_are_never_used_twice(path: Path) -> None:
    async with serving(path) as bench:
        for _ in range(2):
            _, writer = await bench.connect()
            writer.close()
        opened = await bench.saw(e.LocalOpened, 2)
        closed = await bench.saw(e.LocalClosed, 2)

    assert {event.connection for event in opened} == {1, 2}
    assert {event.connection for event in closed} == {1, 2}


@on_each_loop
async def test_messages_arrive_in_order_however_they_are_cut(path: Path) -> None:
    data = LOCAL_MAGIC + local.frame(an_attach()) + local.frame(Inspect())
    async with serving(path) as bench:
        _, writer = await bench.connect(data[:9])
        await bench.saw(e.LocalOpened)
        writer.write(data[9:])
        events = await bench.saw(e.FromLocal, 2)
        writer.close()

    assert [event.message for event in events] == [an_attach(), Inspect()]
    assert bench.turns > 0


@on_each_loop
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (LOCAL_MAGIC + b"\xff\xff\xff\xff", "limit_exceeded"),
        (LOCAL_MAGIC + b"\0\0\0\1\xc1", "malformed"),
        (LOCAL_MAGIC + b"\0\0\0\2\x91\x7f", "unknown_message"),
    ],
    ids=["a huge frame", "no message", "an unknown message"],
)
async def test_what_breaks_the_protocol_is_told_once_and_nothing_more_is_read(
    path: Path, data: bytes, code: str
) -> None:
    async with serving(path) as bench:
        reader, writer = await bench.connect(data)
        [event] = await bench.saw(e.LocalRefused)
        writer.write(local.frame(an_attach()))
        bench.gateway.send([(event.connection, Goodbye("bye"))])
        bench.gateway.close([event.connection])
        assert await received(reader, 1) == [Goodbye("bye")]
        await end_of(reader)
        writer.close()

    assert event.error.code == code
    assert not [x for x in bench.events.items if isinstance(x, e.FromLocal)]


@on_each_loop
async def test_everything_for_one_connection_is_written_together(path: Path) -> None:
    async with serving(path) as bench:
        first, writer = await bench.connect()
        second, other = await bench.connect()
        await bench.saw(e.LocalOpened, 2)
        attached = Attached(1, "host-1", FRAME_BYTES_MAX)

        bench.gateway.send([(1, attached), (2, Goodbye("b")), (1, Goodbye("a")), (9, attached)])

        assert await received(first, 2) == [attached, Goodbye("a")]
        assert await received(second, 1) == [Goodbye("b")]
        writer.close()
        other.close()


@on_each_loop
async def test_peer_that_does_not_read_is_cut_off_and_harms_no_other(path: Path) -> None:
    payload = bytes(1_000_000)
    tasks = Tasks([Group("email.send", [a_granted_task(n, payload=payload) for n in range(3)])])
    async with serving(path) as bench:
        _, deaf = await bench.connect()
        await bench.saw(e.LocalOpened)
        reader, writer = await bench.connect()
        await bench.saw(e.LocalOpened, 2)

        for _ in range(20):
            bench.gateway.send([(1, tasks)])
        bench.gateway.send([(2, Goodbye("still here"))])

        assert await received(reader, 1) == [Goodbye("still here")]
        [closed] = await bench.saw(e.LocalClosed)
        assert closed.connection == 1
        assert "connection_does_not_read" in bench.alarms
        deaf.close()
        writer.close()


@on_each_loop
async def test_message_over_the_limit_is_told_and_harms_nothing(path: Path) -> None:
    huge = Tasks([Group("email.send", [a_granted_task(1, payload=bytes(FRAME_BYTES_MAX))])])
    async with serving(path) as bench:
        reader, writer = await bench.connect()
        await bench.saw(e.LocalOpened)

        bench.gateway.send([(1, huge), (1, Goodbye("on"))])

        assert await received(reader, 1) == [Goodbye("on")]
        assert bench.alarms == ["message_too_large"]
        writer.close()


@on_each_loop
async def test_connections_are_bounded(path: Path) -> None:
    before = gateway_module.CONNECTIONS_MAX
    gateway_module.CONNECTIONS_MAX = 1
    try:
        async with serving(path) as bench:
            _, writer = await bench.connect()
            await bench.saw(e.LocalOpened)
            reader, other = await bench.connect(b"")
            await end_of(reader)
            assert bench.alarms == ["connection_refused"]
            writer.close()
            other.close()
    finally:
        gateway_module.CONNECTIONS_MAX = before


def test_connections_leave_descriptors_for_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def most(soft: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
        return gateway_module.connections_max()

    kept, least = gateway_module.DESCRIPTORS_KEPT, gateway_module.CONNECTIONS_MIN
    assert most(1024) == 1024 - kept
    assert most(64) == least
    assert most(10**6) == most(resource.RLIM_INFINITY) == gateway_module.CONNECTIONS_MAX


@on_each_loop
async def test_stopping_writes_what_is_left_closes_and_frees_the_path(path: Path) -> None:
    bench = Bench(path)
    await bench.gateway.start()
    reader, writer = await bench.connect()
    await bench.saw(e.LocalOpened)

    bench.gateway.send([(1, Goodbye("stopping"))])
    await bench.gateway.stop()
    await bench.gateway.stop()

    assert await received(reader, 1) == [Goodbye("stopping")]
    await end_of(reader)
    assert not os.path.exists(path)  # noqa: ASYNC240 (a test may look)
    writer.close()
