"""The path of the API's Unix socket: made for this user only, and never taken from who listens."""

import os
import socket
import stat
from pathlib import Path

from coordinator.errors import CoordinatorError


def listen(path: Path) -> socket.socket:
    """Return a socket that listens under a path; one that nobody listens on is replaced.

    Raises:
        CoordinatorError: It cannot be used; the text says why.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear(path)
        sock = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(mask)
        sock.listen(128)
    except OSError as error:
        raise CoordinatorError(
            f"http_socket {path} cannot be made: {error.strerror or error}; set it to another path"
        ) from None
    return sock


def _clear(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise CoordinatorError(f"http_socket {path} is there and is no socket; set another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise CoordinatorError(
        f"http_socket {path}: another process listens there; set it to another path"
    )
