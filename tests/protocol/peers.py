"""Peers written from ``docs/protocol.md`` alone: MessagePack and sockets, nothing of the project.

If these can talk to the real programs, so can a sidecar or a service in another language.
"""

import socket
import struct
from pathlib import Path
from typing import Any

import msgpack
import zmq

ANSWER_SECONDS = 10.0


VALIDITY = 38


class ForeignSidecar:
    """The sidecar's end of hop S."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvtimeo = int(ANSWER_SECONDS * 1000)
        self._socket.connect(address)

    def __enter__(self) -> "ForeignSidecar":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def send(self, *message: Any) -> None:
        self.send_bytes(msgpack.packb(list(message)))

    def send_bytes(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def receive(self) -> list[Any]:
        [frame] = self._socket.recv_multipart()
        message: list[Any] = msgpack.unpackb(frame)
        return message

    def receive_only(self, number: int) -> list[Any]:
        """Return the fields of the next message, which must have this number."""
        message = self.receive()
        assert message[0] == number, message
        return message[1:]


class ForeignService:
    """The service's or app's end of hop L."""

    def __init__(self, path: Path, *, magic: bytes = b"PLN\x01") -> None:
        self.valid_until_ms = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.connect(str(path))
        self.send_bytes(magic)

    def __enter__(self) -> "ForeignService":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *message: Any) -> None:
        data = msgpack.packb(list(message))
        self.send_bytes(struct.pack(">I", len(data)) + data)

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> list[Any]:
        (size,) = struct.unpack(">I", self._exactly(4))
        message: list[Any] = msgpack.unpackb(self._exactly(size))
        return message

    def receive_only(self, number: int) -> list[Any]:
        """Return the fields of the next message, which must have this number."""
        message = self.receive()
        while message[0] == VALIDITY:  # It may come at any time.
            self.valid_until_ms = message[1]
            message = self.receive()
        assert message[0] == number, message
        return message[1:]

    def closed(self) -> bool:
        """Wait for the other side to close; return False if it sends something instead."""
        return self._socket.recv(1) == b""

    def rest(self) -> bytes:
        """Return everything that comes until the other side closes."""
        data = b""
        while part := self._socket.recv(4096):
            data += part
        return data

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            assert part, "the connection was closed"
            data += part
        return data
