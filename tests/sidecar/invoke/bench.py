"""A sidecar without its coordinator: real core, gateway and hosts; the test grants the tasks."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from protocol import messages as m
from sidecar.core import events as e
from sidecar.core.sidecar import Sidecar
from sidecar.core.terms import Identity, Terms
from sidecar.gateway.gateway import Gateway
from sidecar.http.api import routes
from sidecar.http.server import HttpServer
from sidecar.invoke import routes as pull_routes
from sidecar.invoke.address import Address
from sidecar.invoke.exec import environment
from sidecar.invoke.handlers import Handler, build
from sidecar.invoke.host import House
from sidecar.invoke.hosts import Hosts, Invoking
from sidecar.runtime import now_ms
from tests.sidecar.loops import WAIT_SECONDS, Log
from tests.support.builders import a_granted_task

SERVICE = "email"
HANDLER = "email.send"
GRACE_MS = 300


class Bench:
    """One sidecar, and what its core has told the coordinator."""

    def __init__(self, folder: Path, invoking: Invoking, **terms: int) -> None:
        self.folder = folder
        self.app_path = folder / "app.sock"
        self.socket_path = folder / "sidecar.sock"
        self.told = Log()
        """The outcomes that hosts have told the core."""
        self.outcomes = Log()
        """The outcomes that the core has told the coordinator."""
        self.updates = Log()
        self.demands = Log()
        self.notes = Log()
        self._grants = 0
        self._flushing: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        grace: dict[str, Any] = {"cancel_grace_ms": GRACE_MS, **terms}
        self.core = Sidecar(Identity("host-1", b"i" * 16, SERVICE, "0.1.0"), Terms(**grace))
        server = HttpServer(routes())
        self.gateway = Gateway(
            self.socket_path,
            step=self.step,
            turned=self.turned,
            alarm=self._note,
            http=server,
        )
        made = Terms(**grace)
        house = House(SERVICE, self.gateway, made.cancel_grace_ms, made.stop_grace_ms, self._note)
        self.hosts = Hosts(invoking, house, self.gateway.join, environment(str(self.socket_path)))
        server.router.add(pull_routes.routes(self.hosts))

    def _note(self, name: str, facts: dict[str, int | str]) -> None:
        self.notes.add((name, facts))

    # --- The shell -----------------------------------------------------------------------------

    def step(self, event: e.Event) -> None:
        if isinstance(event, e.FromLocal) and isinstance(event.message, m.Outcomes):
            for outcome in event.message.outcomes:
                self.told.add(outcome)
        self.core.step(now_ms(), event)

    def turned(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        effects = self.core.flush(now_ms())
        self.gateway.send(effects.to_local)
        self.gateway.close(effects.close)
        for message in effects.to_coordinator:
            self._to_coordinator(message)
        if self._timer is not None:
            self._timer.cancel()
        due_ms = self.core.next_due_ms()
        if due_ms is not None:
            seconds = max(0, due_ms - now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(seconds, self.turned)

    def _to_coordinator(self, message: m.Message) -> None:
        match message:
            case m.Outcomes(number, outcomes):
                for outcome in outcomes:
                    self.outcomes.add(outcome)
                self.coordinator(m.Recorded(number, []))
            case m.Progress(updates):
                for update in updates:
                    self.updates.add(update)
            case m.Demand(limits):
                for limit in limits:
                    self.demands.add(limit)
            case m.Heartbeat(clock_ms):
                self.coordinator(m.Beat(1, clock_ms, self._grants))
            case _:
                pass

    def coordinator(self, message: m.Message) -> None:
        self.step(e.FromCoordinator(message))
        self.turned()

    async def start(self) -> None:
        await self.gateway.start()
        self.step(e.LinkUp())
        self.turned()
        await asyncio.sleep(0)
        self.coordinator(m.Welcome(1, 1, False, 1, b"s" * 16, 10_000, [], "0.1.0"))
        self.hosts.start()

    async def stop(self) -> None:
        self.hosts.stop()
        await self.gateway.stop()
        for handle in (self._timer, self._flushing):
            if handle is not None:
                handle.cancel()

    # --- What tests do -------------------------------------------------------------------------

    def grant(self, *tasks: m.GrantedTask, handler: str = HANDLER) -> None:
        self._grants += 1
        self.coordinator(m.Grant(1, self._grants, [m.Group(handler, list(tasks))]))

    async def asked_for(self, handler: str = HANDLER, total: int = 1) -> None:
        """Wait until so many tasks of a handler are asked for."""
        await self.demands.until(
            lambda limits: any(x.handler == handler and x.total >= total for x in limits)
        )

    async def outcome(self, count: int = 1) -> m.Outcome:
        """Wait until so many outcomes were told; return the last of them."""
        await self.outcomes.until(lambda outcomes: len(outcomes) >= count)
        outcome: m.Outcome = self.outcomes.items[count - 1]
        return outcome

    async def run(self, number: int = 1, handler: str = HANDLER, **changes: Any) -> m.Outcome:
        """Grant one task and return what it came to."""
        before = len(self.outcomes.items)
        self.grant(a_granted_task(number, **changes), handler=handler)
        return await self.outcome(before + 1)

    async def noted(self, name: str) -> dict[str, int | str]:
        await self.notes.until(lambda notes: any(n == name for n, _ in notes))
        facts: dict[str, int | str] = next(f for n, f in self.notes.items if n == name)
        return facts

    async def request(
        self, method: str, target: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request to ``sidecar.sock`` and return its answer."""
        reader, writer = await asyncio.open_unix_connection(self.socket_path)
        lines = "".join(f"{n.replace('_', '-')}: {v}\r\n" for n, v in headers.items())
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(WAIT_SECONDS):
            data = await reader.read()
        writer.close()
        return parsed(data)


