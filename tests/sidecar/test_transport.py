"""The DEALER against a real ROUTER: connections are noticed, nothing is lost on one of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import zmq

from sidecar import transport as transport_module
from sidecar.transport import Transport
from tests.sidecar.loops import WAIT_SECONDS, Log, on_each_loop


class Bench:
    """A transport and what it told, and a scripted ROUTER."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.router: zmq.Socket[bytes] | None = None
        self.address = self.listen("tcp://127.0.0.1:*")
        self.log = Log()
        self.transport = Transport(
            self.address,
            receive=self.log.add,
            up=lambda: self.log.add("up"),
            down=lambda: self.log.add("down"),
            turned=lambda: None,
        )

    def listen(self, address: str) -> str:
        router = self.context.socket(zmq.ROUTER)
        router.linger = 0
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.bind(address)
        self.router = router
        endpoint = router.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return endpoint.rstrip(b"\0").decode()

    def hang_up(self) -> None:
        assert self.router is not None
        self.router.close()

    async def arrives(self) -> tuple[bytes, bytes]:
        """Wait for a message at the router; return from whom, and what."""
        assert self.router is not None
        router = self.router
        async with asyncio.timeout(WAIT_SECONDS):
            # In a thread: the loop under test must go on meanwhile.
            ready = await asyncio.to_thread(router.poll, int(1_000 * WAIT_SECONDS))
        assert ready, "no message arrived"
        peer, data = router.recv_multipart()
        return peer, data

    def reply(self, peer: bytes, data: bytes) -> None:
        assert self.router is not None
        self.router.send_multipart([peer, data])

    async def count(self, what: object, count: int = 1) -> None:
        await self.log.until(lambda items: items.count(what) >= count)


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    made.transport.start()
    try:
        yield made
    finally:
        made.transport.stop()
        made.transport.stop()
        made.hang_up()
        made.context.term()


@on_each_loop
async def test_connection_is_told_and_messages_pass_both_ways() -> None:
    async with bench() as b:
        await b.count("up")
        b.transport.send(b"hello")
        b.transport.look()
        peer, data = await b.arrives()
        assert data == b"hello"

        for number in range(1_000):
            b.reply(peer, b"%d" % number)

        await b.log.until(lambda items: len(items) >= 1_001)
        assert b.log.items[1:] == [[b"%d" % number] for number in range(1_000)]


@on_each_loop
async def test_without_a_connection_nothing_is_kept_for_later() -> None:
    """What is old is not said to a coordinator that has not been greeted."""
    async with bench() as b:
        b.transport.send(b"too early")
        await b.count("up")
        b.transport.send(b"hello")
        assert (await b.arrives())[1] == b"hello"


@on_each_loop
async def test_broken_connection_is_told_at_once_and_a_new_one_too() -> None:
    async with bench() as b:
        await b.count("up")
        b.hang_up()
        await b.count("down")
        b.transport.send(b"lost")

        b.listen(b.address)
        await b.count("up", 2)
        b.transport.send(b"hello again")

        assert (await b.arrives())[1] == b"hello again"
        assert [x for x in b.log.items if x != "down"] == ["up", "up"]


@on_each_loop
async def test_fresh_connection_replaces_one_that_stands() -> None:
    async with bench() as b:
        await b.count("up")
        b.transport.send(b"one")
        first, _ = await b.arrives()

        b.transport.reconnect()
        await b.count("up", 2)
        b.transport.send(b"two")
        second, data = await b.arrives()

        assert data == b"two"
        assert first != second


@on_each_loop
async def test_messages_of_an_earlier_connection_are_not_given_to_a_later_one() -> None:
    async with bench() as b:
        await b.count("up")
        b.transport.send(b"hello")
        peer, _ = await b.arrives()
        b.transport.reconnect()
        with contextlib.suppress(zmq.ZMQError):  # Its router may know already.
            b.reply(peer, b"stale")

        await b.count("up", 2)
        b.transport.send(b"hello")
        peer, _ = await b.arrives()
        b.reply(peer, b"fresh")

        await b.count([b"fresh"])
        assert [b"stale"] not in b.log.items


@on_each_loop
async def test_what_a_slow_coordinator_does_not_take_waits_in_order() -> None:
    async with bench() as b:
        await b.count("up")
        big = bytes(500_000)
        for number in range(40):
            b.transport.send(b"%d " % number + big)
        b.transport.look()

        got = [(await b.arrives())[1].split(b" ")[0] for _ in range(40)]

        assert got == [b"%d" % number for number in range(40)]


@on_each_loop
async def test_coordinator_that_takes_nothing_is_connected_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport_module, "UNSENT_BYTES_MAX", 1_000_000)
    monkeypatch.setattr(transport_module, "MESSAGES_MAX", 2)
    async with bench() as b:
        await b.count("up")
        for _ in range(2_000):  # More than the sockets' own buffers and queues take.
            b.transport.send(bytes(100_000))
            if "down" in b.log.items:
                break

        await b.count("down")
        await b.count("up", 2)


@on_each_loop
async def test_address_that_is_none_is_an_error_at_once() -> None:
    transport = Transport(
        "tcp://nowhere",
        receive=lambda _: None,
        up=lambda: None,
        down=lambda: None,
        turned=lambda: None,
    )
    with pytest.raises(OSError, match="cannot connect to tcp://nowhere"):
        transport.start()
    transport.stop()
