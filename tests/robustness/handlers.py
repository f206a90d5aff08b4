"""The service under load: handlers of every kind, which write down what they do.

Arguments: the folder of the history, the name of the process, the name of its sidecar. Run as a
program; nothing imports it.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from sidecar import Defer, Fatal, Retry, Service, current
from tests.support.history import Recorder

FOLDER, NAME, SIDECAR = sys.argv[1:4]
service = Service("load")
history = Recorder(Path(FOLDER), f"{NAME}-{os.getpid()}")


class _Attempt:
    """What an attempt returns: its token and its payload's checksum, so that no two are alike."""

    result: list[int] | None = None


@contextlib.contextmanager
def _recorded() -> Iterator[_Attempt]:
    """Write down that an attempt runs, and how it ends."""
    context, attempt = current(), _Attempt()
    crc = crc32(context.payload)
    history.began(
        context.id,
        context.token,
        attempt=context.attempt,
        attempts_max=context.attempts_max,
        crc=crc,
        sidecar=SIDECAR,
    )
    how = "success"
    try:
        yield attempt
        attempt.result = [context.token, crc]
    except BaseException as error:
        how = type(error).__name__
        raise
    finally:
        history.ended(context.id, context.token, how, attempt.result)


@service.handler(concurrency=32, backoff_min="50ms", backoff_max="300ms")
async def quick(number: int, ms: int) -> list[int] | None:
    with _recorded() as attempt:
        pass
    return attempt.result


@service.handler(concurrency=16, backoff_min="50ms", backoff_max="300ms")
async def slow(number: int, ms: int) -> list[int] | None:
    with _recorded() as attempt:
        await asyncio.sleep(ms / 1000)
    return attempt.result


@service.handler(concurrency=8, backoff_min="50ms", backoff_max="300ms")
def blocking(number: int, ms: int) -> list[int] | None:
    """Runs in a thread, and does not look whether it is told to stop."""
    with _recorded() as attempt:
        time.sleep(ms / 1000)
    return attempt.result


@service.handler(concurrency=32, backoff_min="50ms", backoff_max="300ms")
async def long(number: int, ms: int) -> list[int] | None:
    """Outlives a session timeout, if nobody stops it."""
    with _recorded() as attempt:
        await asyncio.sleep(10 * ms / 1000)
    return attempt.result


@service.handler(concurrency=32, backoff_min="50ms", backoff_max="300ms")
def patient(number: int, ms: int) -> list[int] | None:
    """The same in a thread, which looks whether it is told to stop."""
    with _recorded() as attempt:
        if current().wait_cancelled(10 * ms / 1000):
            current().raise_if_cancelled()
    return attempt.result


@service.handler(concurrency=16, backoff_min="20ms", backoff_max="100ms")
async def flaky(number: int, ms: int) -> list[int] | None:
    with _recorded() as attempt:
        match current().delivery % 4:
            case 1:
                raise RuntimeError("fails at first")
            case 2:
                raise Retry("once more", after="30ms")
            case 3:
                raise Defer("not now", after="30ms")
    return attempt.result


@service.handler(concurrency=16)
async def doomed(number: int, ms: int) -> None:
    with _recorded():
        raise Fatal("never works")


@service.handler(concurrency=16, attempts=2, backoff_min="10ms", backoff_max="20ms")
def hopeless(number: int, ms: int) -> None:
    with _recorded():
        raise ValueError("fails each time")


if __name__ == "__main__":
    service.run()
