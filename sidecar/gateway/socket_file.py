"""The socket's file: whose it is, who may use it, and that no second sidecar takes it over.

A Unix server can be started on the path of a living one: new clients then reach the impostor. So
a lock on a file beside it is taken first and held for life; a stale file is removed only after
nobody answered there; and the socket is bound under another name, given its mode, and renamed, so
that nobody can connect before it is right.
"""

import errno
import fcntl
import os
import socket
import stat
import struct
from pathlib import Path

from sidecar.errors import SocketRefused

PATH_BYTES_MAX = 100
"""The system takes 107 bytes; some are needed for the name under which the socket is bound."""
BACKLOG = 1024
DIRECTORY_MODE = 0o750
SOCKET_MODE = 0o660
_PEERCRED = struct.Struct("3i")
_SO_PEERGROUPS = 59
_GROUPS_MAX = 256
"""What fits the longest answer that Python takes; a user in more groups counts by its first."""


class SocketFile:
    """The listening socket at one path; a context manager that removes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def listen(self) -> socket.socket:
        """Take the path and return the listening socket.

        Raises:
            SocketRefused: The path cannot be served; the text names the fix.
        """
        size = len(os.fsencode(self.path))
        if size > PATH_BYTES_MAX:
            raise SocketRefused(
                f"socket path of {size} bytes: {self.path}. The system allows 108 with its end, "
                f"and {PATH_BYTES_MAX} is the limit here; give a shorter one with --socket"
            )
        try:
            self._make_directory()
            self._take_lock()
            self._remove_stale()
            return self._bind()
        except OSError as error:
            self.remove()
            raise SocketRefused(f"cannot serve {self.path}: {error.strerror or error}") from None
        except SocketRefused:
            self._unlock()
            raise

    def _make_directory(self) -> None:
        directory = self.path.parent
        if not directory.exists():
            directory.mkdir(mode=DIRECTORY_MODE, parents=True)
            directory.chmod(DIRECTORY_MODE)  # Whatever the umask made of it.

    def _take_lock(self) -> None:
        lock_path = self.path.with_name(self.path.name + ".lock")
        self._lock = os.open(
            lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise SocketRefused(
                f"another sidecar (pid {holder}) serves {self.path}; stop it, or give this one "
                "another path with --socket"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _remove_stale(self) -> None:
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise SocketRefused(f"{self.path} is there and is no socket; move it away")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.path))
            except OSError as error:
                if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                    raise
            else:
                raise SocketRefused(
                    f"something answers on {self.path} that is not a sidecar; stop it, or give "
                    "another path with --socket"
                )
        self.path.unlink(missing_ok=True)

    def _bind(self) -> socket.socket:
        partial = self.path.with_name(f".{os.getpid() % 10000}")
        partial.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            umask = os.umask(0o777 & ~SOCKET_MODE)
            try:
                listening.bind(str(partial))
            finally:
                os.umask(umask)
            partial.chmod(SOCKET_MODE)
            listening.listen(BACKLOG)
            listening.setblocking(False)
            partial.rename(self.path)
        except BaseException:
            listening.close()
            raise
        return listening

    def remove(self) -> None:
        """Remove the socket's file and give the lock back; may come early, may come twice."""
        if self._lock >= 0:
            self.path.unlink(missing_ok=True)
            self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def may_connect(peer: socket.socket, *, group: int) -> bool:
    """Tell whether the process at the other end is this user, root, or in the socket's group.

    The mode of folder and file says the same; this holds even where they were loosened.
    """
    _, uid, gid = _credentials(peer)
    if uid in (0, os.geteuid()) or gid == group:
        return True
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _GROUPS_MAX)
    except OSError:
        return False
    return group in struct.unpack(f"{len(raw) // 4}I", raw)


def peer_pid(peer: socket.socket) -> int:
    """Return the pid of the process that connected; 0 if it cannot be seen from here."""
    return _credentials(peer)[0]


def _credentials(peer: socket.socket) -> tuple[int, int, int]:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, gid = _PEERCRED.unpack(raw)
    return pid, uid, gid
