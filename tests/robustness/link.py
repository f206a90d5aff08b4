"""A link between a sidecar and its coordinator that can be cut, or blocked in either direction."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

CHUNK_BYTES = 2**16
CONNECT_SECONDS = 5.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: what is closed is reset, and what was under way is lost."""


class Link:
    """A TCP proxy on a port of its own.

    Args:
        target: The coordinator's address, ``tcp://host:port``.
        delay: Returns for how many seconds the next data is held up.
    """

    def __init__(self, target: str, delay: Callable[[], float] = lambda: 0.0) -> None:
        self._delay = delay
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._up, self._down = threading.Event(), threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.connections = 0
        self.mend()
        self._start(self._accept)

    # --- Breaking ------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection; new ones may be made at once."""
        with self._lock:
            open_, self._open = self._open, set()
        for end in open_:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RD)  # Wakes the thread that reads it.
            end.close()

    def block(self, *, up: bool, down: bool) -> None:
        """Hold what goes up or down, as a network does that loses every packet of one direction."""
        if up:
            self._up.clear()
        if down:
            self._down.clear()

    def mend(self) -> None:
        """Let everything pass; what was held arrives late."""
        self._up.set()
        self._down.set()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.mend()
        self.cut()

    # --- Carrying ------------------------------------------------------------------------------

    @staticmethod
    def _start(run: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=run, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, timeout=CONNECT_SECONDS)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self.connections += 1
            with self._lock:
                self._open |= {near, far}
            self._start(self._carry, near, far, self._up)
            self._start(self._carry, far, near, self._down)

    def _carry(self, source: socket.socket, target: socket.socket, gate: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                gate.wait()
                time.sleep(self._delay())
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
