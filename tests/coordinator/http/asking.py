"""A coordinator in the test's own event loop, with its HTTP side, and how to ask it."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from coordinator.store.base import Store
from coordinator.store.memory_store import MemoryStore
from tests.coordinator.running import Line, Running, settings_for


class Got(NamedTuple):
    """An answer."""

    status: int
    headers: Any
    text: str
    json: Any


class Asked:
    """A running coordinator, a sidecar's line to it, and its HTTP side."""

    def __init__(self, running: Running, line: Line, socket: Path) -> None:
        self.running = running
        self.line = line
        self._socket = socket

    @property
    def tcp(self) -> str:
        """The URL of its TCP side."""
        http = self.running._http
        assert http is not None
        return f"http://{http.address}"

    async def get(self, path: str, *, method: str = "GET", **how: Any) -> Got:
        """Ask over the Unix socket."""
        return await self.ask(f"http://localhost{path}", self._socket, method=method, **how)

    async def get_tcp(self, path: str, **how: Any) -> Got:
        """Ask over TCP."""
        return await self.ask(self.tcp + path, None, **how)

    async def ask(self, url: str, socket: Path | None, *, method: str = "GET", **how: Any) -> Got:
        """Ask a URL."""
        connector = aiohttp.UnixConnector(str(socket)) if socket else None
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, url, **how) as response,
        ):
            text = await response.text()
            is_json = "json" in response.headers.get("Content-Type", "")
            value = await response.json(content_type=None) if is_json else None
            return Got(response.status, response.headers, text, value)

    @contextlib.asynccontextmanager
    async def lines(self, path: str, **how: Any) -> AsyncIterator[AsyncIterator[str]]:
        """Read a stream, line by line."""

        async def each(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
            async for line in response.content:
                yield line.decode().rstrip("\n")

        connector = aiohttp.UnixConnector(str(self._socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"http://localhost{path}", **how) as response,
        ):
            yield each(response)


def asking(
    body: Callable[[Asked], Awaitable[None]], store: Store | None = None, **flags: Any
) -> None:
    """Run a coordinator with its HTTP side, and beside it the body of a test."""

    async def both() -> None:
        with tempfile.TemporaryDirectory(prefix="pln") as name:
            folder = Path(name)
            settings = settings_for(folder, http=True, http_bind="127.0.0.1:0", **flags)
            assert settings.http_socket is not None
            running = Running(settings, store or MemoryStore())
            try:
                await body(Asked(running, await running.line(), settings.http_socket))
            finally:
                await running.end()

    asyncio.run(both())
