"""Where the sidecar's socket is."""

import os
from pathlib import Path

SOCKET_VARIABLE = "PILLION_SIDECAR_SOCKET"
PATH_BYTES_MAX = 107
"""What the kernel takes for a Unix socket's path (108 with its end)."""


def socket_path(socket: str | os.PathLike[str] | None, service: str | None) -> str:
    """Return the path to connect to: the one given, the environment's, or the service's own.

    Raises:
        ValueError: No path is known, or it is too long for a Unix socket.
    """
    path = os.fspath(socket) if socket is not None else os.environ.get(SOCKET_VARIABLE, "")
    if not path:
        if service is None:
            raise ValueError(
                "which sidecar? Pass socket=PATH, or set the environment variable "
                f"{SOCKET_VARIABLE} to the path of its sidecar.sock"
            )
        runtime = os.environ.get("XDG_RUNTIME_DIR") or "/run"
        path = str(Path(runtime, "pillion", service, "sidecar.sock"))
    size = len(os.fsencode(path))
    if size > PATH_BYTES_MAX:
        raise ValueError(
            f"the socket path {path} has {size} bytes; Unix sockets take {PATH_BYTES_MAX}. "
            "Use a shorter directory"
        )
    return path
