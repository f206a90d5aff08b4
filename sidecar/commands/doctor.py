"""Look at what a sidecar stands on, before or while it runs; each finding names its fix.

Nothing is changed, but for a small file in the spool's folder that is written, flushed and removed.
Exits 0, or 1 if something is bad; what may become bad is a warning.
"""

import json
import os
import socket
import stat
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from protocol.filesystems import OVERLAY, is_forgetful, why_refused
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
from protocol.units import format_size
from protocol.version import SOFTWARE
from sidecar.commands import check
from sidecar.gateway.socket_file import PATH_BYTES_MAX
from sidecar.settings import Settings
from sidecar.spool import filesystem_type

_LEVELS = {check.OK: OK, check.WARNING: WARNING, check.CRITICAL: BAD}
CONNECT_SECONDS = 3.0
CONNECT_WARNING_MS = 250.0
FLUSHES = 10
FLUSH_WARNING_MS, FLUSH_BAD_MS = 50.0, 1_000.0
DESCRIPTORS_MIN = 1_024
FREE_BYTES_MIN = 64 * 2**20
_LIBRARIES = ("lmdb", "pyzmq", "msgpack", "uvloop", "httptools")


def doctor(settings: Settings, output: str) -> int:
    """Look at everything, write what was found, and return the exit code."""
    looks = (_versions, _socket, _spool, _coordinator, _descriptors, _clock, _running)
    found = [finding for look in looks for finding in look(settings)]
    if output == "json":
        print(json.dumps([finding._asdict() for finding in found], indent=2), flush=True)
    else:
        print(_table(found), flush=True)
    return int(any(finding.level == BAD for finding in found))


def _table(found: list[Finding]) -> str:
    rows: list[tuple[str, ...]] = [("CHECK", "LEVEL", "DETAIL", "FIX")]
    rows += [tuple(check.printable(cell) or "-" for cell in finding) for finding in found]
    sizes = [max(len(row[place]) for row in rows) for place in range(4)]
    lines = ("  ".join(map(str.ljust, row, sizes)).rstrip() for row in rows)
    return "\n".join(lines)


def _versions(_: Settings) -> Iterator[Finding]:
    return versions(_LIBRARIES)


def _socket(settings: Settings) -> Iterator[Finding]:
    path = settings.socket
    size = len(os.fsencode(path))
    if size > PATH_BYTES_MAX:
        detail = f"its path has {size} bytes; {PATH_BYTES_MAX} can be: {path}"
        yield Finding("socket", BAD, detail, "name a shorter one with --socket")
        return
    yield _folder(path.parent)
    try:
        found = path.stat()
    except OSError as error:
        detail = f"{path}: {(error.strerror or 'not there').lower()}, {size} bytes long"
        yield Finding("socket", OK, detail)
        return
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISSOCK(found.st_mode):
        yield Finding("socket", BAD, f"{path} is no socket", "move it away, or use --socket")
    elif mode & 0o007:
        yield Finding("socket", WARNING, f"{path} has mode {mode:o}: all may use it", "chmod 660")
    else:
        yield Finding("socket", OK, f"{path}: mode {mode:o}, {size} bytes long")


def _folder(folder: Path) -> Finding:
    """Look at the folder of the socket: who may write to it can take the socket's place."""
    above = folder
    while not above.exists():
        above = above.parent
    found = above.stat()
    if above != folder:
        if os.access(above, os.W_OK | os.X_OK):
            return Finding("folder", OK, f"{folder} is made at the start")
        fix = f"make {folder} for this user, or use --socket"
        return Finding("folder", BAD, f"{folder} is not there; {above} cannot be written", fix)
    if not os.access(folder, os.W_OK | os.X_OK):
        detail = f"{folder} belongs to user {found.st_uid}; this is user {os.geteuid()}"
        return Finding("folder", BAD, detail, "run as its owner, or chown it")
    if found.st_mode & 0o002 and not found.st_mode & stat.S_ISVTX:
        detail = f"{folder} has mode {stat.S_IMODE(found.st_mode):o}: all may exchange the socket"
        return Finding("folder", WARNING, detail, "chmod 750 it")
    mode = stat.S_IMODE(found.st_mode)
    return Finding("folder", OK, f"{folder}: user {found.st_uid}, mode {mode:o}")


def _spool(settings: Settings) -> Iterator[Finding]:
    folder = settings.spool_dir
    if folder is None:
        detail = "none: submitting fails while the coordinator is away"
        yield Finding("spool", WARNING, detail, "leave out --no-spool")
        return
    above = folder.absolute()
    while not above.exists():
        above = above.parent
    if above != folder.absolute() and not os.access(above, os.W_OK | os.X_OK):
        detail = f"{folder} is not there; {above} cannot be written"
        yield Finding("spool", BAD, detail, "make it for this user, or name another --spool-dir")
        return
    if above == folder.absolute():
        yield _spool_folder(folder)
    yield _filesystem(above)
    disk = os.statvfs(above)
    free = disk.f_bavail * disk.f_frsize
    low = free < FREE_BYTES_MIN
    shown = f"{_size(free)} free, spool_max is {format_size(settings.spool_bytes_max)}"
    short = free < settings.spool_bytes_max
    fix = "free some space, or lower --spool-max" if short else ""
    yield Finding("disk", BAD if low else WARNING if short else OK, shown, fix)
    if os.access(folder, os.W_OK):
        yield _flushes(folder)


