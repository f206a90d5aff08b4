"""What the doctors of both programs look at alike: libraries, descriptors, how fast a disk flushes.

Like ``protocol.log`` a shell that both sides share. The bounds and what to do are the caller's.
"""

import importlib.metadata
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from protocol.version import SOFTWARE

OK, WARNING, BAD = "ok", "warning", "bad"
PLAUSIBLE_MS = 1_700_000_000_000
"""A time of day before this is that of a machine whose clock was never set."""
_BLOCK_BYTES = 4096


class Finding(NamedTuple):
    """What was looked at, and what is to be done about it."""

    check: str
    level: str
    detail: str
    fix: str = ""


def versions(libraries: Sequence[str]) -> Iterator[Finding]:
    """Tell the versions of this program, of Python and of libraries, and which are not there."""
    found = []
    for name in libraries:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("versions", BAD, f"{name} is not installed", f"pip install {name}")
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("versions", OK, f"pillion {SOFTWARE}, Python {python}, {', '.join(found)}")


def descriptors(least: int, takes_one: str) -> Finding:
    """Tell how many descriptors a process may have, and warn of fewer than ``least``."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    few = 0 <= hard < least
    shown = "no limit" if hard == resource.RLIM_INFINITY else str(hard)
    fix = f"raise it (ulimit -Hn, LimitNOFILE=): each {takes_one} takes one" if few else ""
    return Finding("descriptors", WARNING if few else OK, shown, fix)


def time_flushes(file: Path, times: int) -> list[float]:
    """Return how many milliseconds each of some flushes took; the file is made and removed.

    Raises:
        OSError: It cannot be written.
    """
    took = []
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(file, flags, 0o600)
    try:
        for _ in range(times):
            os.write(descriptor, bytes(_BLOCK_BYTES))
            began = time.perf_counter()
            os.fdatasync(descriptor)
            took.append((time.perf_counter() - began) * 1000)
    finally:
        os.close(descriptor)
        file.unlink()
    return took
