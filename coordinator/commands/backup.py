"""Save a store to one file: of a coordinator that serves, over its API, or of one that does not.

The file gets its name only once it is on disk and every row in it was read and found whole. What
is left of a backup that was killed ends with ``.partial`` and is overwritten by the next.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from coordinator.commands import offline
from coordinator.commands.api import Api, Unreachable
from coordinator.commands.output import tell
from coordinator.commands.progress import Progress
from coordinator.commands.running import place_of
from coordinator.core.scrubbing import Scrubbing
from coordinator.errors import Refused
from coordinator.settings import build
from coordinator.store.copying import Copying
from coordinator.store.directory import holds_a_store, sync_directory
from coordinator.store.restoring import Occupied, need_room, write_durably
from coordinator.store.snapshot import Snapshot
from protocol.settings import Values


def backup(values: Values, file: Path, *, rate_mib: int, replace: bool, form: str) -> int:
    """Write the backup and return the exit code."""
    return offline.run(lambda: _backup(values, file.absolute(), rate_mib, replace, form))


def _backup(values: Values, file: Path, rate_mib: int, replace: bool, form: str) -> int:
    if not file.parent.is_dir():
        raise offline.NotThere(f"there is no folder {file.parent}; make it, or mount its disk")
    if holds_a_store(file.parent):
        raise Occupied(
            f"{file.parent} is the folder of a store; save it elsewhere, at best on another disk"
        )
    if file.exists() and not (replace and file.is_file()):
        raise Occupied(f"{file} exists; name another file, or add --replace")
    began = time.monotonic()
    offline.behind()
    partial = offline.partial_of(file)
    with _kept_alone(partial):
        try:
            served, size = _copy(values, partial, rate_mib)
            copied = offline.since(began)
            walk, snapshot = _verified(partial)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(file)
    sync_directory(file.parent)
    facts = {
        "file": str(file),
        "bytes": size,
        "tasks": walk.tasks,
        "rows": walk.rows,
        "store": snapshot.meta.uuid.hex(),
        "epoch": snapshot.meta.epoch,
        "of_a_serving_coordinator": served,
        "copy_seconds": copied,
        "seconds": offline.since(began),
    }
    text = f"{file}: {walk.tasks} tasks in {size / 2**20:.1f} MiB, verified"
    offline.told(form, facts, [f"{text}, in {facts['seconds']} s"])
    return 0


@contextlib.contextmanager
def _kept_alone(partial: Path) -> Iterator[None]:
    """Keep a second backup to the same file away; the lock goes with the process."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(partial, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Occupied(f"{partial} is being written by another backup") from None
    finally:
        os.close(descriptor)


def _copy(values: Values, partial: Path, rate_mib: int) -> tuple[bool, int]:
    """Copy, and return whether the store was served, and the size of the copy."""
    settings = build(values)
    api = Api(place_of(settings, values))
    query = {"mib_per_second": str(rate_mib)}
    try:
        plan = api.get("/v1/backup/plan", query)
    except Unreachable as unreachable:
        try:
            with offline.held(settings, to_read=True) as directory:
                return False, _copy_file(Snapshot(directory.data_file), partial)
        except Refused as error:
            raise Refused(f"{unreachable}\n{error}") from None
    need_room(partial.parent, plan["bytes"])
    tell(
        f"copying {plan['bytes'] >> 20} MiB at {rate_mib} MiB/s; until it is done the store's file "
        f"may grow by {plan['grows_by_max'] >> 20} MiB, then the backup is stopped"
    )
    progress = Progress("copying", plan["bytes"])
    try:
        return True, write_durably(api.stream("/v1/backup", query), partial, progress)
    except Unreachable as unreachable:
        # Raises in its turn if the coordinator is gone.
        why = api.get("/v1/backup/plan")["stopped"]
        raise Unreachable(f"the backup was stopped: {why}" if why else str(unreachable)) from None
    finally:
        progress.close()


def _copy_file(source: Snapshot, partial: Path) -> int:
    need_room(partial.parent, source.compact_bytes)
    progress = Progress("copying", source.compact_bytes)
    copying = Copying(source.copy)
    try:
        return write_durably(copying.parts(), partial, progress)
    finally:
        progress.close()
        copying.close()
        source.close()


def _verified(partial: Path) -> tuple[Scrubbing, Snapshot]:
    snapshot = Snapshot(partial)
    try:
        return offline.verify(snapshot, "verifying"), snapshot
    finally:
        snapshot.close()
