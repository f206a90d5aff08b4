"""Run an asynchronous test on asyncio's own loop and on uvloop: the sidecar serves on both."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
WAIT_SECONDS = 10.0


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make of an asynchronous test one that runs on each loop, with the same fixtures."""

    def run(*, loop_kind: str, **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
            runner.run(test(**fixtures))

    signature = inspect.signature(test)
    loop_kind = inspect.Parameter("loop_kind", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), loop_kind]
    )
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.pytestmark = [  # type: ignore[attr-defined]
        *getattr(test, "pytestmark", []),
        pytest.mark.parametrize("loop_kind", sorted(LOOPS)).mark,
    ]
    return run


async def turns_until(holds: Callable[[], object]) -> None:
    """Let the loop turn until ``holds`` is true of what only it can change.

    Raises:
        TimeoutError: It was not in time.
    """
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():  # noqa: ASYNC110 (there is nothing to wait on)
            await asyncio.sleep(0)


class Log:
    """Things that happened, and a way to wait for more of them."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._more = asyncio.Event()

    def add(self, item: Any) -> None:
        self.items.append(item)
        self._more.set()

    async def until(self, holds: Callable[[list[Any]], object]) -> None:
        """Wait until ``holds`` is true of what happened.

        Raises:
            AssertionError: It was not in time.
        """
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not holds(self.items):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain; what happened: {self.items!r}") from None
