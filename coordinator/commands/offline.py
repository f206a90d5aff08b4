"""Commands on files: hold the folder of a store that nobody serves, and name what is wrong.

Exit codes as of commands that ask a coordinator: 1 failed or damaged; 2 usage; 3 there is no such
store or file; 4 something is in the way; 5 no coordinator answers; 75 no room; 130 interrupted.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordinator.commands.api import Refused as Problem
from coordinator.commands.api import Unreachable
from coordinator.commands.output import say, tell
from coordinator.commands.progress import Progress
from coordinator.commands.running import EXIT_INTERRUPTED, EXIT_UNREACHABLE, exit_code
from coordinator.core.scrubbing import Scrubbing
from coordinator.errors import CoordinatorError, Corrupt, Refused
from coordinator.settings import Settings
from coordinator.store.directory import StoreDirectory
from coordinator.store.restoring import NoRoom, Occupied
from coordinator.store.snapshot import Snapshot

EXIT_FAILED, EXIT_NOT_FOUND, EXIT_CONFLICT, EXIT_NO_ROOM = 1, 3, 4, 75
NICE = 10
"""Verifying a copy takes a processor; whoever serves tasks beside it goes first."""


class NotThere(CoordinatorError):
    """Raised when a folder holds no store."""


_EXITS: dict[type[Exception], int] = {
    NotThere: EXIT_NOT_FOUND,
    FileNotFoundError: EXIT_NOT_FOUND,
    Occupied: EXIT_CONFLICT,
    Refused: EXIT_CONFLICT,
    NoRoom: EXIT_NO_ROOM,
    Unreachable: EXIT_UNREACHABLE,
}


def run(command: Callable[[], int]) -> int:
    """Run a command on files and return its exit code."""
    try:
        return command()
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Problem as error:
        return _fail(f"{error}; {error.hint}", exit_code(error))
    except (CoordinatorError, Unreachable, OSError) as error:
        codes = (code for kind, code in _EXITS.items() if isinstance(error, kind))
        return _fail(str(error), next(codes, EXIT_FAILED))
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)


@contextmanager
def held(
    settings: Settings, *, to_read: bool = False, to_restore: bool = False
) -> Iterator[StoreDirectory]:
    """Hold a store's folder, which no coordinator may be serving.

    Args:
        settings: Say where it is.
        to_read: Nothing is written, so any filesystem will do.
        to_restore: There need not be a store in it.

    Raises:
        NotThere: There is no store in it, unless one is to be restored.
        Refused: A coordinator serves it, or it is no place for a store.
    """
    directory = StoreDirectory(
        settings.data_dir.absolute(), allow_filesystem=settings.allow_filesystem or to_read
    )
    if not to_restore and not directory.holds_data:
        raise NotThere(f"{settings.data_dir} holds no store; name its folder with --data-dir")
    directory.acquire(to_restore=to_restore)
    clean = directory.was_clean
    try:
        yield directory
    finally:
        directory.release(clean=clean)


def verify(snapshot: Snapshot, what: str) -> Scrubbing:
    """Look at all rows and checksums of a file.

    Raises:
        Corrupt: Some row is damaged, or rows are missing.
    """
    progress = Progress(what, snapshot.compact_bytes)
    walk = Scrubbing()
    for walk in snapshot.scrub():
        progress(walk.bytes)
    progress.close()
    if walk.damaged:
        first = walk.findings[0]
        raise Corrupt(
            f"{snapshot.path}: {walk.damaged} rows are damaged, the first is a {first.kind} "
            f"({first.problem}); use another backup"
        )
    return walk


def behind() -> None:
    """Let other processes go first."""
    os.nice(NICE)


def told(form: str, facts: dict[str, Any], lines: list[str]) -> None:
    """Write what was done: for programs on stdout, for people likewise."""
    if form == "json":
        say(json.dumps(facts) + "\n")
    else:
        say("".join(f"{line}\n" for line in lines))


def since(began: float) -> float:
    """Return the seconds since a reading of the monotonic clock."""
    return round(time.monotonic() - began, 2)


def _fail(text: str, code: int) -> int:
    for line in text.splitlines():
        tell(f"pillion-coordinator: {line}")
    return code


def partial_of(path: Path) -> Path:
    """Return the name under which a file is made before it has its own."""
    return path.with_name(f"{path.name}.partial")
