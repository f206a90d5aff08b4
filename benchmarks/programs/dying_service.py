"""A service whose first attempt of each task takes its process down, or holds it."""

import os
import signal
import sys
import time
from pathlib import Path

from sidecar import Service, current

service = Service("bench")
folder = Path(sys.argv[1])


def note(name: str) -> None:
    """Write down what the clock says; complete, or not there."""
    (folder / f".{name}").write_text(str(time.monotonic_ns()))
    (folder / f".{name}").rename(folder / name)


@service.handler(crashes=1_000, attempts=1_000)
def dies(number: int) -> None:
    """Die at the first delivery, and say when the next one begins."""
    first = current().delivery == 1
    note(f"{'died' if first else 'again'}-{number}")
    if first:
        os.kill(os.getpid(), signal.SIGKILL)


@service.handler(concurrency=1)
def held(number: int) -> None:
    """Wait to be killed at the first delivery, and say when the next one begins."""
    first = current().delivery == 1
    note(f"{'held' if first else 'again'}-{number}")
    if first:
        time.sleep(1_000)


service.run()
