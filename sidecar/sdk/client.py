"""Submit tasks and ask about them, from code that awaits."""

import asyncio
import os
from collections.abc import Iterable
from typing import Any, Self, Unpack

from protocol import limits
from protocol.errors import Code, InvalidId
from protocol.ids import from_text, to_text
from protocol.messages import Reply, Status
from sidecar.sdk import status as observed
from sidecar.sdk.address import socket_path
from sidecar.sdk.errors import Busy, PillionError, Rejected, TaskNotFound, Unavailable
from sidecar.sdk.exchange import Exchange, Facts
from sidecar.sdk.new_task import Draft, NewTask, Options, draft
from sidecar.sdk.questions import FOREVER, Asked
from sidecar.sdk.status import TaskStatus
from sidecar.sdk.submissions import Call
from sidecar.sdk.task import Task
from sidecar.sdk.times import Duration, duration_ms

__all__ = ["AsyncClient"]

BYTES_WAITING_MAX = 64 * limits.MIB
"""What may wait in the client to be sent; further callers wait for room."""
TIMEOUT_DEFAULT = "30s"
"""Long enough for a sidecar or coordinator to be restarted meanwhile."""


class AsyncClient:
    """A connection to one sidecar, made when it is first needed and made again when it breaks.

    Concurrent submits of one loop iteration travel as one batch, and a submit that has no verdict
    when the connection breaks is sent again under the same ids. One client serves a whole
    process; use it from one event loop at a time.

    Args:
        socket: Path of ``sidecar.sock``; without it ``$PILLION_SIDECAR_SOCKET``.
        timeout: How long a submit, status or inspect may take before ``Unavailable`` is raised.
        accepted_only: Take no answer but the coordinator's. Otherwise, while that is out of reach,
            a submit returns once the task is durable in the sidecar's spool, and ``spooled`` of
            what it returns tells so.

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
        self._may_spool = not accepted_only
        self._path = socket_path(socket, None)
        self._timeout = duration_ms("timeout", timeout) / 1000
        self._exchange: Exchange | None = None
        self._pid = 0

    async def submit(
        self, handler: str, payload: Any = b"", **options: Unpack[Options]
    ) -> Task[Any]:
        """Submit one task; return when it is durable.

        Args:
            handler: ``service.name``.
            payload: Bytes pass as they are; anything else becomes JSON.
            options: See ``NewTask``.

        Raises:
            Rejected: The task cannot be taken; mend it.
            Busy: A limit was reached, for longer than the client's timeout.
            Unavailable: No verdict came within the client's timeout.
            Refused: The sidecar refuses the connection.
        """
        return await self.submit_task(NewTask(handler=handler, payload=payload, **options))

    async def submit_task(self, task: NewTask) -> Task[Any]:
        """Submit one task that is described by a ``NewTask``; see ``submit``."""
        made = draft(task)
        call = await self._call([made])
        if call.errors is not None:
            raise call.errors[0]
        return self._handle(call, 0)

    async def submit_many(self, tasks: Iterable[NewTask]) -> list[Task[Any] | PillionError]:
        """Submit many tasks in as few messages as possible.

        Returns:
            For each task, in order, its handle or the error that keeps it from being taken. One
            bad task harms no other, so look at each.
        """
        drafts: list[Draft] = []
        verdicts: list[Task[Any] | PillionError | None] = []
        for task in tasks:
            try:
                drafts.append(draft(task))
                verdicts.append(None)
            except Rejected as error:
                verdicts.append(error)
        if not drafts:
            return [v for v in verdicts if v is not None]
        call = await self._call(drafts)
        errors = call.errors or {}
        made: list[Task[Any] | PillionError] = [
            errors[i] if i in errors else self._handle(call, i) for i in range(len(drafts))
        ]
        if len(made) == len(verdicts):
            return made
        found = iter(made)
        return [next(found) if v is None else v for v in verdicts]

    async def status(self, task: str | bytes) -> TaskStatus:
        """Return what is known of a task now.

        Args:
            task: Its id, as text or as 16 bytes.

        Raises:
            TaskNotFound: No task has this id.
            Unavailable: No answer came within the client's timeout.
        """
        task_id = _id(task)
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._ask(task_id, None)
        except TimeoutError:
            raise self._unavailable(f"the status of task {to_text(task_id)}") from None
        return observed.from_wire(found)

    async def cancel(self, task: str | bytes, reason: str = "") -> TaskStatus:
        """Cancel a task: it ends without another attempt.

        Returns:
            The task as it is then: ``cancelled``, if it waited. If an attempt runs, that is told to
            stop, and ``cancelling`` is true until it has; ``wait`` tells how the task ends. A task
            that has ended stays as it is.

        Args:
            task: Its id, as text or as 16 bytes.
            reason: For people, at most 256 characters.

        Raises:
            TaskNotFound: No task has this id.
            Unavailable: No answer came within the client's timeout; it may have been cancelled.
        """
        task_id = _id(task)
        if len(reason) > limits.REASON_CHARS_MAX:
            detail = f"the reason is longer than {limits.REASON_CHARS_MAX} characters"
            raise Rejected(Code.INVALID_OPTION, detail)
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._ask(task_id, None, cancel=reason)
        except TimeoutError:
            raise self._unavailable(f"the status of task {to_text(task_id)}") from None
        return observed.from_wire(found)

    async def wait(
        self,
        task: str | bytes,
        timeout: float | None = None,  # noqa: ASYNC109 (the interface says for how long)
    ) -> Any:
        """Wait until a task has ended; return what its handler returned.

        Goes on waiting over restarts of sidecar and coordinator.

        Args:
            task: Its id, as text or as 16 bytes.
            timeout: Seconds; None waits for as long as it takes.

        Raises:
            TaskFailed: It ended without success; the class tells how.
            TaskNotFound: No task has this id.
            TimeoutError: It has not ended in time; it goes on.
        """
        task_id = _id(task)
        until = FOREVER if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout(timeout):
                found = await self._ask(task_id, until)
        except TimeoutError:
            found = None
        if found is None or not found.state.terminal:
            raise TimeoutError(f"task {to_text(task_id)} has not ended within {timeout} s")
        return observed.result_of(found)

    async def inspect(self) -> dict[str, int | str]:
        """Return what the sidecar tells about itself.

        Raises:
            Unavailable: No answer came within the client's timeout.
        """
        try:
            async with asyncio.timeout(self._timeout):
                facts: Facts = await self._current().inspect()
        except TimeoutError:
            raise self._unavailable("its facts") from None
        return facts

    async def close(self) -> None:
        """Close the connection; what has no answer fails. The client may be used again."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.loop is asyncio.get_running_loop():
            await exchange.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _current(self) -> Exchange:
        loop = asyncio.get_running_loop()
        exchange = self._exchange
        if exchange is not None and exchange.loop is loop:
            return exchange
        if exchange is not None and not exchange.loop.is_closed() and self._pid == os.getpid():
            raise RuntimeError(
                "this AsyncClient is in use on another event loop that is still open; "
                "make one client for each loop, or use Client from other threads"
            )
        self._exchange = exchange = Exchange(self._path, may_spool=self._may_spool)
        self._pid = os.getpid()
        return exchange

    async def _call(self, drafts: list[Draft]) -> Call:
        exchange = self._current()
        if exchange.submissions.bytes_waiting >= BYTES_WAITING_MAX:
            await exchange.has_room(BYTES_WAITING_MAX)
        future: asyncio.Future[None] = exchange.loop.create_future()

        def done(_: Call) -> None:
            if not future.done():
                future.set_result(None)

        call = Call(drafts, exchange.loop.time(), self._timeout, done)
        exchange.submit(call)
        try:
            await future
        except asyncio.CancelledError:
            call.abandoned = True
            raise
        return call

    def _handle(self, call: Call, place: int) -> Task[Any]:
        duplicate = call.duplicates is not None and place in call.duplicates
        handler = call.drafts[place][1]
        return Task(self, call.ids[place], handler, spooled=call.spooled, duplicate=duplicate)

    async def _ask(
        self, task_id: bytes, until: float | None, *, cancel: str | None = None
    ) -> Status:
        exchange = self._current()
        future: asyncio.Future[Reply] = exchange.loop.create_future()

        def answered(reply: Reply | PillionError) -> None:
            if future.done():
                return
            if isinstance(reply, PillionError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        request = exchange.ask(Asked(task_id, until, answered, cancel))
        try:
            reply = await future
        finally:
            exchange.questions.forget(request)
        if reply.status is not None:
            return reply.status
        if reply.code == Code.UNKNOWN_TASK:
            raise TaskNotFound(to_text(task_id))
        if reply.code == Code.UNAVAILABLE:
            raise self._unavailable(f"the status of task {to_text(task_id)}")
        raise Busy(reply.code or "", "the question was not answered", 1.0)

    def _unavailable(self, what: str) -> Unavailable:
        trouble = self._exchange.trouble if self._exchange is not None else ""
        return Unavailable(
            f"the sidecar at {self._path} did not tell {what} within {self._timeout:g} s"
            f"{': ' + trouble if trouble else ''}",
            sent=False,
        )


def _id(task: str | bytes) -> bytes:
    if isinstance(task, bytes):
        return task
    try:
        return from_text(task)
    except InvalidId as error:
        raise Rejected(Code.INVALID_ID, str(error)) from None
