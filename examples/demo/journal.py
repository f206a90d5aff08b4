"""What handlers write down themselves about every attempt: the evidence for the checks.

Each process appends to a file of its own. A line is one ``write``, so a killed process leaves whole
lines only. Times are of the machine's monotonic clock, which all its processes share.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from examples.demo import places
from sidecar import Cancelled, Defer, Fatal, current

NAME_VARIABLE = "DEMO_PROCESS"


@contextmanager
def attempt() -> Iterator[None]:
    """Write down when the attempt inside begins, when it ends, and how."""
    here = current()
    about = {"task": here.id, "token": here.token}
    _write(
        {
            **about,
            "handler": here.handler,
            "delivery": here.delivery,
            "pid": os.getpid(),
            "wall_ms": time.time_ns() // 1_000_000,
        }
    )
    outcome = "retry"
    try:
        yield
        outcome = "success"
    except Defer:
        outcome = "defer"
        raise
    except Fatal:
        outcome = "fatal"
        raise
    except (Cancelled, asyncio.CancelledError):
        outcome = "stopped"
        raise
    finally:
        _write({**about, "outcome": outcome})


def _write(entry: dict[str, object]) -> None:
    entry["at_ns"] = time.monotonic_ns()
    os.write(_file(), json.dumps(entry).encode() + b"\n")


@cache
def _file() -> int:
    path = places.JOURNAL / f"{os.environ.get(NAME_VARIABLE, 'service')}.jsonl"
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
