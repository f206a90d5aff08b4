"""HTTP on a real socket: told apart from the native protocol, and given up in time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol import local
from protocol.messages import Accepted, Goodbye, Inspect, Submit, Verdict
from protocol.version import LOCAL_MAGIC
from sidecar.core import events as e
from sidecar.gateway.gateway import Gateway
from sidecar.http import connection
from sidecar.http.api import routes
from sidecar.http.server import HttpServer
from tests.sidecar.http.wire import Response, read_response
from tests.sidecar.loops import WAIT_SECONDS, Log, on_each_loop
from tests.support.builders import an_attach

LIVE = b"GET /livez HTTP/1.1\r\n\r\n"
SUBMIT = b"POST /v1/tasks/a.b HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Bench:
    """A gateway that serves, and the events it has given."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = Log()
        self.gateway = Gateway(
            path,
            step=self.events.add,
            turned=lambda: None,
            alarm=lambda *_: None,
            http=HttpServer(routes()),
        )

    async def connect(self, data: bytes) -> Streams:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(data)
        return reader, writer

    async def told(self, kind: type[object]) -> e.FromLocal:
        """Wait for a message of this kind."""

        def found(items: list[object]) -> list[e.FromLocal]:
            return [x for x in items if isinstance(x, e.FromLocal) and isinstance(x.message, kind)]

        await self.events.until(found)
        return found(self.events.items)[0]


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Bench]:
    bench = Bench(folder / "s.sock")
    await bench.gateway.start()
    try:
        yield bench
    finally:
        await bench.gateway.stop()


async def answer(reader: asyncio.StreamReader) -> Response:
    """Read one answer; what comes behind it stays."""
    async with asyncio.timeout(WAIT_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return read_response(head + await reader.readexactly(size))[0]


async def end_of(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""


@on_each_loop
@pytest.mark.parametrize("cut", [1, 2, 3, 4, len(SUBMIT) - 1])
async def test_first_bytes_decide_the_protocol(tmp_path: Path, cut: int) -> None:
    async with serving(tmp_path) as bench:
        native = LOCAL_MAGIC + local.frame(an_attach()) + local.frame(Inspect())
        for data, kind in ((SUBMIT, Submit), (native, Inspect)):
            _, writer = await bench.connect(data[:cut])
            await asyncio.sleep(0)
            writer.write(data[cut:])
            await bench.told(kind)
            writer.close()
    assert not [x for x in bench.events.items if isinstance(x, e.LocalRefused)]


@on_each_loop
async def test_what_is_neither_protocol_is_answered_in_http(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        reader, writer = await bench.connect(b"\x16\x03\x01\x02\0\1\0")
        response = await answer(reader)
        await end_of(reader)
        writer.close()
    assert (response.status, response.json["code"]) == (400, "malformed")


@on_each_loop
async def test_answer_reaches_the_connection_that_asked(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        reader, writer = await bench.connect(SUBMIT)
        event = await bench.told(Submit)
        assert isinstance(event.message, Submit)
        verdict = Verdict(event.message.batches[0].request, None, "", 0, [])
        bench.gateway.send([(event.connection, Accepted([verdict]))])
        assert (await answer(reader)).status == 202

        writer.close()
        await bench.events.until(lambda items: [x for x in items if isinstance(x, e.LocalClosed)])


@on_each_loop
async def test_request_that_does_not_arrive_in_time_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.05)
    async with serving(tmp_path) as bench:
        for data in (b"GET /livez HT", SUBMIT[:-1]):
            reader, writer = await bench.connect(data)
            response = await answer(reader)
            assert (response.status, response.json["code"]) == (408, "request_too_slow")
            await end_of(reader)
            writer.close()


@on_each_loop
async def test_idle_connection_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.05)
    async with serving(tmp_path) as bench:
        reader, writer = await bench.connect(LIVE)
        assert (await answer(reader)).status == 200
        writer.write(b"\r\n")  # Begins no request, and keeps nothing open.
        await end_of(reader)
        writer.close()


@on_each_loop
async def test_client_that_waits_for_its_answer_is_not_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.05)
    async with serving(tmp_path) as bench:
        _, idle = await bench.connect(LIVE)
        reader, writer = await bench.connect(SUBMIT)
        event = await bench.told(Submit)
        await bench.events.until(lambda items: [x for x in items if isinstance(x, e.LocalClosed)])
        bench.gateway.send([(event.connection, Goodbye("stopping"))])

        assert (await answer(reader)).status == 503
        idle.close()
        writer.close()


@on_each_loop
async def test_client_that_sends_all_of_too_large_a_body_still_reads_why(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        head = b"POST /v1/tasks/a.b HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n"
        reader, writer = await bench.connect(head)
        async with asyncio.timeout(WAIT_SECONDS):
            writer.write(bytes(4_000_000))
            await writer.drain()
        assert (await answer(reader)).status == 413
        await end_of(reader)
        writer.close()


@on_each_loop
async def test_client_that_goes_on_sending_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.05)
    async with serving(tmp_path) as bench:
        _, writer = await bench.connect(b"nonsense\r\n\r\n")
        await bench.events.until(lambda items: [x for x in items if isinstance(x, e.LocalClosed)])
        writer.close()


@on_each_loop
async def test_client_that_only_stopped_sending_gets_its_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        reader, writer = await bench.connect(SUBMIT)
        writer.write_eof()
        event = await bench.told(Submit)
        assert isinstance(event.message, Submit)
        verdict = Verdict(event.message.batches[0].request, None, "", 0, [])
        bench.gateway.send([(event.connection, Accepted([verdict]))])
        assert (await answer(reader)).status == 202
        await end_of(reader)
        writer.close()


@on_each_loop
async def test_gateway_that_stops_closes_connections_that_speak_http(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s.sock")
    await bench.gateway.start()
    reader, writer = await bench.connect(LIVE)
    assert (await answer(reader)).status == 200
    await bench.gateway.stop()
    await end_of(reader)
    writer.close()
