"""The ROUTER socket: what comes is handed on, what cannot be sent is said so, nothing blocks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq
import zmq.asyncio

from coordinator import transport
from coordinator.transport import Transport
from protocol.limits import FRAME_BYTES_MAX
from tests.coordinator.running import send_and_lose

ANY_PORT = "tcp://127.0.0.1:0"


class Ends:
    """A transport and what it has received."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[list[bytes]] = asyncio.Queue()
        self.turns = 0
        self.transport = Transport(self.received.put_nowait, self._turn)
        self.address = self.transport.start(ANY_PORT)
        self._context = zmq.asyncio.Context()
        self._dealers: list[zmq.asyncio.Socket] = []

    def _turn(self) -> None:
        self.turns += 1

    def dealer(self, **options: int) -> "zmq.asyncio.Socket":
        """Return a connection to it."""
        socket = self._context.socket(zmq.DEALER)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        socket.connect(self.address)
        self._dealers.append(socket)
        return socket

    def close(self) -> None:
        self.transport.stop()
        for dealer in self._dealers:
            dealer.close(linger=0)
        self._context.term()


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    try:
        yield made
    finally:
        made.close()


def run(promise: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(promise())


def test_message_comes_with_its_routing_id_and_is_answered_by_it() -> None:
    async def promise() -> None:
        async with ends() as both:
            dealer = both.dealer()
            await dealer.send(b"hello")
            peer, data = await both.received.get()
            assert data == b"hello"
            assert both.transport.send(peer, b"welcome")
            assert await dealer.recv() == b"welcome"

    run(promise)


def test_frames_of_a_message_stay_together() -> None:
    async def promise() -> None:
        async with ends() as both:
            await both.dealer().send_multipart([b"one", b"", b"three"])
            assert (await both.received.get())[1:] == [b"one", b"", b"three"]

    run(promise)


def test_messages_of_one_peer_come_in_order_however_many() -> None:
    async def promise() -> None:
        async with ends() as both:
            dealer = both.dealer()
            count = 3 * transport.READ_BATCH + 1
            for number in range(count):
                await dealer.send(b"%d" % number)
            received = [await both.received.get() for _ in range(count)]
            assert [int(parts[1]) for parts in received] == list(range(count))
            assert both.turns > 0

    run(promise)


def test_large_message_arrives_whole() -> None:
    async def promise() -> None:
        async with ends() as both:
            dealer = both.dealer()
            await dealer.send(bytes(FRAME_BYTES_MAX))
            peer, data = await both.received.get()
            assert len(data) == FRAME_BYTES_MAX
            both.transport.send(peer, bytes(FRAME_BYTES_MAX))
            assert len(await dealer.recv()) == FRAME_BYTES_MAX

    run(promise)


def test_message_over_the_limit_never_arrives_and_closes_its_connection_only() -> None:
    async def promise() -> None:
        async with ends() as both:
            good, hostile = both.dealer(), both.dealer()
            await send_and_lose(hostile, bytes(FRAME_BYTES_MAX + 1))
            await good.send(b"here")
            assert (await both.received.get())[1] == b"here"

    run(promise)


def test_message_for_nobody_is_not_sent_and_counted() -> None:
    async def promise() -> None:
        async with ends() as both:
            assert not both.transport.send(b"nobody", b"x")
            assert both.transport.dropped == 1

    run(promise)


def test_peer_that_does_not_read_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MESSAGES_PER_PEER_MAX", 10)

    async def promise() -> None:
        async with ends() as both:
            deaf, good = both.dealer(RCVHWM=1, RCVBUF=4096), both.dealer()
            await deaf.send(b"hello")
            peer, _ = await both.received.get()

            sent = 0
            while both.transport.send(peer, bytes(100_000)):
                sent += 1

            assert both.transport.dropped == 1
            await good.send(b"hello")
            peer, _ = await both.received.get()
            assert both.transport.send(peer, b"welcome")
            assert await good.recv() == b"welcome"

    run(promise)


def test_look_takes_what_has_arrived() -> None:
    async def promise() -> None:
        async with ends() as both:
            both.transport.look()
            both.transport.look()
            await both.dealer().send(b"hello")
            await both.received.get()

    run(promise)


def test_address_in_use_is_an_error_that_says_so() -> None:
    async def promise() -> None:
        async with ends() as both:
            second = Transport(lambda _: None, lambda: None)
            with pytest.raises(OSError, match=f"cannot bind {both.address}: .*in use"):
                second.start(both.address)
            second.stop()

    run(promise)


def test_stop_may_come_early_and_twice() -> None:
    async def promise() -> None:
        early = Transport(lambda _: None, lambda: None)
        early.stop()
        started = Transport(lambda _: None, lambda: None)
        started.start(ANY_PORT)
        started.stop()
        started.stop()
        started.look()
        assert not started.send(b"peer", b"x")

    run(promise)


def test_nothing_is_received_after_the_stop() -> None:
    async def promise() -> None:
        async with ends() as both:
            dealer = both.dealer()
            await dealer.send(b"hello")
            await both.received.get()
            both.transport.look()
            both.transport.stop()
            await dealer.send(b"too late")
            await asyncio.sleep(0)
            assert both.received.empty()

    run(promise)
