"""A bounded pool of threads for handlers that block.

Threads start when they are needed and are daemons: a handler that never returns must not keep the
process from ending, which the standard library's executor would wait for.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]


class Threads:
    """Up to ``threads_max`` threads; the caller has no more work than that under way.

    Invariant: ``_busy`` counts work that was started and not said to be done.
    """

    def __init__(self, name: str, threads_max: int) -> None:
        self._name = name
        self._threads_max = threads_max
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._started = 0
        self._busy = 0

    def start(self, work: Work) -> None:
        """Run ``work``, which must not raise, in a free thread."""
        self._busy += 1
        assert self._busy <= self._threads_max
        if self._busy > self._started:
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=self._run, name=name, daemon=True).start()
        self._work.put(work)

    def done(self) -> None:
        """Say that one piece of work is over; its thread is free."""
        self._busy -= 1

    def stop(self) -> None:
        """End the threads, each when its work is over."""
        for _ in range(self._started):
            self._work.put(None)
        self._started = 0

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
