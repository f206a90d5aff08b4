"""Submit tasks and ask about them, from code that blocks and from any number of threads."""

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, Self, TypeVar, Unpack

from sidecar.sdk.client import TIMEOUT_DEFAULT, AsyncClient
from sidecar.sdk.errors import PillionError
from sidecar.sdk.loops import new_event_loop
from sidecar.sdk.new_task import NewTask, Options
from sidecar.sdk.status import TaskStatus
from sidecar.sdk.task import BlockingTask, Task
from sidecar.sdk.times import Duration

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """A connection to one sidecar, shared by all threads of a process.

    An ``AsyncClient`` on an event loop in a thread of its own, which starts with the first call:
    submits of several threads travel together. Works again in a forked child.

    Args:
        socket: Path of ``sidecar.sock``; without it ``$PILLION_SIDECAR_SOCKET``.
        timeout: How long a submit, status or inspect may take before ``Unavailable`` is raised.
        accepted_only: Take no answer but the coordinator's; see ``AsyncClient``.

    Raises:
        ValueError: No path is known, or it is too long.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        timeout: Duration = TIMEOUT_DEFAULT,
        accepted_only: bool = False,
    ) -> None:
        self._client = AsyncClient(socket, timeout=timeout, accepted_only=accepted_only)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def submit(
        self, handler: str, payload: Any = b"", **options: Unpack[Options]
    ) -> BlockingTask[Any]:
        """Submit one task; return when it is durable. See ``AsyncClient.submit``."""
        return self.submit_task(NewTask(handler=handler, payload=payload, **options))

    def submit_task(self, task: NewTask) -> BlockingTask[Any]:
        """Submit one task that is described by a ``NewTask``; see ``AsyncClient.submit``."""
        return self._handle(self._run(self._client.submit_task(task)))

    def submit_many(self, tasks: Iterable[NewTask]) -> list[BlockingTask[Any] | PillionError]:
        """Submit many tasks, each with its own verdict; see ``AsyncClient.submit_many``."""
        verdicts = self._run(self._client.submit_many(list(tasks)))
        return [v if isinstance(v, PillionError) else self._handle(v) for v in verdicts]

    def status(self, task: str | bytes) -> TaskStatus:
        """Return what is known of a task now; see ``AsyncClient.status``."""
        return self._run(self._client.status(task))

    def cancel(self, task: str | bytes, reason: str = "") -> TaskStatus:
        """Cancel a task; see ``AsyncClient.cancel``."""
        return self._run(self._client.cancel(task, reason))

    def wait(self, task: str | bytes, timeout: float | None = None) -> Any:
        """Wait until a task has ended; return its result. See ``AsyncClient.wait``."""
        return self._run(self._client.wait(task, timeout=timeout))

    def inspect(self) -> dict[str, int | str]:
        """Return what the sidecar tells about itself; see ``AsyncClient.inspect``."""
        return self._run(self._client.inspect())

    def close(self) -> None:
        """Close the connection and end the thread; the client may be used again."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None or self._pid != os.getpid():
            return
        asyncio.run_coroutine_threadsafe(self._client.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handle(self, task: Task[Any]) -> BlockingTask[Any]:
        return BlockingTask(
            self, task._id, task.handler, spooled=task.spooled, duplicate=task.duplicate
        )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if _on_event_loop():
            work.close()
            raise RuntimeError(
                "this would block the event loop that runs here; use AsyncClient and await"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C in the caller's thread ends the wait there, too.
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is not None and self._pid == os.getpid():
                return self._loop
            self._loop = loop = new_event_loop()
            self._pid = os.getpid()
            self._thread = threading.Thread(
                target=_host, args=(loop,), name="pillion-client", daemon=True
            )
            self._thread.start()
            return loop


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _host(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()
