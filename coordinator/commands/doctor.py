"""Look at what a coordinator stands on, before or while it serves; each finding names its fix.

Nothing is changed, but for a small file in the data folder that is written, flushed and removed.
Exits 0, or 1 if something is bad; what may become bad is a warning.
"""

import os
import stat
import statistics
import time
from collections.abc import Iterator
from typing import Any

from coordinator.commands.api import Api, Refused, Unreachable
from coordinator.commands.output import Writer, age
from coordinator.commands.running import place_of
from coordinator.commands.status import size
from coordinator.errors import CoordinatorError
from coordinator.settings import SOCKET_PATH_BYTES_MAX, Settings, build
from coordinator.store.directory import DATA_FILE, OLD_FILE
from coordinator.store.filesystems import filesystem_type
from coordinator.store.lmdb_file import bytes_missing
from protocol.filesystems import is_forgetful, why_refused
from protocol.findings import (
    BAD,
    OK,
    PLAUSIBLE_MS,
    WARNING,
    Finding,
    descriptors,
    time_flushes,
    versions,
)
from protocol.settings import Values
from protocol.version import SOFTWARE

FLUSHES = 20
FLUSH_WARNING_MS, FLUSH_BAD_MS = 20.0, 500.0
DESCRIPTORS_MIN = 4_096
FULL_PERCENT = 80
CLOCK_MS_MAX = 1_000
_LIBRARIES = ("lmdb", "pyzmq", "msgpack", "uvloop", "aiohttp")


def doctor(values: Values, form: str) -> int:
    """Look at everything, write what was found, and return the exit code."""
    settings = build(values)
    told = _status(settings, values)
    writer = Writer(form, ["check", "level", "detail", "fix"], "check")
    found = [
        finding
        for check in (_versions, _folder, _file, _flushes, _disk, _descriptors, _sockets, _token)
        for finding in check(settings)
    ]
    found += [*_served(told), *_clock(told)]
    writer.write([finding._asdict() for finding in found])
    writer.close()
    return int(any(finding.level == BAD for finding in found))


def _status(settings: Settings, values: Values) -> dict[str, Any] | None:
    """Return what a running coordinator tells; None if there is none."""
    try:
        told: dict[str, Any] = Api(place_of(settings, values)).get("/v1/status")
    except (Unreachable, Refused, CoordinatorError):
        return None
    return told


def _versions(_: Settings) -> Iterator[Finding]:
    return versions(_LIBRARIES)


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.absolute()
    if not folder.exists():
        yield Finding(
            "data_dir", WARNING, f"{folder} is not there", "serve makes it, or set data_dir"
        )
        return
    found = folder.stat()
    if found.st_uid != os.geteuid():
        yield Finding(
            "data_dir",
            BAD,
            f"{folder} belongs to user {found.st_uid}, this is user {os.geteuid()}",
            "run as the coordinator's user, or chown the folder",
        )
    elif found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        yield Finding(
            "data_dir", WARNING, f"{folder} has mode {mode:o}: others look in", "chmod 700 it"
        )
    else:
        yield Finding("data_dir", OK, str(folder))
    kind = filesystem_type(folder)
    if reason := why_refused(kind):
        level = WARNING if settings.allow_filesystem else BAD
        yield Finding("filesystem", level, reason, "set data_dir to a local disk")
    elif is_forgetful(kind):
        yield Finding("filesystem", WARNING, f"{kind} forgets at a restart", "use a disk")
    else:
        yield Finding("filesystem", OK, kind or "unknown")


def _file(settings: Settings) -> Iterator[Finding]:
    file = settings.data_dir / DATA_FILE
    if not file.exists():
        return
    held = file.stat().st_size
    if missing := bytes_missing(file):
        detail = f"{file} is {missing} bytes shorter than it must be"
        yield Finding("store", BAD, detail, "restore it from a backup")
    share = held * 100 // settings.store_map_bytes
    detail = f"the file has {size(held)}, {share} % of store_map_size"
    fix = "raise store_map_size, shorten the retention, or compact"
    full = share >= FULL_PERCENT
    yield Finding("map", WARNING if full else OK, detail, fix if full else "")
    old = settings.data_dir / OLD_FILE
    if old.exists():
        detail = f"{old} takes {size(old.stat().st_size)}"
        yield Finding("old file", WARNING, detail, "delete it if the restore was right")