def _spool_folder(folder: Path) -> Finding:
    found = folder.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        detail = f"{folder} belongs to user {found.st_uid}; this is user {os.geteuid()}"
        return Finding("spool", BAD, detail, "run as its owner, or name another --spool-dir")
    if mode & 0o022:
        return Finding("spool", BAD, f"{folder} has mode {mode:o}: others write", "chmod 700 it")
    if mode & 0o077:
        return Finding("spool", WARNING, f"{folder} has mode {mode:o}: others read", "chmod 700 it")
    return Finding("spool", OK, f"{folder}: mode {mode:o}")


def _filesystem(folder: Path) -> Finding:
    kind = filesystem_type(folder)
    if kind != OVERLAY and (reason := why_refused(kind)):
        return Finding("filesystem", BAD, reason, "name a --spool-dir on a local disk")
    if kind == OVERLAY or is_forgetful(kind):
        fix = "name a --spool-dir on a disk that outlives the sidecar"
        return Finding("filesystem", WARNING, f"{kind}: what is spooled may go with it", fix)
    return Finding("filesystem", OK, kind or "unknown")


def _flushes(folder: Path) -> Finding:
    try:
        took = time_flushes(folder / "pillion.doctor", FLUSHES)
    except OSError as error:
        return Finding("flush", BAD, f"the spool's disk cannot be written: {error}", "mend it")
    typical = statistics.median(took)
    level = BAD if typical > FLUSH_BAD_MS else WARNING if typical > FLUSH_WARNING_MS else OK
    fix = "" if level == OK else "use a faster disk, or look who else writes to it"
    return Finding("flush", level, f"{typical:.1f} ms, at worst {max(took):.1f} ms", fix)


def _coordinator(settings: Settings) -> Iterator[Finding]:
    """See whether the address takes a connection; what it says there is for the running sidecar."""
    host, _, port = settings.coordinator.removeprefix("tcp://").rpartition(":")
    began = time.perf_counter()
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS)
        with connection:
            took_ms = (time.perf_counter() - began) * 1000
            greets = _greets(connection)
    except OSError as error:
        late = isinstance(error, TimeoutError)
        why = f"no answer in {CONNECT_SECONDS:g} s" if late else error.strerror or str(error)
        fix = "start it, or set --coordinator; look at the firewall between"
        yield Finding("coordinator", BAD, f"{settings.coordinator}: {why}", fix)
        return
    if not greets:
        detail = f"what listens at {settings.coordinator} does not speak ZeroMQ"
        yield Finding(
            "coordinator", BAD, detail, "set --coordinator to its bind, not its HTTP side"
        )
        return
    slow = took_ms > CONNECT_WARNING_MS
    fix = "the network between is slow: tasks begin late" if slow else ""
    detail = f"{settings.coordinator} connects in {took_ms:.1f} ms"
    yield Finding("coordinator", WARNING if slow else OK, detail, fix)


def _greets(connection: socket.socket) -> bool:
    """Tell whether the other side begins as ZeroMQ does: with FF, eight bytes, and 7F."""
    connection.settimeout(CONNECT_SECONDS)
    greeting = b""
    try:
        connection.sendall(b"\xff\0\0\0\0\0\0\0\x01\x7f")
        while len(greeting) < 10 and (part := connection.recv(10 - len(greeting))):
            greeting += part
    except OSError:
        return False
    return greeting[:1] == b"\xff" and greeting[9:] == b"\x7f"


def _descriptors(_: Settings) -> Iterator[Finding]:
    yield descriptors(DESCRIPTORS_MIN, "connection")


def _clock(_: Settings) -> Iterator[Finding]:
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if time.time_ns() // 1_000_000 < PLAUSIBLE_MS:
        fix = "set the clock and keep it set (chrony, systemd-timesyncd): ids and delays follow it"
        yield Finding("clock", BAD, f"{now} cannot be right", fix)
    else:
        yield Finding("clock", OK, now)


def _running(settings: Settings) -> Iterator[Finding]:
    """Let the sidecar that runs, if one does, speak for itself."""
    try:
        status, body = check.get(str(settings.socket), "/v1/sidecar")
        facts = json.loads(body) if status == 200 else {}
    except (OSError, ValueError):
        facts = {}
    if not facts:
        yield Finding("sidecar", WARNING, "none answers at the socket", "pillion-sidecar run")
        return
    if facts["software"] != SOFTWARE:
        detail = f"it is {facts['software']}, this command is {SOFTWARE}"
        yield Finding("sidecar", WARNING, detail, "restart it, or use its own command")
    if facts["coordinator"] != settings.coordinator:
        detail = f"it uses {facts['coordinator']}, the settings here say {settings.coordinator}"
        yield Finding("sidecar", WARNING, detail, "restart it, or ask with its settings")
    level, findings = check.judge(facts)
    if not findings:
        detail = f"session {facts['session']}, round trip {int(facts['round_trip_us']) / 1000:g} ms"
        yield Finding("sidecar", OK, detail)
    for text in findings:
        yield Finding("sidecar", _LEVELS[level], text, "its log says more: pillion-sidecar status")
    if not facts["handlers"]:
        fix = "start the service; it finds the sidecar by PILLION_SIDECAR_SOCKET"
        yield Finding("service", WARNING, "no service has declared a handler", fix)
    yield from _processes(json.loads(facts.get("processes") or "[]"))


def _processes(processes: list[dict[str, int | str]]) -> Iterator[Finding]:
    for number, process in enumerate(processes, 1):
        serves = process["state"] == "serving"
        detail = f"process {number} is {process['state']}, {process['restarts']} restarts"
        if process["last_end"]:
            detail += f", last end: {process['last_end']}"
        fix = "" if serves else "its own output, in the sidecar's log, says why"
        yield Finding("process", OK if serves else WARNING, detail, fix)


def _size(count: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} TiB"
