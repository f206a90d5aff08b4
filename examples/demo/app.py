"""The app: submits tasks, waits for each of them, and learns at last what became of it."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from examples.demo.plan import Case
from sidecar import AsyncClient, PillionError, TaskFailed

TRICKLE_S = 0.03


class App:
    """An app beside one sidecar; what it learns is in ``cases``.

    Args:
        socket: The sidecar's socket.
        cases: All that there is to submit.
    """

    def __init__(self, socket: Path, cases: Sequence[Case]) -> None:
        self._client = AsyncClient(socket)
        self._cases = cases
        self._work: set[asyncio.Task[None]] = set()

    async def submit_at_once(self) -> int:
        """Submit in one call all that need not be late; return how many were accepted."""
        cases = [case for case in self._cases if not case.late]
        now_ms = _now_ms()
        verdicts = await self._client.submit_many([case.task for case in cases])
        for case, verdict in zip(cases, verdicts, strict=True):
            if isinstance(verdict, PillionError):
                case.trouble = f"not accepted: {verdict}"
            else:
                self._accepted(case, verdict.id, now_ms)
        return sum(bool(case.id) for case in cases)

    def submit_the_rest(self) -> None:
        """Begin to submit the late ones, one by one, whatever is down meanwhile."""
        self._begin(self._submit_one_by_one())

    async def until_all_have_ended(self) -> None:
        """Wait until all is submitted and all has ended."""
        while self._work:
            await asyncio.wait(self._work)

    async def close(self) -> None:
        """Stop waiting and disconnect."""
        work = list(self._work)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await self._client.close()

    async def _submit_one_by_one(self) -> None:
        for case in self._cases:
            if case.late:
                now_ms = _now_ms()
                try:
                    task = await self._client.submit_task(case.task)
                except PillionError as error:
                    case.trouble = f"not accepted: {error}"
                else:
                    self._accepted(case, task.id, now_ms)
                await asyncio.sleep(TRICKLE_S)

    def _accepted(self, case: Case, task_id: str, now_ms: int) -> None:
        case.id, case.submitted_ms = task_id, now_ms
        self._begin(self._follow(case))

    async def _follow(self, case: Case) -> None:
        """Wait for a task's end, over restarts of whatever, and learn what became of it."""
        try:
            with contextlib.suppress(TaskFailed):  # Some should fail; the checks compare.
                await self._client.wait(case.id)
            case.status = await self._client.status(case.id)
        except PillionError as error:
            case.trouble = f"no status: {error}"

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