def _flushes(settings: Settings) -> Iterator[Finding]:
    if not settings.data_dir.is_dir():
        return
    try:
        took = time_flushes(settings.data_dir / "pillion.doctor", FLUSHES)
    except OSError as error:
        yield Finding("flush", BAD, f"the disk cannot be written: {error}", "mend it")
        return
    typical, worst = statistics.median(took), max(took)
    level = BAD if typical > FLUSH_BAD_MS else WARNING if typical > FLUSH_WARNING_MS else OK
    detail = f"{typical:.1f} ms, at worst {worst:.1f} ms of {FLUSHES}"
    fix = (
        "" if level == OK else "each commit waits for it: use a faster disk, or look who else does"
    )
    yield Finding("flush", level, detail, fix)


def _disk(settings: Settings) -> Iterator[Finding]:
    if not settings.data_dir.is_dir():
        return
    disk = os.statvfs(settings.data_dir)
    free = disk.f_bavail * disk.f_frsize
    low = settings.disk_free_bytes_min
    level = BAD if free < low else WARNING if free < 4 * low else OK
    fix = "" if level == OK else "free some space: under disk_free_min submissions are refused"
    yield Finding("disk", level, f"{size(free)} free, disk_free_min is {size(low)}", fix)


def _descriptors(_: Settings) -> Iterator[Finding]:
    yield descriptors(DESCRIPTORS_MIN, "sidecar")


def _sockets(settings: Settings) -> Iterator[Finding]:
    path = settings.http_socket
    if path is None:
        yield Finding(
            "socket",
            WARNING,
            f"none: its path in data_dir would have more than {SOCKET_PATH_BYTES_MAX} bytes",
            "set http_socket to a shorter path",
        )
        return
    try:
        mode = path.stat().st_mode
    except OSError:
        yield Finding("socket", OK, f"{path}: not there, {len(bytes(path))} bytes long")
        return
    if not stat.S_ISSOCK(mode):
        yield Finding("socket", BAD, f"{path} is no socket", "move it away, or set http_socket")
    elif mode & 0o077:
        detail = f"{path} has mode {stat.S_IMODE(mode):o}: others may ask"
        yield Finding("socket", WARNING, detail, "chmod 600 it")
    else:
        yield Finding("socket", OK, f"{path}: mode {stat.S_IMODE(mode):o}")


def _token(settings: Settings) -> Iterator[Finding]:
    file = settings.http_token_file
    if file is None:
        return
    try:
        mode = file.stat().st_mode
    except OSError as error:
        yield Finding("token", BAD, f"{file}: {error.strerror}", "make the file, or unset it")
        return
    shared = mode & 0o077
    detail = f"{file} has mode {stat.S_IMODE(mode):o}"
    yield Finding("token", WARNING if shared else OK, detail, "chmod 600 it" if shared else "")


def _served(told: dict[str, Any] | None) -> Iterator[Finding]:
    if told is None:
        fix = "pillion-coordinator serve"
        yield Finding("coordinator", WARNING, "none answers", fix)
        return
    if told["software"] != SOFTWARE:
        detail = f"it is {told['software']}, this command is {SOFTWARE}"
        yield Finding("coordinator", WARNING, detail, "restart it, or use its own command")
    else:
        yield Finding("coordinator", OK, f"{told['address']}, epoch {told['epoch']}")
    levels = {"warning": WARNING, "critical": BAD}
    for reason in told["reasons"]:
        yield Finding("coordinator", levels[reason["level"]], reason["text"], reason["hint"])


def _clock(told: dict[str, Any] | None) -> Iterator[Finding]:
    now_ms = time.time_ns() // 1_000_000
    fix = "set the clock and keep it set (chrony, systemd-timesyncd): delays and expiry follow it"
    if now_ms < PLAUSIBLE_MS:
        yield Finding("clock", BAD, f"{time.strftime('%Y-%m-%d %H:%M')} cannot be right", fix)
        return
    apart_ms = abs(now_ms - told["now_ms"]) if told else 0
    if apart_ms > CLOCK_MS_MAX:
        yield Finding("clock", WARNING, f"the coordinator's is {age(apart_ms)} away", fix)
    else:
        yield Finding("clock", OK, time.strftime("%Y-%m-%d %H:%M:%S %Z"))
