"""Declare handlers, and serve them in this process or in several."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from protocol.fields import is_name
from protocol.messages import Declaration
from sidecar.sdk.address import socket_path
from sidecar.sdk.blocking import Client
from sidecar.sdk.client import AsyncClient
from sidecar.sdk.errors import InvalidHandler
from sidecar.sdk.handler import Handler, checked_policy, checked_slots, full_name
from sidecar.sdk.hosting import host, host_processes
from sidecar.sdk.link import LOG
from sidecar.sdk.serving import Serving
from sidecar.sdk.times import Duration, duration_ms

__all__ = ["Service"]

P = ParamSpec("P")
R = TypeVar("R")
DRAIN_DEFAULT = "30s"
CLOSE_S_MAX = 1.0
"""How long the last outcomes may take to be written."""


class Service:
    """The owner of handlers, beside its sidecar.

    Service, sidecar and coordinator start and stop in any order.

    Args:
        name: Its handlers are called ``name.something``.
        socket: Path of ``sidecar.sock``; without it ``$PILLION_SIDECAR_SOCKET``, or else
            ``$XDG_RUNTIME_DIR/pillion/<name>/sidecar.sock`` (``/run`` without a runtime directory).

    Raises:
        ValueError: The name is none.
    """

    def __init__(self, name: str, socket: str | os.PathLike[str] | None = None) -> None:
        if not is_name(name):
            raise ValueError(
                f"service {name!r}: a name is up to 64 characters of a-z, 0-9, '.', '_' and '-'"
            )
        self.name = name
        self.handlers: dict[str, Handler[..., Any, Any]] = {}
        self._socket = socket
        self._client: AsyncClient | None = None
        self._blocking_client: Client | None = None
        self._stop: asyncio.Event | None = None
        self._hurry: asyncio.Event | None = None

    @property
    def socket(self) -> str:
        """Path of the sidecar's socket."""
        return socket_path(self._socket, self.name)

    @property
    def client(self) -> AsyncClient:
        """A client of the same sidecar, to submit tasks of any handler."""
        if self._client is None:
            self._client = AsyncClient(self.socket)
        return self._client

    @property
    def blocking_client(self) -> Client:
        """The same for code that blocks."""
        if self._blocking_client is None:
            self._blocking_client = Client(self.socket)
        return self._blocking_client

    def handler(  # noqa: PLR0913 (one for each thing that a policy says)
        self,
        name: str | None = None,
        *,
        timeout: Duration = "60s",
        attempts: int = 12,
        backoff_min: Duration | None = None,
        backoff_max: Duration | None = None,
        concurrency: int = 16,
        limit: int = 0,
        crashes: int = 3,
        deferrals: int = 1000,
        start_within: Duration = "5s",
    ) -> "_Declare":
        """Declare the function below it as a handler.

        An ``async def`` runs on the event loop, one asyncio task an attempt. Any other function
        runs in a thread of the handler's own pool.

        Args:
            name: What follows the service's name; the function's name when not given.
            timeout: Longest run of one attempt.
            attempts: Charged attempts before a task is dead.
            backoff_min: Longest wait before the second attempt; it triples from there, and a
                random part of it is waited; 2 s, or
                ``backoff_max`` if that is shorter.
            backoff_max: Longest wait between attempts; 30 min, or ``backoff_min`` if that is
                longer.
            concurrency: Attempts at one time in one process.
            limit: Attempts at one time over all sidecars; 0 is no limit.
            crashes: Attempts that may take their process down before a task is dead.
            deferrals: How often ``Defer`` may be raised before a task is dead.
            start_within: The objective that operators measure, alert and scale by: attempts begin
                so soon after they are due; 0 is none.

        Raises:
            InvalidHandler: Something in it is not accepted; says what.
        """
        if callable(name):
            raise InvalidHandler(
                getattr(name, "__name__", "?"), "write @service.handler() with parentheses"
            )
        given = {
            "timeout_ms": ("timeout", timeout),
            "attempts_max": ("attempts", attempts),
            "concurrency": ("limit", limit),
            "crashes_max": ("crashes", crashes),
            "deferrals_max": ("deferrals", deferrals),
            "start_within_ms": ("start_within", start_within),
        }
        return _Declare(self, name, given, (backoff_min, backoff_max), concurrency)

    def run(self, *, processes: int = 1, drain: Duration = DRAIN_DEFAULT) -> None:
        """Serve until SIGTERM or SIGINT, then finish what runs; blocks.

        A second signal does not wait for what runs: it is stopped and tried again later.

        Args:
            processes: How many processes serve; more than one are forked from this one, which
                must not have started an event loop or a thread before. If one ends early, the
                others are stopped and this one exits with status 1.
            drain: How long running attempts may take to end.

        Raises:
            Refused: The sidecar refuses the service.
            InvalidHandler: There is no handler to serve.
        """
        self._check()
        drain_s = duration_ms("drain", drain) / 1000
        if processes == 1:
            host(self._serve, drain_s, self.stop)
        else:
            host_processes(self.name, processes, self._serve, drain_s, self.stop)

    async def serve(self, *, drain: Duration = DRAIN_DEFAULT) -> None:
        """Serve on the running event loop until ``stop()`` is called.

        When it is cancelled instead, running attempts are stopped at once and tried again later.
        Leaves signals alone.
        """
        self._check()
        await self._serve(duration_ms("drain", drain) / 1000)

    def stop(self) -> None:
        """Have ``serve`` or ``run`` finish what runs and end; a second call has it stop that."""
        if self._stop is None or self._hurry is None:
            return
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _check(self) -> None:
        if not self.handlers:
            raise InvalidHandler(
                f"{self.name}.?", "the service has none; declare one with @service.handler()"
            )
        if self._stop is not None:
            raise RuntimeError(f"service {self.name} is being served already")

    async def _serve(self, drain_s: float) -> bool:
        """Serve until told to stop; return whether every attempt has ended."""
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        handlers = self.handlers.values()
        serving = Serving(
            self.socket,
            self.name,
            [Declaration(h.name, h.policy.changes()) for h in handlers],
            [h.runner() for h in handlers],
        )
        link = asyncio.create_task(serving.run())
        try:
            if not await _first(link, self._stop.wait()):
                return await self._end(serving, drain_s)
            link.result()
            return True
        except asyncio.CancelledError:
            await serving.stop_attempts()
            raise
        finally:
            self._stop = self._hurry = None
            if serving.close():
                await asyncio.wait([link], timeout=CLOSE_S_MAX)
            link.cancel()
            await asyncio.wait([link])
            if self._client is not None:
                await self._client.close()

    async def _end(self, serving: Serving, drain_s: float) -> bool:
        LOG.info("service %s: draining", self.name)
        assert self._hurry is not None
        draining = asyncio.create_task(serving.drain(drain_s))
        if await _first(draining, self._hurry.wait()):
            return draining.result()
        draining.cancel()
        await asyncio.wait([draining])
        return await serving.stop_attempts()

    def _add(self, handler: Handler[..., Any, Any]) -> None:
        if handler.name in self.handlers:
            raise InvalidHandler(handler.name, "it is declared twice; give one another name")
        if self._stop is not None:
            raise InvalidHandler(handler.name, "declare it before the service is served")
        self.handlers[handler.name] = handler


class _Declare:
    """What ``Service.handler`` returns: makes a handler of the function below it."""

    def __init__(
        self,
        service: Service,
        name: str | None,
        given: dict[str, tuple[str, Any]],
        backoff: tuple[Duration | None, Duration | None],
        slots: int,
    ) -> None:
        self._service = service
        self._name = name
        self._given = given
        self._backoff = backoff
        self._slots = slots

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Handler[P, Coroutine[Any, Any, R], R]: ...

    @overload
    def __call__(self, function: Callable[P, R]) -> Handler[P, R, R]: ...

    def __call__(self, function: Callable[..., Any]) -> Handler[..., Any, Any]:
        name = full_name(self._service.name, self._name, function)
        policy = checked_policy(name, self._given, self._backoff)
        slots = checked_slots(name, self._slots)
        handler: Handler[..., Any, Any] = Handler(self._service, name, function, policy, slots)
        self._service._add(handler)
        return handler


async def _first(task: "asyncio.Task[Any]", other: Coroutine[Any, Any, Any]) -> bool:
    """Wait for either; return whether the task has ended."""
    waiting = asyncio.create_task(other)
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return task.done()
