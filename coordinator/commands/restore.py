"""Put a backup in the place of a store, or a store in the place of its own compact copy."""

import time
from pathlib import Path

from coordinator.commands import offline
from coordinator.commands.progress import Progress
from coordinator.settings import Settings
from coordinator.store.lmdb_store import verify_file
from coordinator.store.restoring import compact as exchange
from coordinator.store.restoring import restore as put_back
from coordinator.store.snapshot import Snapshot

_EXPECT = """\
What was submitted since the backup is gone, unless its submitter or a spool sends it again.
What ended since then runs again: handlers must be idempotent, as always.
Sidecars need no restart. After the start nothing is granted for one session timeout, until leases
from after the backup cannot be alive; grants_go_on in the log tells when."""


def restore(settings: Settings, file: Path, *, replace: bool, form: str) -> int:
    """Restore a backup into the data folder and return the exit code."""
    return offline.run(lambda: _restore(settings, file.absolute(), replace, form))


def _restore(settings: Settings, file: Path, replace: bool, form: str) -> int:
    began = time.monotonic()
    with offline.held(settings, to_restore=True) as directory:
        backup = Snapshot(file)
        try:
            verify_file(file, "use another backup")
            walk = offline.verify(backup, "verifying")
            progress = Progress("copying", backup.compact_bytes)
            epoch, kept = put_back(
                backup,
                directory,
                replace=replace,
                map_bytes=settings.store_map_bytes,
                progress=progress,
            )
            progress.close()
        finally:
            backup.close()
    facts = {
        "data_dir": str(directory.path),
        "file": str(file),
        "tasks": walk.tasks,
        "store": backup.meta.uuid.hex(),
        "epoch": epoch,
        "replaced": str(kept) if kept else None,
        "seconds": offline.since(began),
    }
    lines = [f"{directory.path}: {walk.tasks} tasks restored from {file}; epoch {epoch}", _EXPECT]
    if kept:
        lines.append(f"The file that was replaced is {kept}; delete it when it is not needed.")
    offline.told(form, facts, lines)
    return 0


def compact(settings: Settings, form: str) -> int:
    """Make the file of a store as small as what it holds, and return the exit code."""
    return offline.run(lambda: _compact(settings, form))


def _compact(settings: Settings, form: str) -> int:
    began = time.monotonic()
    with offline.held(settings) as directory:
        verify_file(directory.data_file, "restore it from a backup")
        progress = Progress("copying", directory.data_file.stat().st_size)
        before, after = exchange(directory, progress)
        progress.close()
    facts = {"bytes_before": before, "bytes_after": after, "seconds": offline.since(began)}
    text = f"{directory.data_file}: {before / 2**20:.1f} MiB are {after / 2**20:.1f} MiB now"
    offline.told(form, facts, [text])
    return 0
