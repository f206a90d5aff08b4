"""Hand what operators ask for to the core, and its answers back to who asked."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from coordinator.core.operations import Done, Operation, Refusal
from coordinator.core.shard import Operated


class Operating:
    """The operations under way.

    Args:
        step: Lets the core take an event.
        wake: Lets its effects be carried out.
    """

    def __init__(self, step: Callable[[Operated], Any], wake: Callable[[], None]) -> None:
        self._step = step
        self._wake = wake
        self._waiting: dict[int, asyncio.Future[Done | Refusal]] = {}
        self._asked = 0
        self.stopping = False

    async def ask(self, operation: Operation) -> Done | Refusal:
        """Have the core carry out an operation; return its answer when all is durable."""
        if self.stopping:
            return Refusal("stopping", "it would not come to it any more")
        loop = asyncio.get_running_loop()
        self._asked += 1
        answer: asyncio.Future[Done | Refusal] = loop.create_future()
        self._waiting[self._asked] = answer
        try:
            self._step(Operated(self._asked, operation))
        except Exception as error:  # A failure of the core, which is not this request's alone.
            loop.call_exception_handler({"message": "an operation failed", "exception": error})
            raise
        self._wake()
        return await answer

    def answer(self, results: Iterable[tuple[int, Any]]) -> None:
        """Hand over answers: what they tell of is durable."""
        for number, result in results:
            waits = self._waiting.pop(number)
            if not waits.done():  # Or whoever asked has gone.
                waits.set_result(result)
