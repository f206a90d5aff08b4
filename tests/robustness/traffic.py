"""A steady stream of mixed tasks, submitted as an app would, and followed to their ends."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from zlib import crc32

from protocol.ids import TaskIds, to_text
from sidecar import AsyncClient
from sidecar.sdk.errors import Busy, Rejected, TaskFailed, TaskNotFound, Unavailable
from sidecar.sdk.new_task import NewTask
from tests.support.history import ACCEPTED, UNKNOWN, Recorder

STEP_SECONDS = 0.01
WATCHED_SHARE = 0.2
"""Share of tasks that somebody waits for from the start, whatever is broken meanwhile."""
PRIORITIES = ("critical", "high", "normal", "normal", "low")
SHARES = {
    "quick": 56,
    "slow": 14,
    "blocking": 9,
    "flaky": 8,
    "long": 3,
    "patient": 3,
    "doomed": 3,
    "hopeless": 4,
}
"""Percent of each handler of ``handlers.py``."""


class Traffic:
    """Submits at a rate while its context lasts.

    Args:
        sockets: Of the sidecars; each task goes to any of them.
        history: Where to write what is submitted and what is told of it.
        rng: Decides what is submitted.
        rate: Tasks a second.
    """

    def __init__(
        self, sockets: Sequence[Path], history: Recorder, rng: random.Random, rate: int
    ) -> None:
        self._clients = [AsyncClient(path, timeout="30s") for path in sockets]
        self._history = history
        self._rng = rng
        self._rate = rate
        self._ids = TaskIds()
        self._loop = asyncio.get_running_loop()
        self._submits: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._milestones: list[tuple[int, asyncio.Future[None]]] = []
        self._pace: asyncio.Task[None] | None = None
        self._open: set[str] = set()
        """Submitted, and not seen to have ended."""
        self._called = 0
        self.watched_ends = 0

    async def __aenter__(self) -> "Traffic":
        self._pace = self._loop.create_task(self._submit_steadily())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._pace is not None
        self._pace.cancel()
        await asyncio.wait([self._pace])
        if error is not None:
            for work in self._submits | self._watches:
                work.cancel()
            await self.close()

    async def calls(self, count: int) -> None:
        """Return when so many more tasks have been submitted: a moment in the middle of things.

        Raises what broke the stream, if something did.
        """
        assert self._pace is not None
        reached: asyncio.Future[None] = self._loop.create_future()
        self._milestones.append((self._called + count, reached))
        await asyncio.wait([reached, self._pace], return_when=asyncio.FIRST_COMPLETED)
        if not reached.done():
            self._pace.result()

    async def finish(self, seconds: float) -> None:
        """Wait until every task has its verdict and its end; to be called after the context.

        Raises:
            TimeoutError: Some task has not ended in time; says which.
        """
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self._submits, *self._watches)
                await asyncio.gather(*[self._follow(task_id) for task_id in list(self._open)])
        except TimeoutError:
            raise TimeoutError(await self._describe(seconds)) from None
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()

    async def _submit_steadily(self) -> None:
        began, made = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * self._rate)
            for _ in range(due - made):
                work = self._loop.create_task(self._submit(self._new_task()))
                self._submits.add(work)
                work.add_done_callback(self._submitted)
            made = max(made, due)
            while self._milestones and self._milestones[0][0] <= self._called:
                self._milestones.pop(0)[1].set_result(None)
            await asyncio.sleep(STEP_SECONDS)  # The pace of the load; nothing is waited for.

    def _submitted(self, work: "asyncio.Task[None]") -> None:
        """Forget a submit that went well; one that failed is raised by ``finish``."""
        if not work.cancelled() and work.exception() is None:
            self._submits.discard(work)

    def _new_task(self) -> NewTask:
        rng = self._rng
        (name,) = rng.choices(list(SHARES), weights=list(SHARES.values()))
        payload = {"number": rng.randrange(10**9), "ms": rng.randrange(50, 301)}
        delay = f"{rng.randrange(50, 1500)}ms" if rng.random() < 0.1 else None
        expires = f"{rng.randrange(200, 2000)}ms" if rng.random() < 0.03 else None
        return NewTask(
            handler=f"load.{name}",
            payload=json.dumps(payload).encode(),
            content_type="application/json",
            id=to_text(self._ids.batch(1)[0]),
            delay=delay,
            expires=expires,
            priority=rng.choice(PRIORITIES),
            collection=rng.choice((None, None, "blue")),
        )

    async def _submit(self, task: NewTask) -> None:
        assert task.id is not None
        self._called += 1
        self._open.add(task.id)
        watched = self._rng.random() < WATCHED_SHARE
        client = self._rng.choice(self._clients)
        self._history.called(task.id, handler=task.handler, crc=crc32(task.payload))
        try:
            await client.submit_task(task)
        except Unavailable:
            self._history.verdict(task.id, UNKNOWN)
        except (Busy, Rejected) as error:
            self._history.verdict(task.id, error.code)
        else:
            self._history.verdict(task.id, ACCEPTED)
            if watched:
                self._watches.add(self._loop.create_task(self._watch(client, task.id)))

    async def _watch(self, client: AsyncClient, task_id: str) -> None:
        await self._see_the_end(client, task_id)
        self.watched_ends += 1

    async def _follow(self, task_id: str) -> None:
        await self._see_the_end(self._rng.choice(self._clients), task_id)

    async def _see_the_end(self, client: AsyncClient, task_id: str) -> None:
        try:
            with contextlib.suppress(TaskFailed):
                await client.wait(task_id)
            found = await client.status(task_id)
        except TaskNotFound:
            # Right only for what was not accepted: otherwise the checker misses its end.
            self._open.discard(task_id)
            return
        self._open.discard(task_id)
        self._history.seen(
            task_id,
            state=found.state,
            attempts=found.attempts,
            attempts_max=found.attempts_max,
            result=found.result,
            error=found.error,
        )

    async def _describe(self, seconds: float) -> str:
        lines = [f"{len(self._open)} tasks have not ended within {seconds:g} s"]
        for task_id in sorted(self._open)[:5]:
            try:
                lines.append(str(await self._clients[0].status(task_id)))
            except (TaskNotFound, Unavailable) as error:
                lines.append(f"{task_id}: {error}")
        return "\n".join(lines)