def parsed(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer that was read to its end."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(first.split(" ")[1]), headers, body


@contextlib.asynccontextmanager
async def serving(
    *handlers: Handler, discover: bool = False, port: int = 0, **terms: int
) -> AsyncIterator[Bench]:
    """Run a sidecar with these handlers; ``port`` is the service's, if it has no socket."""
    with tempfile.TemporaryDirectory(prefix="pln") as name:
        folder = Path(name)
        app = Address("", "127.0.0.1", port) if port else Address(str(folder / "app.sock"))
        bench = Bench(folder, Invoking(handlers, app, discover), **terms)
        await bench.start()
        try:
            yield bench
        finally:
            await bench.stop()


def pushed(name: str = HANDLER, **table: Any) -> Handler:
    return build(name, {"transport": "push", **table})


def executed(command: str, name: str = HANDLER, **table: Any) -> Handler:
    return build(name, {"transport": "exec", "command": ["sh", "-c", command], **table})


class Got:
    """A request that the app has received."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body


class App:
    """A service on ``app.sock`` that answers what a test says, byte for byte.

    ``answer`` is called with each request and the writer; what it returns is written. None writes
    nothing and keeps the connection, ``CLOSE`` closes it.
    """

    CLOSE = b"\0close"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.got = Log()
        self.connections = 0
        self.first = b""
        """Written before an answer that does not come."""
        self.bytewise = False
        """Whether answers are written byte by byte."""
        self.ended = Log()
        """The requests of which the connection was closed by the sidecar before an answer."""
        self.answer: Any = lambda got: response(200)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def start_on_a_port(self) -> int:
        """Listen on a free port of loopback instead, and return it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self.path.unlink(missing_ok=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while (got := await self._read(reader)) is not None:
                self.got.add(got)
                data = self.answer(got)
                if asyncio.iscoroutine(data):
                    data = await data
                if data is None:
                    writer.write(self.first)
                    await reader.read()
                    self.ended.add(got)
                    return
                end = data.endswith(self.CLOSE)
                data = data.removesuffix(self.CLOSE)
                step = 1 if self.bytewise else max(1, len(data))
                for place in range(0, len(data), step):
                    writer.write(data[place : place + step])
                    await writer.drain()
                if end:
                    return
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Got | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ")
        return Got(method, path, headers, body)


@contextlib.asynccontextmanager
async def listening(bench: Bench) -> AsyncIterator[App]:
    """Run the app of a sidecar."""
    app = App(bench.app_path)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


def response(
    status: int,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> bytes:
    given = {"Content-Type": content_type, **(headers or {})} if body else dict(headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    if status in (204, 304):
        return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode()
    return f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def as_json(body: bytes) -> Any:
    return json.loads(body)
