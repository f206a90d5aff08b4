"""The HTTP server: routes and endpoints on one side, aiohttp on the other.

The only importer of aiohttp. It listens on a Unix socket, which the file's mode guards, and on TCP,
where a token is needed unless it is loopback. Whatever fails in here ends a request, never the
coordinator.
"""

import asyncio
import hmac
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from coordinator.errors import CoordinatorError, StoreError
from coordinator.http import socket_file
from coordinator.http.access import Access
from coordinator.http.bodies import read_body
from coordinator.http.endpoints import ROUTES
from coordinator.http.forms import plain
from coordinator.http.problems import MEDIA_TYPE, Problem
from coordinator.http.routes import Answer, Cut, Request, Route, Text, read_query
from coordinator.settings import host_and_port, is_loopback
from protocol import log

STOP_SECONDS = 1.0
"""How long requests under way have when the coordinator stops."""
BODY_BYTES_MAX = 64 * 1024
STALLED_SECONDS = 30.0
"""How long whoever asked for a stream may take nothing of it. A copy of the store that goes on for
ever would keep all that is deleted meanwhile."""


class HttpServer:
    """The HTTP side of one coordinator.

    Args:
        access: What endpoints may use.
        token: What requests over TCP must bear; empty if none is needed.
    """

    def __init__(self, access: Access, token: str) -> None:
        self._access = access
        self._token = token
        self._log = log.logger("http")
        self._runners: list[web.AppRunner] = []
        self._socket: Path | None = None
        self.address = ""
        """Host and port, once it listens there."""

    async def start(self) -> None:
        """Listen.

        Raises:
            CoordinatorError: An address cannot be used; the text says why.
        """
        settings = self._access.settings
        if settings.http_socket is not None:
            sock = socket_file.listen(settings.http_socket)
            self._socket = settings.http_socket
            await web.SockSite(await self._runner(tcp=False), sock).start()
        host, port = host_and_port(settings.http_bind)
        runner = await self._runner(tcp=True)
        try:
            await web.TCPSite(runner, host.strip("[]"), port, reuse_address=True).start()
        except OSError as error:
            raise CoordinatorError(
                f"http_bind {settings.http_bind} cannot be bound: {error.strerror or error}; "
                "stop who has it, set http_bind to another port, or set http to false"
            ) from None
        bound = runner.addresses[0]
        self.address = f"{host}:{bound[1]}"

    async def stop(self) -> None:
        """Stop listening; may come early, may come twice."""
        runners, self._runners = self._runners, []
        await asyncio.gather(*[runner.cleanup() for runner in runners])
        if self._socket is not None:
            with suppress(OSError):
                self._socket.unlink()
            self._socket = None

    async def _runner(self, *, tcp: bool) -> web.AppRunner:
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        for route in ROUTES:
            if route.method == "GET":
                app.router.add_get(route.path, self._handler(route, tcp))  # And HEAD.
            else:
                app.router.add_route(route.method, route.path, self._handler(route, tcp))
        app.router.add_route("*", r"/{path:[\s\S]*}", self._unknown)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS
        )
        await runner.setup()
        self._runners.append(runner)
        return runner

    def _handler(self, route: Route, tcp: bool) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                if tcp:
                    self._admit(request, route)
                asked = Request(
                    request.match_info,
                    read_query(route, request.query),
                    _of(request),
                    await _body(request, route),
                )
                if route.stream is not None:
                    return await self._stream(request, route, route.stream(self._access, asked))
                assert route.endpoint is not None
                return _response(await route.endpoint(self._access, asked))
            except Problem as problem:
                return _problem(problem)
            except (ConnectionError, asyncio.CancelledError):
                raise
            except Exception as error:
                self._log.error("request_failed", path=route.path, exc_info=True)
                return _problem(Problem("internal", type(error).__name__))

        return handle

    def _admit(self, request: web.Request, route: Route) -> None:
        """Let nobody in over TCP who must not see what is told here.

        Without a token, that a browser of this machine sends must name this machine: a page from
        elsewhere whose name was made to mean 127.0.0.1 does not.
        """
        if route.open_to_all:
            return
        if self._token:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                raise Problem("unauthorized", "the token is missing or is not the right one")
        elif route.guarded:
            raise Problem("token_needed", f"{route.path} is not given to whoever asks over TCP")
        else:
            host = request.host.rsplit(":", 1)[0] if request.host[-1:] != "]" else request.host
            if not is_loopback(host):
                raise Problem("foreign_host", f"Host is {host!r}")

    async def _unknown(self, request: web.Request) -> web.Response:
        methods = [
            method
            for route, pattern in _PATTERNS
            if pattern.fullmatch(request.path)
            for method in (("GET", "HEAD") if route.method == "GET" else (route.method,))
        ]
        if methods and request.method not in methods:
            taken = ", ".join(methods)
            response = _problem(Problem("wrong_method", f"{request.path} takes {taken}"))
            response.headers["Allow"] = taken
            return response
        return _problem(Problem("unknown_path", f"{request.method} {request.path}"))

    async def _stream(
        self, request: web.Request, route: Route, lines: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": route.answers, "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        try:
            async for line in lines:
                await asyncio.wait_for(response.write(line), STALLED_SECONDS)
        except ConnectionError:
            pass  # Whoever watched has gone.
        except (Cut, StoreError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()  # Its last chunk is missing, which is how it is seen.
        finally:
            await lines.aclose()  # type: ignore[attr-defined]
        return response


_PATTERNS = [(route, re.compile(re.sub(r"{\w+}", "[^/]+", route.path))) for route in ROUTES]


async def _body(request: web.Request, route: Route) -> Any:
    if route.body is None:
        return None
    try:
        data = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Problem("invalid_body", f"it is over {BODY_BYTES_MAX} bytes") from None
    return read_body(route.body, request.headers.get("Content-Type", ""), data)


def _of(request: web.Request) -> dict[str, str]:
    return {"Last-Event-ID": request.headers.get("Last-Event-ID", "")}


def _response(value: Any) -> web.Response:
    status = 200
    if isinstance(value, Answer):
        status, value = value.status, value.value
    if isinstance(value, Text):
        return web.Response(
            body=value.body.encode(), status=status, headers={"Content-Type": value.media_type}
        )
    body = json.dumps(plain(value), ensure_ascii=False)
    return web.Response(
        body=body.encode("utf-8", "replace"),
        status=status,
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )


def _problem(problem: Problem) -> web.Response:
    body = json.dumps(plain(problem.body), ensure_ascii=False)
    headers = {"Content-Type": MEDIA_TYPE}
    if problem.body.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        body=body.encode("utf-8", "replace"), status=problem.body.status, headers=headers
    )
